/**
 * Conversations folded to what fits on a screen: endpoints by namespace, by group, or as they are.
 * The outside stands twice, as who comes in and as where connections go out to, so that both are read left to right.
 */
import type { Conversation, Conversations, Endpoint } from "../api/types";

export const LEVELS = ["namespace", "group", "endpoint"] as const;
export type Level = (typeof LEVELS)[number];
export type Verdict = "allow" | "violate" | "deny" | "threat";
const RANK: Record<Verdict, number> = { allow: 0, violate: 1, deny: 2, threat: 3 };
/** Nodes and edges that are drawn at most. */
export const MAX_MARKS = 500;

export type Kind = "external" | "hosts" | "workloads" | "unmanaged" | "address";

export interface MapNode {
  id: string;
  label: string;
  kind: Kind;
  domain: string;
  /** Network mode, when all members have the same. */
  mode: string;
  /** The group's name, where the node stands for one. */
  group: string;
  members: number;
}

export interface MapEdge {
  id: string;
  from: string;
  to: string;
  verdict: Verdict;
  bytes: number;
  sessions: number;
  ports: string[];
  conversations: Conversation[];
}

export interface MapData {
  level: Level;
  nodes: MapNode[];
  edges: MapEdge[];
  /** Edges that were left out to stay within the marks. */
  omitted: number;
}

export interface MapFilter {
  namespace?: string;
  verdict?: Verdict;
  q?: string;
  hideUnmanaged?: boolean;
}

export function verdictOf(conversation: Pick<Conversation, "policy_action" | "event_type" | "severity">): Verdict {
  if ((conversation.event_type ?? []).length > 0) return "threat";
  if (conversation.policy_action === "deny") return "deny";
  return conversation.policy_action === "violate" ? "violate" : "allow";
}

export const worse = (a: Verdict, b: Verdict): Verdict => (RANK[a] >= RANK[b] ? a : b);

const isUnmanaged = (endpoint: Endpoint) =>
  endpoint.kind === "workload_ip" || (endpoint.kind === "node_ip" && (endpoint.state === "unmanaged" || /^Host:[\d.:a-f]+$/i.test(endpoint.id)));

/** "web" of the group `nv.web.shop` in the namespace `shop`. */
function serviceLabel(group: string, domain: string): string {
  const name = group.replace(/^nv\./, "");
  return domain && name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : name;
}

function nodeOf(endpoint: Endpoint, level: Level, side: "in" | "out"): MapNode {
  const domain = endpoint.domain ?? "";
  const mode = endpoint.policy_mode ?? "";
  const one = { domain, mode, group: "", members: 1 };
  if (endpoint.kind === "external") {
    return { ...one, id: `external:${side}`, label: "", kind: "external", domain: "" };
  }
  if (isUnmanaged(endpoint)) {
    if (level === "namespace") return { ...one, id: "unmanaged", label: "", kind: "unmanaged", mode: "" };
    return { ...one, id: endpoint.id, label: endpoint.display_name || endpoint.id.replace(/^(Workload|Host):/, ""), kind: "unmanaged", mode: "" };
  }
  if (endpoint.kind === "node_ip") {
    if (level === "endpoint") return { ...one, id: endpoint.id, label: endpoint.display_name || endpoint.name || endpoint.id, kind: "hosts", group: "nodes" };
    return { ...one, id: "nodes", label: "", kind: "hosts", group: "nodes" };
  }
  if (endpoint.kind === "address" || endpoint.kind === "ip_service") {
    return { ...one, id: endpoint.id, label: endpoint.display_name || endpoint.id, kind: "address", group: endpoint.id };
  }
  const group = endpoint.service_group ?? "";
  if (level === "namespace") return { ...one, id: `namespace:${domain}`, label: domain, kind: "workloads" };
  if (level === "group" && group) return { ...one, id: group, label: serviceLabel(group, domain), kind: "workloads", group };
  return { ...one, id: endpoint.id, label: endpoint.display_name || endpoint.name || endpoint.id.slice(0, 12), kind: "workloads", group };
}

/** The ports of a conversation: its own list has only those without a known application. */
export function portsOf(conversation: Conversation): string[] {
  const known = (conversation.entries ?? []).map((entry) => entry.port ?? "").filter((port) => port !== "");
  return known.length > 0 ? known : (conversation.ports ?? []);
}

