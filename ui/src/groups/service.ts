/** The name by which the API changes a group's mode: a learned group's without `nv.`, and `nodes`. */
export function serviceName(group: string): string | undefined {
  if (group === "nodes") return group;
  return group.startsWith("nv.") && !group.startsWith("nv.ip.") ? group.slice("nv.".length) : undefined;
}
