/** A file rule as it is typed in, and what of it the API is told. */
import type { FileFilter, FileRule } from "../api/types";
import type { Key } from "../i18n/en";

export interface Draft extends Omit<FileRule, "applications"> {
  /** One program a line. */
  applications: string;
}

export interface Problem {
  key: Extract<Key, `files.problem.${string}`>;
  path?: string;
}

export const NEW: Draft = { filter: "", recursive: false, behavior: "monitor_change", applications: "" };

export function draftOf(rule: FileRule): Draft {
  return { filter: rule.filter, recursive: rule.recursive, behavior: rule.behavior, applications: rule.applications.join("\n") };
}

/** Programs are asked for only where others are blocked. */
export function ruleOf(draft: Draft): FileRule {
  const lines = draft.applications.split("\n").map((line) => line.trim());
  const applications = draft.behavior === "block_access" ? [...new Set(lines.filter((line) => line !== ""))] : [];
  return { filter: draft.filter.trim(), recursive: draft.recursive, behavior: draft.behavior, applications };
}

/** What keeps a draft from being sent; the API judges the rest. `before` is the rule that is changed. */
export function problemOf(draft: Draft, rules: readonly FileFilter[], before?: FileRule): Problem | undefined {
  const rule = ruleOf(draft);
  if (!rule.filter.startsWith("/")) return { key: "files.problem.path" };
  const taken = rules.some((other) => other.cfg_type !== "system_defined" && other.filter === rule.filter);
  if (taken && rule.filter !== before?.filter) return { key: "files.problem.twice" };
  const path = rule.applications.find((application) => !application.startsWith("/"));
  return path === undefined ? undefined : { key: "files.problem.application", path };
}

/** The body of the change. A rule is known by its path, so that another path is another rule. */
export function changeOf(draft: Draft, before?: FileRule) {
  const rule = ruleOf(draft);
  if (!before) return { config: { add_filters: [rule] } };
  if (before.filter === rule.filter) return { config: { update_filters: [rule] } };
  return { config: { add_filters: [rule], delete_filters: [before] } };
}
