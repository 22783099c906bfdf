/** Containers as they are listed: pods with their containers below them. */
import type { Workload } from "../api/types";

export interface Row {
  workload: Workload;
  /** 0 for a pod or a container outside of pods, 1 for a container of the pod above. */
  depth: 0 | 1;
}

/** Each pod followed by its containers. A container that carries its own copy among its children is listed once. */
export function flatten(workloads: Workload[]): Row[] {
  return workloads.flatMap((workload) => [
    { workload, depth: 0 as const },
    ...(workload.children ?? [])
      .filter((child) => child.id !== workload.id)
      .map((child) => ({ workload: child, depth: 1 as const })),
  ]);
}

/** Whether any text that a user sees of the workload contains `words`. */
export function mentions(workload: Workload, words: string): boolean {
  const wanted = words.toLowerCase();
  return [workload.display_name, workload.name, workload.id, workload.image, workload.domain, workload.host_name, workload.service, workload.service_group, ...addresses(workload)]
    .some((value) => value?.toLowerCase().includes(wanted));
}

export function addresses(workload: Pick<Workload, "interfaces">): string[] {
  return Object.values(workload.interfaces ?? {}).flatMap((list) => list.map((address) => address.ip));
}

const EXITED = "exit";

/** The rows that the filters leave; a pod stays when one of its containers does. */
export function select(workloads: Workload[], filter: { q?: string; namespace?: string; state?: string; exited?: boolean }): Workload[] {
  const keeps = (workload: Workload): boolean =>
    (!filter.q || mentions(workload, filter.q)) &&
    (!filter.namespace || workload.domain === filter.namespace) &&
    (!filter.state || workload.state === filter.state) &&
    (filter.exited || filter.state === EXITED || workload.state !== EXITED);
  return workloads.filter((workload) => keeps(workload) || (workload.children ?? []).some(keeps));
}