/** Folds at one level, whatever comes out. */
export function fold(data: Conversations, level: Level, filter: MapFilter): { nodes: MapNode[]; edges: MapEdge[] } {
  const endpoints = new Map((data.endpoints ?? []).map((endpoint) => [endpoint.id, endpoint]));
  const nodes = new Map<string, MapNode & { ids: Set<string> }>();
  const edges = new Map<string, MapEdge & { portSet: Set<string> }>();
  const place = (id: string, side: "in" | "out") => {
    const endpoint = endpoints.get(id) ?? ({ id, kind: id === "external" ? "external" : "workload_ip" } as Endpoint);
    return { endpoint, node: nodeOf(endpoint, level, side) };
  };
  // A pod's sandbox and its containers are ends of their own, but one member.
  const member = (endpoint: Endpoint) => (endpoint.pod_name ? `${endpoint.domain}/${endpoint.pod_name}` : endpoint.id);
  const talked = new Set<string>();
  const keep = ({ endpoint, node }: { endpoint: Endpoint; node: MapNode }) => {
    const known = nodes.get(node.id);
    if (!known) nodes.set(node.id, { ...node, ids: new Set([member(endpoint)]) });
    else {
      known.ids.add(member(endpoint));
      if (known.mode !== node.mode) known.mode = "";
    }
  };
  const wanted = filter.q?.toLowerCase();
  const finds = (...sides: { endpoint: Endpoint; node: MapNode }[]) =>
    (!filter.namespace || sides.some(({ endpoint }) => endpoint.domain === filter.namespace)) &&
    (!wanted ||
      sides.some(({ endpoint, node }) =>
        [node.id, node.label, endpoint.display_name, endpoint.name, endpoint.service_group, endpoint.id].some((value) => value?.toLowerCase().includes(wanted)),
      ));
  for (const conversation of data.conversations ?? []) {
    const from = place(conversation.from, "in");
    const to = place(conversation.to, "out");
    const verdict = verdictOf(conversation);
    if (filter.hideUnmanaged && (isUnmanaged(from.endpoint) || isUnmanaged(to.endpoint))) continue;
    if (filter.verdict && verdict !== filter.verdict) continue;
    if (!finds(from, to)) continue;
    keep(from);
    keep(to);
    talked.add(member(from.endpoint)).add(member(to.endpoint));
    const id = `${from.node.id}~${to.node.id}`;
    const edge = edges.get(id);
    if (edge) {
      edge.verdict = worse(edge.verdict, verdict);
      edge.bytes += conversation.bytes;
      edge.sessions += conversation.sessions;
      edge.conversations.push(conversation);
      for (const port of portsOf(conversation)) edge.portSet.add(port);
    } else {
      edges.set(id, {
        id, from: from.node.id, to: to.node.id, verdict, bytes: conversation.bytes, sessions: conversation.sessions,
        ports: [], conversations: [conversation], portSet: new Set(portsOf(conversation)),
      });
    }
  }
  // Who has talked to nobody yet is there too, unless a verdict is asked for.
  for (const endpoint of filter.verdict ? [] : endpoints.values()) {
    if (endpoint.kind !== "container" || talked.has(member(endpoint))) continue;
    const side = place(endpoint.id, "in");
    if (finds(side)) keep(side);
  }
  return {
    nodes: [...nodes.values()].map(({ ids, ...node }) => ({ ...node, members: ids.size })).sort((a, b) => a.id.localeCompare(b.id)),
    edges: [...edges.values()]
      .map(({ portSet, ...edge }) => ({ ...edge, ports: [...portSet].sort() }))
      .sort((a, b) => a.id.localeCompare(b.id)),
  };
}

/** Folds at the wanted level, or at the next coarser one that fits; of what still does not fit, the quietest edges go. */
export function aggregate(data: Conversations, wanted: Level, filter: MapFilter, maxMarks = MAX_MARKS): MapData {
  for (let step = LEVELS.indexOf(wanted); step >= 0; step -= 1) {
    const level = LEVELS[step] as Level;
    const { nodes, edges } = fold(data, level, filter);
    if (nodes.length + edges.length <= maxMarks) return { level, nodes, edges, omitted: 0 };
    if (step > 0) continue;
    const kept: MapEdge[] = [];
    const used = new Set<string>();
    // What was stopped or reported matters more than what is busy.
    for (const edge of [...edges].sort((a, b) => RANK[b.verdict] - RANK[a.verdict] || b.sessions - a.sessions)) {
      const added = [edge.from, edge.to].filter((id) => !used.has(id)).length;
      if (kept.length + used.size + 1 + added > maxMarks) break;
      kept.push(edge);
      used.add(edge.from).add(edge.to);
    }
    return { level, nodes: nodes.filter((node) => used.has(node.id)), edges: kept, omitted: edges.length - kept.length };
  }
  return { level: wanted, nodes: [], edges: [], omitted: 0 };
}
