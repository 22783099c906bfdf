/** Threats, violations and incidents as one kind of row. */
import { type EventType, type LEVELS, SECONDS, type Since } from "./filters";

export type Outcome = "stopped" | "reported" | "allowed";
export type Raw = Record<string, unknown>;

export interface Side {
  id: string;
  name: string;
  domain: string;
  service: string;
  image: string;
  ip: string;
}

export interface SecurityEvent {
  id: string;
  type: EventType;
  /** Seconds since the epoch. */
  at: number;
  level: string;
  name: string;
  outcome: Outcome;
  message: string;
  /** Where it happened, or who opened the connection. */
  source: Side;
  /** The other end of a connection. */
  target?: Side;
  /** "tcp/80". */
  port: string;
  process: { name: string; path: string; command: string; parent: string; user: string };
  file: string;
  rule: string;
  group: string;
  /** What stopped it, where something did. */
  mechanism: string;
  /** Suspicious behaviour, in words, and the technique's id in MITRE ATT&CK. */
  behaviour: string;
  attack: string;
  /** How long the decision took, in microseconds; 0 when it was not measured. */
  decisionMicros: number;
  node: string;
  raw: Raw;
}

const text = (raw: Raw, key: string): string => {
  const value = raw[key];
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
};

const PROTOCOLS: Record<number, string> = { 1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6" };

function side(raw: Raw, prefix: string, ip: string): Side {
  return {
    id: text(raw, `${prefix}id`),
    name: text(raw, `${prefix}name`),
    domain: text(raw, `${prefix}domain`),
    service: text(raw, `${prefix}service`),
    image: text(raw, `${prefix}image`),
    ip: text(raw, ip),
  };
}

function port(raw: Raw): string {
  const protocol = PROTOCOLS[Number(raw.ip_proto)] ?? (raw.ip_proto ? String(raw.ip_proto) : "");
  const number = Number(raw.server_port) || 0;
  return number ? `${protocol}/${number}` : protocol;
}

function outcome(action: string): Outcome {
  if (action === "deny" || action === "reset") return "stopped";
  return action === "allow" ? "allowed" : "reported";
}

/** One record of a log as a row. */
export function toEvent(type: EventType, raw: Raw): SecurityEvent {
  const common = {
    id: text(raw, "id"),
    type,
    at: Number(raw.reported_timestamp) || 0,
    level: text(raw, "level") || "Info",
    message: text(raw, "message"),
    node: text(raw, "host_name") || text(raw, "host_id"),
    group: text(raw, "group"),
    port: port(raw),
    file: text(raw, "file_path"),
    mechanism: text(raw, "mechanism").replaceAll("_", " "),
    behaviour: text(raw, "behaviour").replaceAll("_", " "),
    attack: text(raw, "mitre_attack"),
    decisionMicros: (Number(raw.decision_nanos) || 0) / 1000,
    process: {
      name: text(raw, "proc_name"),
      path: text(raw, "proc_path"),
      command: text(raw, "proc_cmd"),
      parent: text(raw, "proc_parent_path") || text(raw, "proc_parent_name"),
      user: text(raw, "proc_effective_user") || text(raw, "proc_effective_uid"),
    },
    raw,
  };
  if (type === "violation") {
    return {
      ...common,
      name: "Network.Violation",
      outcome: outcome(text(raw, "policy_action")),
      source: side(raw, "client_", "client_ip"),
      target: side(raw, "server_", "server_ip"),
      rule: text(raw, "policy_id"),
    };
  }
  if (type === "threat") {
    return {
      ...common,
      name: text(raw, "name"),
      outcome: outcome(text(raw, "action")),
      source: side(raw, "client_workload_", "client_ip"),
      target: side(raw, "server_workload_", "server_ip"),
      rule: text(raw, "sensor"),
    };
  }
  const remote = side(raw, "remote_workload_", "server_ip");
  return {
    ...common,
    name: text(raw, "name"),
    outcome: outcome(text(raw, "action")),
    source: side(raw, "workload_", "client_ip"),
    target: remote.id || remote.name ? remote : undefined,
    rule: text(raw, "rule_id"),
  };
}

/** Newest first; of records with the same id the first given stays. */
export function merge(...lists: SecurityEvent[][]): SecurityEvent[] {
  const seen = new Set<string>();
  return lists
    .flat()
    .filter((event) => {
      const key = event.id || `${event.type} ${event.at} ${event.name} ${event.source.id} ${event.port} ${event.process.path}`;
      return !seen.has(key) && seen.add(key);
    })
    .sort((a, b) => b.at - a.at);
}

export interface Filter {
  type?: EventType;
  level?: (typeof LEVELS)[number];
  since?: Since;
  q?: string;
}

/** Whether the filters leave the event, `now` in seconds since the epoch. */
export function matches(event: SecurityEvent, filter: Filter, now: number): boolean {
  if (filter.type && event.type !== filter.type) return false;
  if (filter.level && event.level !== filter.level) return false;
  if (filter.since && event.at < now - SECONDS[filter.since]) return false;
  if (!filter.q) return true;
  const wanted = filter.q.toLowerCase();
  const { source, target, process } = event;
  return [
    event.name, event.message, event.id, event.node, event.group, event.port, event.file,
    process.name, process.path, process.command,
    source.name, source.domain, source.service, source.image, source.ip,
    target?.name, target?.domain, target?.service, target?.ip,
  ].some((value) => value?.toLowerCase().includes(wanted));
}

/** A container without a name of its own is called by the beginning of its id. */
export function sideName(side: Side): string {
  const name = side.name || side.ip || side.id || "–";
  return /^[0-9a-f]{32,}$/.test(name) ? name.slice(0, 12) : name;
}
