// A stand-in for the controller's REST API, for work on the console alone. Test code: invented answers, no security.
// node dev/controller.mjs [port]; then point a manager at http://127.0.0.1:<port>.
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";

const port = Number(process.argv[2] ?? 18443);
const now = () => Math.floor(Date.now() / 1000);
const hex = (seed) => Array.from({ length: 64 }, (_, i) => ((seed * 2654435761 + i * 40503) >>> 5 & 15).toString(16)).join("");

const services = [
  ["web", "shop", "Discover"], ["cart", "shop", "Monitor"], ["orders", "shop", "Protect"], ["redis", "shop", "Protect"],
  ["postgres", "data", "Protect"], ["kafka", "data", "Discover"], ["prometheus", "monitoring", "Monitor"], ["coredns", "kube-system", "Discover"],
].map(([service, domain, mode]) => ({ service, domain, group: `nv.${service}.${domain}`, policy_mode: mode, profile_mode: mode }));
const node = { id: "node-1", name: "worker-1" };
const workloads = services.flatMap((entry, s) =>
  Array.from({ length: s < 3 ? 3 : 1 }, (_, n) => {
    const id = hex(s * 10 + n + 1);
    return {
      id, name: entry.service, display_name: `${entry.service}-7d9f8-${n}x`, pod_name: `${entry.service}-7d9f8-${n}x`, host_name: node.name, host_id: node.id,
      image: `registry.example/${entry.domain}/${entry.service}:1.${s}`, image_id: `sha256:${hex(s)}`, domain: entry.domain, service: entry.service, service_group: entry.group,
      enforcer_name: "enforcer-worker-1", privileged: s === 6, run_as_root: s % 2 === 0, platform_role: entry.domain === "kube-system" ? "core" : "",
      created_at: new Date(Date.now() - 86e6).toISOString(), started_at: new Date(Date.now() - 8e6).toISOString(), secured_at: new Date(Date.now() - 8e6).toISOString(), finished_at: "",
      running: true, exit_code: 0, interfaces: { eth0: [{ ip: `10.42.0.${10 + s * 4 + n}`, ip_prefix: 24, gateway: "10.42.0.1" }] },
      ports: [{ ip_proto: 6, port: 8000 + s, host_ip: "", host_port: 0 }], labels: { app: entry.service, "pod-template-hash": "7d9f8" }, applications: ["HTTP"], memory_limit: 536870912, cpus: "", service_account: "default",
      baseline_profile: "basic", children: [],
    };
  }),
);
const live = (workload) => {
  const entry = services.find((s) => s.group === workload.service_group);
  return { ...workload, policy_mode: entry.policy_mode, profile_mode: entry.profile_mode, state: entry.policy_mode.toLowerCase() };
};
const rules = services.slice(0, 5).map((to, i) => ({
  id: 10001 + i, from: i === 0 ? "external" : services[i - 1].group, to: to.group, ports: `tcp/${8000 + i}`, applications: ["HTTP"], action: i === 4 ? "deny" : "allow",
  cfg_type: "learned", learned: true, disable: false, comment: "", last_modified_timestamp: now() - 900, match_counter: i * 41, priority: 0,
}));
const nodes = { policy_mode: "Discover", profile_mode: "Discover" };
const groups = () => [
  ...["containers", "external", "nodes"].map((name) => ({ name, comment: "", domain: "", kind: name === "nodes" ? "node" : name === "external" ? "external" : "container", cfg_type: "user_created", learned: false, reserved: true, members: [], policy_rules: [], criteria: [], ...(name === "nodes" ? nodes : {}) })),
  ...services.map((s) => ({
    name: s.group, comment: "", domain: s.domain, kind: "container", cfg_type: "learned", learned: true, reserved: false, policy_mode: s.policy_mode, profile_mode: s.profile_mode, baseline_profile: "basic", cap_change_mode: true,
    members: workloads.filter((w) => w.service_group === s.group).map(live), criteria: [{ key: "service", op: "=", value: `${s.service}.${s.domain}` }], policy_rules: rules.filter((r) => r.from === s.group || r.to === s.group),
  })),
];
const talks = [
  ["external", 0, "allow"], [0, 3, "allow"], [0, 6, "allow"], [3, 9, "allow"], [3, 10, "violate"], [6, 10, "allow"], [6, 11, "allow"], [9, "external", "deny"], [0, 10, "deny"], [12, 0, "allow"], [12, 3, "allow"], [12, 6, "allow"], [6, 13, "allow"], [0, 13, "allow"], ["Workload:10.42.9.9", 0, "allow"], ["Host:node-1", 12, "allow"],
];
const conversations = () => ({
  endpoints: [
    { id: "external", kind: "external", display_name: "external" }, { id: "Workload:10.42.9.9", kind: "workload_ip", display_name: "10.42.9.9" }, { id: "Host:node-1", kind: "node_ip", display_name: "worker-1", state: "discover", policy_mode: "Discover" },
    ...workloads.map((w) => ({ ...live(w), kind: "container" })),
  ],
  conversations: talks.map(([a, b, action], i) => ({
    from: typeof a === "number" ? workloads[a].id : a, to: typeof b === "number" ? workloads[b].id : b, severity: "", policy_action: action, bytes: 10 ** (2 + (i % 6)), sessions: 3 * i + 1,
    ports: [`tcp/${8000 + i}`], applications: ["HTTP"], event_type: i === 5 ? ["threat"] : [], entries: [{ bytes: 10 ** (2 + (i % 6)), sessions: 3 * i + 1, port: `tcp/${8000 + i}`, application: "HTTP", policy_action: action, client_ip: "10.42.0.10", server_ip: "10.42.0.22", last_seen_at: now() - i * 30 }],
  })),
});
const common = (level, at) => ({ level, reported_at: new Date(at * 1000).toISOString(), reported_timestamp: at, cluster_name: "cluster.local", host_id: node.id, host_name: node.name, enforcer_id: "e1", enforcer_name: "enforcer-worker-1" });
const logs = { threat: [], violation: [], incident: [] };
function make(i, at) {
  const w = workloads[i % workloads.length], o = workloads[(i * 5 + 1) % workloads.length];
  if (i % 3 === 0) {
    return ["violation", { ...common(i % 2 ? "Critical" : "Warning", at), id: randomUUID(), client_id: w.id, client_name: w.display_name, client_domain: w.domain, client_service: w.service_group, server_id: o.id, server_name: o.display_name, server_domain: o.domain, server_service: o.service_group, policy_action: i % 2 ? "deny" : "violate", client_ip: "10.42.0.9", server_ip: "10.42.0.7", fqdn: "", server_port: 5432, ip_proto: 6, applications: [], servers: [], sessions: 1, policy_id: 0, xff: false, nbe: false }];
  }
  if (i % 7 === 0) return ["threat", { ...common("Error", at), id: randomUUID(), name: "SQL.Injection", client_workload_name: w.display_name, client_workload_id: w.id, server_workload_name: o.display_name, server_workload_id: o.id, severity: "High", action: "alert", server_port: 80, ip_proto: 6, message: "SQL injection in a query", count: 1 }];
  return ["incident", { ...common(i % 2 ? "Critical" : "Warning", at), id: randomUUID(), name: "Process.Profile.Violation", workload_id: w.id, workload_name: w.display_name, workload_domain: w.domain, workload_image: w.image, workload_service: w.service_group, proc_name: "xmrig", proc_path: "/tmp/xmrig", proc_cmd: "/tmp/xmrig --pool x", proc_effective_user: "root", proc_effective_uid: 0, proc_parent_name: "sh", proc_parent_path: "/bin/sh", action: i % 2 ? "deny" : "violate", group: w.service_group, rule_id: "", message: "A process that was not learned" }];
}
for (let i = 80; i > 0; i -= 1) {
  const [topic, record] = make(i, now() - i * 137);
  logs[topic].unshift(record);
}
const clients = new Set();
let sequence = 100;
setInterval(() => {
  const [topic, record] = make((sequence += 1), now());
  logs[topic].unshift(record);
  for (const client of clients) client.write(`id: ${sequence}\nevent: ${topic}\ndata: ${JSON.stringify({ topic, ...record })}\n\n`);
}, Number(process.env.EVERY_MS ?? 5000));

