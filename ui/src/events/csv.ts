/** Events as CSV (RFC 4180), with nothing in it that a spreadsheet would run. */
import type { SecurityEvent } from "./model";

const HEAD = [
  "time", "type", "severity", "name", "outcome", "source", "source_namespace", "source_group", "source_ip",
  "target", "target_namespace", "target_group", "target_ip", "port", "process", "path", "command", "user", "parent",
  "file", "rule", "group", "node", "message", "id",
] as const;

export function cell(value: string): string {
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function toCsv(events: SecurityEvent[]): string {
  const rows = events.map(({ source, target, process, ...event }) => [
    new Date(event.at * 1000).toISOString(), event.type, event.level, event.name, event.outcome,
    source.name, source.domain, source.service, source.ip,
    target?.name ?? "", target?.domain ?? "", target?.service ?? "", target?.ip ?? "",
    event.port, process.name, process.path, process.command, process.user, process.parent,
    event.file, event.rule, event.group, event.node, event.message, event.id,
  ]);
  return `${[[...HEAD], ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

export function download(name: string, content: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1_000);
}
