/** Processes in the order of their tree: each behind its parent, one level deeper. */
import type { Process } from "../api/types";

export interface Branch {
  process: Process;
  depth: number;
}

/** Ids are used again: a child belongs to the last process of that id that began before it. */
export function tree(processes: Process[]): Branch[] {
  const byAge = processes.toSorted((one, other) => one.start_timestamp - other.start_timestamp || one.pid - other.pid);
  const children = new Map<Process, Process[]>();
  const latest = new Map<number, Process>();
  const roots: Process[] = [];
  for (const process of byAge) {
    const parent = latest.get(process.parent);
    if (parent && parent !== process && process.pid !== process.parent) {
      children.set(parent, [...(children.get(parent) ?? []), process]);
    } else {
      roots.push(process);
    }
    latest.set(process.pid, process);
  }
  const branches: Branch[] = [];
  const waiting = roots.toReversed().map((process) => ({ process, depth: 0 }));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    branches.push(next);
    const below = children.get(next.process) ?? [];
    for (const process of below.toReversed()) waiting.push({ process, depth: next.depth + 1 });
  }
  return branches;
}
