import { expect, test } from "vitest";
import type { Conversation, Conversations, Endpoint } from "../api/types";
import { aggregate, fold, verdictOf } from "./aggregate";
import { layers, layout } from "./layout";

const endpoint = (id: string, domain: string, service: string, more: Partial<Endpoint> = {}): Endpoint =>
  ({ id, kind: "container", domain, service, service_group: `nv.${service}.${domain}`, display_name: id, policy_mode: "Discover", ...more });
const talk = (from: string, to: string, more: Partial<Conversation> = {}): Conversation =>
  ({ from, to, severity: "", policy_action: "allow", bytes: 10, sessions: 1, ports: ["tcp/80"], ...more });

const shop: Conversations = {
  endpoints: [
    { id: "external", kind: "external" },
    endpoint("web-1", "shop", "web"), endpoint("web-2", "shop", "web", { policy_mode: "Protect" }), endpoint("db-1", "shop", "db"),
    { id: "Workload:10.0.0.9", kind: "workload_ip" },
  ],
  conversations: [
    talk("external", "web-1"), talk("web-1", "db-1"), talk("web-2", "db-1", { policy_action: "deny", ports: ["tcp/22"] }),
    talk("web-1", "external"), talk("Workload:10.0.0.9", "web-1"),
  ],
};

test("containers of one group are one node, and its worst verdict is the edge's", () => {
  const { nodes, edges } = fold(shop, "group", {});
  expect(nodes.find((node) => node.id === "nv.web.shop")).toMatchObject({ members: 2, mode: "" });
  const edge = edges.find((item) => item.id === "nv.web.shop~nv.db.shop");
  expect(edge).toMatchObject({ verdict: "deny", bytes: 20, sessions: 2, ports: ["tcp/22", "tcp/80"] });
  expect(edge?.conversations).toHaveLength(2);
});

test("the outside stands apart as who comes in and as where connections go", () => {
  expect(fold(shop, "group", {}).nodes.map((node) => node.id)).toEqual(expect.arrayContaining(["external:in", "external:out"]));
});

test("by namespace, all of one namespace is one node that talks to itself", () => {
  const { nodes, edges } = fold(shop, "namespace", {});
  expect(nodes.map((node) => node.id).sort()).toEqual(["external:in", "external:out", "namespace:shop", "unmanaged"]);
  expect(edges.map((edge) => edge.id)).toContain("namespace:shop~namespace:shop");
});

test("filters leave only the conversations that match", () => {
  for (const [filter, want] of [
    [{ hideUnmanaged: true }, 3],
    [{ verdict: "deny" }, 1],
    [{ namespace: "none" }, 0],
    [{ q: "DB" }, 1],
  ] as const) {
    expect(fold(shop, "group", filter).edges, JSON.stringify(filter)).toHaveLength(want);
  }
});

test("who has talked to nobody is on the map all the same, below those who have", () => {
  const data = { endpoints: [...(shop.endpoints ?? []), endpoint("idle-1", "shop", "idle")], conversations: shop.conversations };
  const { nodes, edges } = fold(data, "group", {});
  expect(nodes.map((node) => node.id)).toContain("nv.idle.shop");
  expect(fold(data, "group", { verdict: "deny" }).nodes.map((node) => node.id)).not.toContain("nv.idle.shop");
  const { boxes } = layout(nodes.map((node) => node.id), edges);
  const idle = boxes.get("nv.idle.shop");
  for (const [id, box] of boxes) if (id !== "nv.idle.shop") expect(idle?.y).toBeGreaterThan(box.y + box.height);
});

test("a pod's sandbox and container are one member, also when only one of them talks", () => {
  const pod = { pod_name: "web-1" };
  const data = { endpoints: [endpoint("box", "shop", "web", pod), endpoint("main", "shop", "web", pod), endpoint("db-1", "shop", "db")], conversations: [talk("box", "db-1")] };
  expect(fold(data, "group", {}).nodes.find((node) => node.id === "nv.web.shop")?.members).toBe(1);
  expect(fold(data, "endpoint", {}).nodes.map((node) => node.id)).toEqual(["box", "db-1"]);
});

test("ten thousand endpoints are shown with at most five hundred marks", () => {
  const endpoints = Array.from({ length: 10_000 }, (_, index) => endpoint(`c${index}`, `ns${index % 700}`, `s${index % 3000}`));
  const conversations = endpoints.map((_, index) => talk(`c${index}`, `c${(index * 7919 + 13) % 10_000}`, index === 5 ? { policy_action: "deny" } : {}));
  const shown = aggregate({ endpoints, conversations }, "endpoint", {});
  expect(shown.nodes.length + shown.edges.length).toBeLessThanOrEqual(500);
  expect(shown.level).toBe("namespace");
  expect(shown.omitted).toBeGreaterThan(0);
  expect(shown.edges.some((edge) => edge.verdict === "deny")).toBe(true);
});

test("a threat counts more than what the rules say", () => {
  expect(verdictOf(talk("a", "b", { event_type: ["threat"] }))).toBe("threat");
  expect(verdictOf(talk("a", "b", { policy_action: "learn" }))).toBe("allow");
});

test("clients stand left of their servers, also around a cycle", () => {
  const at = layers(["a", "b", "c", "d"], [{ from: "a", to: "b" }, { from: "b", to: "c" }, { from: "c", to: "b" }, { from: "a", to: "d" }, { from: "d", to: "c" }]);
  expect(at.get("a")).toBe(0);
  expect(at.get("b")).toBeGreaterThan(0);
  expect(at.get("c")).toBeGreaterThan(at.get("b") ?? 9);
});

test("parts that have nothing to do with each other stand close together", () => {
  const { height } = layout(["a", "b", "x", "y", "z"], [{ from: "a", to: "b" }, { from: "x", to: "y" }, { from: "x", to: "z" }]);
  expect(height).toBeLessThan(400);
});

test("no two nodes overlap, and the same input has the same places", () => {
  const ids = Array.from({ length: 60 }, (_, index) => `n${index}`);
  const links = ids.map((from, index) => ({ from, to: ids[(index * 17 + 3) % 60] as string }));
  const { boxes } = layout(ids, links);
  expect(layout([...ids].reverse(), links).boxes).toEqual(boxes);
  const list = [...boxes.values()];
  for (const [index, a] of list.entries()) {
    for (const b of list.slice(index + 1)) {
      expect(a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y).toBe(true);
    }
  }
});
