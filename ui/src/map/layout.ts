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

export interface Point {
  x: number;
  y: number;
}

export interface Layout {
  boxes: Map<string, Box>;
  /** Where a link that passes other layers goes through them, by `from~to`. */
  via: Map<string, Point[]>;
  width: number;
  height: number;
}

interface Link {
  from: string;
  to: string;
}

export const NODE_WIDTH = 180;
export const NODE_HEIGHT = 50;
const GAP_X = 90;
const GAP_Y = 34;
/** Height of the lane that a passing link gets. */
const LANE = 12;
const ALONE_GAP = 24;
const MARGIN = 40;
const SWEEPS = 8;
/** A layer with more nodes than this continues in columns beside it; then there is no room for lanes. */
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

/** One place in a layer: a node, or the lane of a link that passes. */
interface Slot {
  key: string;
  height: number;
  y: number;
}

export function layout(all: string[], links: Link[]): Layout {
  const linked = new Set(links.flatMap(({ from, to }) => [from, to]));
  const placed = layered(all.filter((id) => linked.has(id)), links);
  const alone = all.filter((id) => !linked.has(id)).sort((a, b) => a.localeCompare(b));
  if (alone.length === 0) return placed;
  // Nodes without a link stand in rows below.
  const top = linked.size > 0 ? placed.height : MARGIN;
  const fitting = Math.floor((placed.width - 2 * MARGIN + ALONE_GAP) / (NODE_WIDTH + ALONE_GAP));
  const columns = Math.max(4, fitting, Math.ceil(Math.sqrt(alone.length / 2)));
  alone.forEach((id, index) => {
    placed.boxes.set(id, {
      x: MARGIN + (index % columns) * (NODE_WIDTH + ALONE_GAP),
      y: top + Math.floor(index / columns) * (NODE_HEIGHT + ALONE_GAP),
      width: NODE_WIDTH,
      height: NODE_HEIGHT,
    });
  });
  const used = Math.min(columns, alone.length);
  return {
    ...placed,
    width: Math.max(linked.size > 0 ? placed.width : 0, used * (NODE_WIDTH + ALONE_GAP) - ALONE_GAP + 2 * MARGIN),
    height: top + Math.ceil(alone.length / columns) * (NODE_HEIGHT + ALONE_GAP) - ALONE_GAP + MARGIN,
  };
}

function layered(ids: string[], links: Link[]): Layout {
  const layer = layers(ids, links);
  const rows: Slot[][] = [];
  const row = (at: number): Slot[] => {
    while (rows.length <= at) rows.push([]);
    return rows[at] as Slot[];
  };
  for (const id of [...ids].sort((a, b) => a.localeCompare(b))) row(layer.get(id) ?? 0).push({ key: id, height: NODE_HEIGHT, y: 0 });
  const beside = new Map<string, string[]>();
  const join = (a: string, b: string) => {
    beside.set(a, [...(beside.get(a) ?? []), b]);
    beside.set(b, [...(beside.get(b) ?? []), a]);
  };
  const crowded = rows.some((slots) => slots.length > COLUMN_MAX);
  const lanes = new Map<string, string[]>();
  for (const { from, to } of [...links].sort((a, b) => a.from.localeCompare(b.from) || a.to.localeCompare(b.to))) {
    const start = layer.get(from) ?? 0;
    const end = layer.get(to) ?? 0;
    if (from === to) continue;
    if (crowded || end <= start + 1) {
      join(from, to);
      continue;
    }
    const chain = Array.from({ length: end - start - 1 }, (_, step) => `${from}~${to}#${step}`);
    chain.forEach((key, step) => row(start + 1 + step).push({ key, height: LANE, y: 0 }));
    [from, ...chain].forEach((key, step) => join(key, chain[step] ?? to));
    lanes.set(`${from}~${to}`, chain);
  }
  const slots = new Map(rows.flat().map((slot) => [slot.key, slot]));
  const wanted = (slot: Slot): number => {
    const others = beside.get(slot.key) ?? [];
    const sum = others.reduce((total, other) => total + (slots.get(other)?.y ?? 0), 0);
    return others.length > 0 ? sum / others.length : slot.y;
  };
  rows.forEach((list) => stack(list, (slot) => slot.y));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const list of sweep % 2 === 0 ? rows : [...rows].reverse()) {
      const mean = new Map(list.map((slot) => [slot.key, wanted(slot)]));
      list.sort((a, b) => (mean.get(a.key) ?? 0) - (mean.get(b.key) ?? 0) || a.key.localeCompare(b.key));
      stack(list, (slot) => mean.get(slot.key) ?? 0);
    }
  }
  const columns = rows.flatMap((list) => {
    const parts = crowded ? Math.max(1, Math.ceil(list.length / COLUMN_MAX)) : 1;
    const size = Math.ceil(list.length / parts);
    const split = Array.from({ length: parts }, (_, part) => list.slice(part * size, (part + 1) * size));
    if (parts > 1) split.forEach((part) => part.forEach((slot, index) => (slot.y = (index - (part.length - 1) / 2) * (NODE_HEIGHT + GAP_Y))));
    return split;
  });
  const all = columns.flat();
  squeeze(all);
  const top = Math.min(0, ...all.map((slot) => slot.y - slot.height / 2)) - MARGIN;
  const bottom = Math.max(0, ...all.map((slot) => slot.y + slot.height / 2)) + MARGIN;
  const boxes = new Map<string, Box>();
  const places = new Map<string, Point>();
  columns.forEach((list, index) => {
    const x = MARGIN + index * (NODE_WIDTH + GAP_X);
    for (const slot of list) {
      if (slot.height === NODE_HEIGHT) boxes.set(slot.key, { x, y: slot.y - slot.height / 2 - top, width: NODE_WIDTH, height: NODE_HEIGHT });
      else places.set(slot.key, { x, y: slot.y - top });
    }
  });
  const via = new Map(
    [...lanes].map(([link, chain]) => [link, chain.map((key) => places.get(key)).filter((place): place is Point => place !== undefined)]),
  );
  return { boxes, via, width: Math.max(1, columns.length) * (NODE_WIDTH + GAP_X) - GAP_X + 2 * MARGIN, height: bottom - top };
}

