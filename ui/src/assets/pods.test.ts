import { expect, test } from "vitest";
import type { Workload } from "../api/types";
import { flatten, select } from "./pods";

const workload = (id: string, more: Partial<Workload> = {}): Workload =>
  ({ id, name: id, display_name: id, domain: "shop", state: "discover", image: "", host_name: "", service: "", service_group: "", ...more }) as Workload;

test("a pod is followed by its containers, each listed once", () => {
  const pod = workload("pod", { children: [workload("pod"), workload("a"), workload("b")] });
  expect(flatten([pod, workload("c", { children: null })]).map(({ workload, depth }) => [workload.id, depth])).toEqual([["pod", 0], ["a", 1], ["b", 1], ["c", 0]]);
});

test("what has ended is hidden until it is asked for", () => {
  const list = [workload("runs"), workload("ended", { state: "exit" })];
  expect(select(list, {}).map(({ id }) => id)).toEqual(["runs"]);
  expect(select(list, { exited: true })).toHaveLength(2);
  expect(select(list, { state: "exit" }).map(({ id }) => id)).toEqual(["ended"]);
});

test("a pod stays when one of its containers matches", () => {
  const pod = workload("pod", { children: [workload("sidecar")] });
  expect(select([pod], { q: "SIDE" })).toEqual([pod]);
  expect(select([pod], { q: "nothing" })).toEqual([]);
});

test("a workload is found by its address", () => {
  const web = workload("web", { interfaces: { eth0: [{ ip: "10.9.8.7", ip_prefix: 24, gateway: "" }] } });
  expect(select([web], { q: "10.9.8" })).toEqual([web]);
});
