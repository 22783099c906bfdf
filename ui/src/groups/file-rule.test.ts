import { expect, test } from "vitest";
import type { FileFilter } from "../api/types";
import { changeOf, draftOf, NEW, problemOf, ruleOf } from "./file-rule";

const rule = (filter: string, cfg_type = "user_created"): FileFilter => ({
  filter,
  recursive: false,
  behavior: "block_access",
  applications: ["/bin/sh", "/usr/bin/id"],
  cfg_type,
  last_modified_timestamp: 0,
});

test("what is typed is what is sent: one program a line, each once, and none where nobody is blocked", () => {
  const draft = { ...NEW, filter: " /etc/shadow ", behavior: "block_access" as const, applications: " /bin/sh\n\n/bin/sh\n/usr/bin/id " };
  expect(ruleOf(draft)).toEqual({ filter: "/etc/shadow", recursive: false, behavior: "block_access", applications: ["/bin/sh", "/usr/bin/id"] });
  expect(ruleOf({ ...draft, behavior: "monitor_change" }).applications).toEqual([]);
  expect(ruleOf(draftOf(rule("/a")))).toEqual({ filter: "/a", recursive: false, behavior: "block_access", applications: ["/bin/sh", "/usr/bin/id"] });
});

test("a path that is none or taken, and a program without its path are not sent", () => {
  const rules = [rule("/a"), rule("/etc/passwd", "system_defined")];
  expect(problemOf({ ...NEW, filter: "a" }, rules)?.key).toBe("files.problem.path");
  expect(problemOf({ ...NEW, filter: "/a" }, rules)?.key).toBe("files.problem.twice");
  expect(problemOf({ ...NEW, filter: "/a" }, rules, rule("/a"))).toBeUndefined();
  expect(problemOf({ ...NEW, filter: "/etc/passwd" }, rules), "the built-in list is no rule of the group").toBeUndefined();
  const relative = { ...NEW, filter: "/b", behavior: "block_access" as const, applications: "/bin/sh\nid" };
  expect(problemOf(relative, rules)).toEqual({ key: "files.problem.application", path: "id" });
});

test("a rule under another path replaces the one before", () => {
  const before = rule("/a");
  const draft = draftOf(before);
  expect(changeOf(draft)).toEqual({ config: { add_filters: [ruleOf(draft)] } });
  expect(changeOf({ ...draft, recursive: true }, before)).toEqual({ config: { update_filters: [{ ...ruleOf(draft), recursive: true }] } });
  expect(changeOf({ ...draft, filter: "/b" }, before)).toEqual({
    config: { add_filters: [{ ...ruleOf(draft), filter: "/b" }], delete_filters: [before] },
  });
});