let password = process.env.PASSWORD ?? "one-time";
let changed = false, accepted = false;
const tokens = new Set();
const user = { fullname: "admin", username: "admin", role: "admin", locale: "en", timeout: 300, email: "", server: "", default_password: false };
const component = (name, more) => ({ id: hex(name.length), name, display_name: name, host_name: node.name, host_id: node.id, version: "0.1.0", cluster_ip: "10.0.0.5", connection_state: "connected", joined_at: new Date(Date.now() - 36e5).toISOString(), started_at: "", disconnected_at: "", ...more });

createServer(async (request, response) => {
  const url = new URL(request.url, "http://x");
  const query = url.searchParams;
  let text = "";
  for await (const chunk of request) text += chunk;
  const body = text ? JSON.parse(text) : {};
  const send = (status, value) => {
    response.writeHead(status, { "content-type": "application/json", "cache-control": "no-cache" });
    response.end(value === undefined ? "" : JSON.stringify(value));
  };
  const list = (key, all) => {
    let rows = all;
    const filters = [...query].filter(([name]) => name.startsWith("f_") && name !== "f_since").map(([name, value]) => [name.slice(2), value]);
    for (const [name, value] of query) {
      if (name.startsWith("s_")) rows = [...rows].sort((a, b) => String(a[name.slice(2)]).localeCompare(String(b[name.slice(2)])) * (value === "desc" ? -1 : 1));
    }
    rows = rows.slice(Number(query.get("start") ?? 0)).filter((row) => filters.every(([name, value]) => String(row[name]) === value));
    const limit = Number(query.get("limit") ?? 0);
    send(200, { [key]: limit ? rows.slice(0, limit) : rows });
  };
  const path = url.pathname;
  if (path === "/v1/eula" && request.method === "GET") return send(200, { eula: { accepted }, bootstrap_password_command: "" });
  if (path === "/v1/auth" && request.method === "POST") {
    if (body.password?.username !== "admin" || body.password?.password !== password) return send(401, { code: 3, error: "Authentication failed", message: "Authentication failed" });
    const next = body.password.new_password;
    if (!changed && !next) return send(200, { token: null, need_to_reset_password: true, password_days_until_expire: -1 });
    if (next && !/(?=.*[a-z])(?=.*[A-Z])(?=.*\d).{8,}/.test(next)) return send(400, { code: 14, error: "Password is weak", message: "Password is weak", password_profile_basic: { min_len: 8, min_uppercase_count: 1, min_lowercase_count: 1, min_digit_count: 1, min_special_count: 0 } });
    if (next) { password = next; changed = true; }
    const token = randomUUID();
    tokens.add(token);
    return send(200, { token: { token, global_permissions: [], domain_permissions: {}, ...user }, password_days_until_expire: -1, need_to_reset_password: false });
  }
  if (!tokens.has(request.headers["x-auth-token"])) return send(401, { code: 3, error: "Authentication failed", message: "Authentication failed" });
  if (path === "/v1/eula") { accepted = true; return send(200); }
  if (path === "/v1/auth") { if (request.method === "DELETE") tokens.delete(request.headers["x-auth-token"]); return send(200); }
  if (path === "/v1/selfuser") return send(200, { user, password_days_until_expire: -1, password_hours_until_expire: 0, global_permissions: [{ id: "rt_policy", read: true, write: true }] });
  if (path === "/v1/stream") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    response.write(": hello\n\n");
    const beat = setInterval(() => response.write(": beat\n\n"), 15_000);
    clients.add(response);
    request.socket.on("close", () => { clients.delete(response); clearInterval(beat); });
    return;
  }
  const log = path.match(/^\/v1\/log\/(threat|violation|incident)$/)?.[1];
  if (log) return list(`${log}s`, logs[log]);
  if (path === "/v1/workload") return list("workloads", workloads.map(live));
  if (path.startsWith("/v1/workload/")) { const w = workloads.find((w) => w.id === path.slice(13)); return w ? send(200, { workload: live(w) }) : send(404, { code: 7, error: "Object not found", message: "no such workload" }); }
  const host = { ...node, runtime: "containerd", runtime_version: "1.7.24", platform: "Kubernetes", os: "Debian GNU/Linux 13", kernel: "6.12.9", state: "discover", policy_mode: "Discover", profile_mode: "Discover", cpus: 8, memory: 16 * 2 ** 30, cgroup_version: 2, containers: workloads.length, pods: workloads.length, interfaces: { eth0: [{ ip: "10.0.0.5", ip_prefix: 24, gateway: "" }] }, labels: {} };
  if (path === "/v1/host") return list("hosts", [host]);
  if (path.startsWith("/v1/host/")) return send(200, { host });
  if (path === "/v1/controller") return list("controllers", [component("controller-0", { leader: true }), component("controller-10", { leader: false, connection_state: "disconnected" })]);
  if (path === "/v1/enforcer") return list("enforcers", [component("enforcer-worker-1", { process_tier: "bpf-lsm", network_tier: "tcx", capabilities: { kernel: "6.12.9", tier: 1, lost: ["nothing is lost"], trials: [{ mechanism: "bpf-lsm", works: true, reason: "", trial_micros: 812 }, { mechanism: "fmod-ret", works: false, reason: "the kernel has no fmod_ret", trial_micros: 120 }] } })]);
  if (path === "/v1/group") return list("groups", groups());
  if (path.startsWith("/v1/group/")) { const g = groups().find((g) => g.name === decodeURIComponent(path.slice(10))); return g ? send(200, { group: g }) : send(404, { code: 7, error: "Object not found", message: "no such group" }); }
  if (path.startsWith("/v1/process_profile/")) return send(200, { process_profile: { group: path.slice(20), baseline: "basic", mode: "Discover", process_list: ["nginx", "sh", "curl"].map((name) => ({ name, path: `/usr/bin/${name}`, action: name === "curl" ? "deny" : "allow", cfg_type: "learned", uuid: randomUUID(), allow_update: false, last_modified_timestamp: now() - 600 })) } });
  if (path === "/v1/service/config") {
    if (body.config.services.includes("nodes")) Object.assign(nodes, body.config.policy_mode && { policy_mode: body.config.policy_mode }, body.config.profile_mode && { profile_mode: body.config.profile_mode });
    for (const s of services) if (body.config.services.includes(s.group.slice(3))) Object.assign(s, body.config.policy_mode && { policy_mode: body.config.policy_mode }, body.config.profile_mode && { profile_mode: body.config.profile_mode });
    return send(200);
  }
  if (path === "/v1/policy/rule") return list("rules", rules);
  if (path === "/v1/conversation") return send(200, conversations());
  return send(404, { code: 1, error: "URL not found", message: path });
}).listen(port, "127.0.0.1", () => console.log(`controller stand-in on http://127.0.0.1:${port}`));
