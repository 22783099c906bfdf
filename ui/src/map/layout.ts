/**
 * Places of nodes: clients left of their servers, few crossings, the same input always in the same places.
 * Layers by the longest path from a client (cycles are cut where a walk from the clients meets itself), then the order
 * within a layer by the mean place of the neighbours.
 */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Layout {
  boxes: Map<string, Box>;
  width: number;
  height: number;
}

interface Link {
  from: string;
  to: string;
}

export const NODE_WIDTH = 196;
export const NODE_HEIGHT = 50;
const GAP_X = 130;
const GAP_Y = 26;
const MARGIN = 40;
const SWEEPS = 6;
/** A layer with more nodes than this continues in a column beside it. */
const COLUMN_MAX = 14;

export function layers(ids: string[], links: Link[]): Map<string, number> {
  const targets = new Map<string, string[]>(ids.map((id) => [id, []]));
  const incoming = new Map<string, number>(ids.map((id) => [id, 0]));
  for (const { from, to } of links) {
    if (from === to) continue;
    targets.get(from)?.push(to);
    incoming.set(to, (incoming.get(to) ?? 0) + 1);
  }
  // Walk from the purest clients; links back to a node on the way here are cut.
  const starts = [...ids].sort((a, b) => (incoming.get(a) ?? 0) - (incoming.get(b) ?? 0) || a.localeCompare(b));
  const state = new Map<string, "open" | "done">();
  const forward = new Map<string, string[]>();
  const finished: string[] = [];
  for (const start of starts) {
    if (state.has(start)) continue;
    const stack: { id: string; next: number }[] = [{ id: start, next: 0 }];
    state.set(start, "open");
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as { id: string; next: number };
      const target = targets.get(top.id)?.[top.next];
      top.next += 1;
      if (target === undefined) {
        state.set(top.id, "done");
        finished.push(top.id);
        stack.pop();
        continue;
      }
      if (state.get(target) === "open") continue;
      forward.set(top.id, [...(forward.get(top.id) ?? []), target]);
      if (!state.has(target)) {
        state.set(target, "open");
        stack.push({ id: target, next: 0 });
      }
    }
  }
  const layer = new Map<string, number>(ids.map((id) => [id, 0]));
  for (const id of finished.reverse()) {
    for (const target of forward.get(id) ?? []) {
      layer.set(target, Math.max(layer.get(target) ?? 0, (layer.get(id) ?? 0) + 1));
    }
  }
  return layer;
}

export function layout(ids: string[], links: Link[]): Layout {
  const layer = layers(ids, links);
  const rows: string[][] = [];
  for (const id of [...ids].sort((a, b) => a.localeCompare(b))) {
    const at = layer.get(id) ?? 0;
    while (rows.length <= at) rows.push([]);
    rows[at]?.push(id);
  }
  const neighbours = new Map<string, string[]>(ids.map((id) => [id, []]));
  for (const { from, to } of links) {
    if (from === to) continue;
    neighbours.get(from)?.push(to);
    neighbours.get(to)?.push(from);
  }
  const place = new Map<string, number>();
  const number = (row: string[]) => row.forEach((id, index) => place.set(id, index - (row.length - 1) / 2));
  rows.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const row of sweep % 2 === 0 ? rows : [...rows].reverse()) {
      const mean = new Map(
        row.map((id) => {
          const others = neighbours.get(id) ?? [];
          const sum = others.reduce((total, other) => total + (place.get(other) ?? 0), 0);
          return [id, others.length > 0 ? sum / others.length : (place.get(id) ?? 0)];
        }),
      );
      row.sort((a, b) => (mean.get(a) ?? 0) - (mean.get(b) ?? 0) || a.localeCompare(b));
      number(row);
    }
  }
  const columns = rows.flatMap((row) => {
    const parts = Math.max(1, Math.ceil(row.length / COLUMN_MAX));
    const size = Math.ceil(row.length / parts);
    return Array.from({ length: parts }, (_, part) => row.slice(part * size, (part + 1) * size));
  });
  const tallest = Math.max(1, ...columns.map((column) => column.length));
  const height = tallest * (NODE_HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN;
  const boxes = new Map<string, Box>();
  columns.forEach((column, index) => {
    const used = column.length * (NODE_HEIGHT + GAP_Y) - GAP_Y;
    column.forEach((id, row) => {
      boxes.set(id, {
        x: MARGIN + index * (NODE_WIDTH + GAP_X),
        y: (height - used) / 2 + row * (NODE_HEIGHT + GAP_Y),
        width: NODE_WIDTH,
        height: NODE_HEIGHT,
      });
    });
  });
  return { boxes, width: Math.max(1, columns.length) * (NODE_WIDTH + GAP_X) - GAP_X + 2 * MARGIN, height };
}

/** An SVG path from the right side of one box to the left side of another, or around when it goes back. */
export function route(from: Box, to: Box): string {
  const y1 = from.y + from.height / 2;
  const y2 = to.y + to.height / 2;
  if (from === to) {
    const x = from.x + from.width;
    return `M${x - 36} ${from.y} c0 -34 30 -34 30 0`;
  }
  if (to.x > from.x) {
    const x1 = from.x + from.width;
    const x2 = to.x - 3;
    const bend = Math.max(40, (x2 - x1) / 2);
    return `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  // Back to the left: leave and arrive at the top or the bottom.
  const below = to.x === from.x ? y2 > y1 : true;
  const x1 = from.x + from.width / 2;
  const x2 = to.x + to.width / 2 + (to.x === from.x ? 30 : 0);
  const start = below ? from.y + from.height : from.y;
  const end = to.x === from.x ? (below ? to.y - 3 : to.y + to.height + 3) : to.y + to.height + 3;
  const dip = to.x === from.x ? (end - start) / 2 : 46;
  return `M${x1} ${start} C${x1} ${start + dip} ${x2} ${end + (to.x === from.x ? -dip : dip)} ${x2} ${end}`;
}
