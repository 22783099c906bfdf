import { expect, test } from "vitest";
import type { Process } from "../api/types";
import { tree } from "./tree";

const process = (pid: number, parent: number, start_timestamp: number): Process =>
  ({ pid, parent, start_timestamp, name: `p${pid}`, path: "", cmdline: "", user: "", status: "", action: "", root: false, uid: 0, euid: 0 }) as Process;
const shape = (list: Process[]) => tree(list).map(({ process, depth }) => `${" ".repeat(depth)}${process.pid}`);

test("children stand behind their parents, the oldest first", () => {
  expect(shape([process(3, 1, 3), process(1, 0, 1), process(4, 2, 4), process(2, 1, 2)])).toEqual(["1", " 2", "  4", " 3"]);
});

test("a process whose parent is elsewhere begins a tree of its own", () => {
  expect(shape([process(7, 900, 1), process(8, 7, 2), process(9, 901, 3)])).toEqual(["7", " 8", "9"]);
});

test("an id that is used again has its own children, and none is lost or shown twice", () => {
  const list = [process(1, 0, 1), process(2, 1, 2), process(3, 2, 3), process(2, 1, 4), process(5, 2, 5), process(6, 6, 6)];
  expect(shape(list)).toEqual(["1", " 2", "  3", " 2", "  5", "6"]);
});