/** Takes out the bands across all layers that are empty beyond a gap, as between parts that have nothing to do with each other. */
function squeeze(slots: Slot[]) {
  let reached = Number.POSITIVE_INFINITY;
  let shift = 0;
  for (const slot of [...slots].sort((a, b) => a.y - a.height / 2 - (b.y - b.height / 2))) {
    const top = slot.y - slot.height / 2;
    shift += Math.max(0, top - reached - GAP_Y);
    reached = Math.max(reached === Number.POSITIVE_INFINITY ? top : reached, top + slot.height);
    slot.y -= shift;
  }
}

/** Puts the slots of a layer, in their order, as near to where they want to be as their sizes allow. */
function stack(list: Slot[], wanted: (slot: Slot) => number) {
  const wishes = list.map(wanted);
  let edge = Number.NEGATIVE_INFINITY;
  list.forEach((slot, index) => {
    slot.y = Math.max(wishes[index] ?? 0, edge + slot.height / 2);
    edge = slot.y + slot.height / 2 + GAP_Y;
  });
  // Pushing only downwards leans the layer; shift it back by the mean.
  const lean = list.reduce((sum, slot, index) => sum + slot.y - (wishes[index] ?? 0), 0) / Math.max(1, list.length);
  for (const slot of list) slot.y -= lean;
}

/** An SVG path from the right side of one box to the left side of another, or around when it goes back. */
export function route(from: Box, to: Box, via: Point[] = []): string {
  const y1 = from.y + from.height / 2;
  const y2 = to.y + to.height / 2;
  if (from === to) {
    const x = from.x + from.width;
    return `M${x - 36} ${from.y} c0 -34 30 -34 30 0`;
  }
  if (to.x > from.x) {
    const x1 = from.x + from.width;
    const x2 = to.x - 3;
    // Curves between layers, straight through a layer's lane.
    let path = `M${x1} ${y1}`;
    let [x, y] = [x1, y1];
    for (const lane of via) {
      const half = (lane.x - x) / 2;
      path += ` C${x + half} ${y} ${lane.x - half} ${lane.y} ${lane.x} ${lane.y} H${lane.x + NODE_WIDTH}`;
      [x, y] = [lane.x + NODE_WIDTH, lane.y];
    }
    const half = (x2 - x) / 2;
    return `${path} C${x + half} ${y} ${x2 - half} ${y2} ${x2} ${y2}`;
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
