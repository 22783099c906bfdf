/** Shapes of the REST API, as far as the console reads them. */

export type Mode = "Discover" | "Monitor" | "Protect";
export const MODES: readonly Mode[] = ["Discover", "Monitor", "Protect"];

export interface Permission {
  id: string;
  read: boolean;
  write: boolean;
}

export interface User {
  fullname: string;
  username: string;
  role: string;
  locale: string;
  /** Seconds without activity after which the session ends. */
  timeout: number;
  default_password: boolean;
}

export interface SelfUser {
  user: User;
  password_days_until_expire: number;
  global_permissions?: Permission[];
}

export interface Address {
  ip: string;
  ip_prefix: number;
  gateway: string;
}

/** A process of a workload; with an end it is one of its history. */
export interface Process {
  name: string;
  path: string;
  cmdline: string;
  user: string;
  status: string;
  action: string;
  pid: number;
  parent: number;
  root: boolean;
  uid: number;
  euid: number;
  start_timestamp: number;
  end_timestamp?: number;
  exit_code?: number;
}

export interface Workload {
  id: string;
  name: string;
  display_name: string;
  pod_name: string;
  host_name: string;
  host_id: string;
  image: string;
  image_id: string;
  domain: string;
  state: string;
  service: string;
  service_group: string;
  policy_mode: string;
  profile_mode: string;
  baseline_profile: string;
  platform_role: string;
  privileged: boolean;
  run_as_root: boolean;
  children?: Workload[] | null;
  enforcer_name?: string;
  network_mode?: string;
  created_at?: string;
  started_at?: string;
  finished_at?: string;
  secured_at?: string;
  running?: boolean;
  exit_code?: number;
  interfaces?: Record<string, Address[]> | null;
  ports?: { ip_proto: number; port: number; host_ip: string; host_port: number }[] | null;
  labels?: Record<string, string> | null;
  applications?: string[] | null;
  memory_limit?: number;
  cpus?: string;
  service_account?: string;
  groups?: string[] | null;
}

export interface Host {
  id: string;
  name: string;
  runtime: string;
  runtime_version: string;
  platform: string;
  os: string;
  kernel: string;
  state: string;
  policy_mode: string;
  profile_mode: string;
  cpus: number;
  memory: number;
  cgroup_version: number;
  containers: number;
  pods: number;
  interfaces?: Record<string, Address[]> | null;
  labels?: Record<string, string> | null;
}

export interface Component {
  id: string;
  name: string;
  display_name: string;
  host_name: string;
  version: string;
  cluster_ip: string;
  connection_state: string;
  joined_at: string;
  started_at: string;
  disconnected_at: string;
  leader?: boolean;
  /** What this node's kernel allows, where the API tells. */
  process_tier?: string;
  network_tier?: string;
  capabilities?: Capabilities;
}

export interface Capabilities {
  kernel: string;
  /** 1 is the best, 0 when processes cannot be stopped at all. */
  tier: number;
  trials?: { mechanism: string; works: boolean; reason: string; trial_micros: number }[] | null;
  /** What is lost against tier 1, a sentence each. */
  lost?: string[] | null;
}

export interface PolicyRule {
  id: number;
  from: string;
  to: string;
  ports: string;
  applications?: string[] | null;
  action: string;
  cfg_type: string;
  learned: boolean;
  disable: boolean;
  comment: string;
  last_modified_timestamp: number;
  match_counter?: number;
  last_match_timestamp?: number;
}

export interface Group {
  name: string;
  comment: string;
  policy_mode?: string;
  profile_mode?: string;
  baseline_profile?: string;
  domain: string;
  kind: string;
  cfg_type: string;
  learned: boolean;
  reserved: boolean;
  cap_change_mode?: boolean;
  members?: Workload[] | null;
  criteria?: { key: string; op: string; value: string }[] | null;
  policy_rules?: (PolicyRule | number)[] | null;
}

export type FileBehavior = "monitor_change" | "block_access";

/** What a file rule says, as the API takes it. */
export interface FileRule {
  /** Path with `*` inside of components. */
  filter: string;
  recursive: boolean;
  behavior: FileBehavior;
  /** Programs that may open what is blocked for others. */
  applications: string[];
}

export interface FileFilter extends FileRule {
  /** `system_defined` for the built-in watch list. */
  cfg_type: string;
  last_modified_timestamp: number;
}

export interface ProcessEntry {
  name: string;
  path?: string;
  user?: string;
  action: string;
  cfg_type: string;
  uuid: string;
  allow_update: boolean;
  last_modified_timestamp: number;
}

export interface ProcessProfile {
  group: string;
  baseline: string;
  mode: string;
  process_list?: ProcessEntry[] | null;
}

export interface Endpoint extends Partial<Workload> {
  id: string;
  kind: string;
}

export interface ConversationEntry {
  bytes: number;
  sessions: number;
  port?: string;
  application?: string;
  policy_action?: string;
  client_ip?: string;
  server_ip?: string;
  fqdn?: string;
  last_seen_at: number;
}

export interface Conversation {
  from: string;
  to: string;
  severity: string;
  policy_action: string;
  bytes: number;
  sessions: number;
  ports?: string[] | null;
  applications?: string[] | null;
  protocols?: string[] | null;
  event_type?: string[] | null;
  entries?: ConversationEntry[] | null;
}

export interface Conversations {
  endpoints: Endpoint[] | null;
  conversations: Conversation[] | null;
}
