import { expect, test } from "vitest";
import { cell, toCsv } from "./csv";
import { matches, merge, toEvent } from "./model";

const violation = toEvent("violation", {
  id: "v1", level: "Critical", reported_timestamp: 100, client_name: "web", client_domain: "shop", server_name: "db",
  server_port: 5432, ip_proto: 6, policy_action: "deny", policy_id: 10003, host_name: "node-1",
});
const incident = toEvent("incident", {
  id: "i1", name: "Process.Profile.Violation", level: "Warning", reported_timestamp: 200, workload_name: "web",
  proc_path: "/tmp/x", proc_cmd: "/tmp/x -l", group: "nv.web.shop",
});

test("each log's record becomes the same kind of row", () => {
  expect(violation).toMatchObject({ name: "Network.Violation", outcome: "stopped", port: "tcp/5432", rule: "10003", source: { name: "web", domain: "shop" }, target: { name: "db" } });
  expect(incident).toMatchObject({ outcome: "reported", process: { path: "/tmp/x" }, group: "nv.web.shop", target: undefined });
  expect(toEvent("threat", { id: "t1", action: "alert", server_port: 80, ip_proto: 17 })).toMatchObject({ outcome: "reported", port: "udp/80" });
});

test("a record with nothing in it is a row all the same", () => {
  expect(toEvent("incident", {})).toMatchObject({ id: "", at: 0, level: "Info", outcome: "reported" });
});

test("rows are newest first, and one that came twice is there once", () => {
  expect(merge([incident], [violation, incident]).map(({ id }) => id)).toEqual(["i1", "v1"]);
});

test("every filter narrows, and words are found in processes, names and addresses", () => {
  for (const [filter, want] of [
    [{}, true],
    [{ type: "violation" }, false],
    [{ level: "Critical" }, false],
    [{ since: "1h" }, true],
    [{ q: "/TMP/X" }, true],
    [{ q: "nv.web" }, true],
    [{ q: "db" }, false],
  ] as const) {
    expect(matches(incident, filter, 300), JSON.stringify(filter)).toBe(want);
  }
  expect(matches(incident, { since: "1h" }, 200 + 3601)).toBe(false);
});

test("a cell cannot break out of its column or run in a spreadsheet", () => {
  expect(cell('say "hi", twice')).toBe('"say ""hi"", twice"');
  expect(cell("=HYPERLINK(1)")).toBe("'=HYPERLINK(1)");
  expect(cell("a\nb")).toBe('"a\nb"');
});

test("the export has a head, one line an event, and as many columns in each", () => {
  const lines = toCsv([incident, violation]).trimEnd().split("\r\n");
  expect(lines).toHaveLength(3);
  expect(new Set(lines.map((line) => line.split(",").length)).size).toBe(1);
});
