// Fails when the build is larger than promised: what the first page loads, and what each lazy page adds.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const ENTRY_KIB = 200;
const ROUTE_KIB = 60;
const dist = new URL("../dist/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL("manifest.json", dist), "utf8"));
const size = (file) => gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length;
const kib = (bytes) => (bytes / 1024).toFixed(1);

/** Files that loading `name` needs, without those in `known`. */
function needed(name, known = new Set(), found = new Set()) {
  if (known.has(name) || found.has(name)) return found;
  found.add(name);
  for (const other of manifest[name].imports ?? []) needed(other, known, found);
  return found;
}

const entryName = Object.keys(manifest).find((name) => manifest[name].isEntry);
const entry = needed(entryName);
const bytes = (names) => [...names].reduce((sum, name) => sum + size(manifest[name].file), 0);
let failed = false;
const report = (label, total, limit) => {
  const over = total > limit * 1024;
  failed ||= over;
  console.log(`${over ? "TOO LARGE" : "ok"}  ${kib(total).padStart(6)} KiB of ${limit}  ${label}`);
};
report("entry", bytes(entry), ENTRY_KIB);
for (const name of Object.keys(manifest).filter((name) => manifest[name].isDynamicEntry)) {
  report(name, bytes(needed(name, entry)), ROUTE_KIB);
}
const css = new Set(Object.values(manifest).flatMap((chunk) => chunk.css ?? []));
console.log(`    ${kib([...css].reduce((sum, file) => sum + size(file), 0)).padStart(6)} KiB        style sheets`);
process.exitCode = failed ? 1 : 0;
