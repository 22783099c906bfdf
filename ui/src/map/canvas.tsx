/** The drawing of the map: drag to move it, wheel to zoom, tab through what is on it. */
import { type KeyboardEvent, memo, useEffect, useMemo, useRef, useState } from "react";
import { useT } from "../i18n";
import type { Key } from "../i18n/en";
import type { MapData, MapEdge, MapNode } from "./aggregate";
import { layout, route } from "./layout";
import { nodeLabel } from "./words";

interface View {
  x: number;
  y: number;
  width: number;
  height: number;
}

const ZOOM = 1.25;
const LEAST_WIDTH = 1_000;
const LEAST_HEIGHT = 560;
const SMALLEST = 200;
const LARGEST = 40_000;

export function Canvas({ data, node, edge, onNode, onEdge }: {
  data: MapData;
  node?: string;
  edge?: string;
  onNode: (id: string) => void;
  onEdge: (id: string) => void;
}) {
  const t = useT();
  const svg = useRef<SVGSVGElement>(null);
  const shape = data.nodes.map((item) => item.id).join("|") + data.edges.map((item) => item.id).join("|");
  const placed = useMemo(() => layout(data.nodes.map((item) => item.id), data.edges), [shape]);
  // A small map is not blown up.
  const whole = useMemo<View>(() => {
    const width = Math.max(placed.width, LEAST_WIDTH);
    const height = Math.max(placed.height, LEAST_HEIGHT);
    return { x: (placed.width - width) / 2, y: (placed.height - height) / 2, width, height };
  }, [placed]);
  const [view, setView] = useState<View>(whole);
  const touched = useRef(false);
  useEffect(() => {
    if (!touched.current) setView(whole);
  }, [whole]);

  const zoom = (factor: number, at = { x: 0.5, y: 0.5 }) => {
    touched.current = true;
    setView((old) => {
      const width = Math.min(LARGEST, Math.max(SMALLEST, old.width * factor));
      const height = (old.height * width) / old.width;
      return { x: old.x + (old.width - width) * at.x, y: old.y + (old.height - height) * at.y, width, height };
    });
  };
  useEffect(() => {
    const element = svg.current;
    if (!element) return;
    // React listens passively to wheels; this one must keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      zoom(event.deltaY > 0 ? ZOOM ** 0.5 : ZOOM ** -0.5, { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height });
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, []);

  const drag = useRef<{ x: number; y: number; view: View } | undefined>(undefined);
  const near = useMemo(() => {
    if (!node && !edge) return undefined;
    const edges = data.edges.filter((item) => item.id === edge || item.from === node || item.to === node);
    return new Set([...edges.flatMap((item) => [item.id, item.from, item.to]), ...(node ? [node] : [])]);
  }, [data, node, edge]);

  return (
    <div className="map">
      <div className="map-tools">
        <button type="button" className="icon-button" aria-label={t("map.zoom_in")} onClick={() => zoom(1 / ZOOM)}>+</button>
        <button type="button" className="icon-button" aria-label={t("map.zoom_out")} onClick={() => zoom(ZOOM)}>−</button>
        <button
          type="button"
          className="button"
          onClick={() => {
            touched.current = false;
            setView(whole);
          }}
        >
          {t("map.fit")}
        </button>
      </div>
      <svg
        ref={svg}
        role="group"
        aria-label={t("map.label", { nodes: data.nodes.length, edges: data.edges.length })}
        viewBox={`${view.x} ${view.y} ${view.width} ${view.height}`}
        preserveAspectRatio="xMidYMid meet"
        onPointerDown={(event) => {
          if ((event.target as Element).closest("[role=button]")) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          drag.current = { x: event.clientX, y: event.clientY, view };
        }}
        onPointerMove={(event) => {
          const start = drag.current;
          if (!start) return;
          touched.current = true;
          const box = event.currentTarget.getBoundingClientRect();
          const scale = Math.max(start.view.width / box.width, start.view.height / box.height);
          setView({ ...start.view, x: start.view.x - (event.clientX - start.x) * scale, y: start.view.y - (event.clientY - start.y) * scale });
        }}
        onPointerUp={() => {
          drag.current = undefined;
        }}
      >
        <defs>
          {(["allow", "violate", "deny", "threat"] as const).map((verdict) => (
            <marker key={verdict} id={`arrow-${verdict}`} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto-start-reverse">
              <path d="M0 0 10 5 0 10z" className={`arrow arrow-${verdict}`} />
            </marker>
          ))}
        </defs>
        {data.edges.map((item) => {
          const from = placed.boxes.get(item.from);
          const to = placed.boxes.get(item.to);
          return from && to ? (
            <Edge key={item.id} edge={item} path={route(from, to, placed.via.get(item.id))} names={names(data, item, t)} selected={item.id === edge} faded={near !== undefined && !near.has(item.id)} onOpen={onEdge} />
          ) : null;
        })}
        {data.nodes.map((item) => {
          const box = placed.boxes.get(item.id);
          return box ? (
            <Node key={item.id} node={item} x={box.x} y={box.y} width={box.width} height={box.height} selected={item.id === node} faded={near !== undefined && !near.has(item.id)} onOpen={onNode} />
          ) : null;
        })}
      </svg>
    </div>
  );
}

function names(data: MapData, edge: MapEdge, t: ReturnType<typeof useT>): string {
  const label = (id: string) => {
    const found = data.nodes.find((node) => node.id === id);
    return found ? nodeLabel(found, t) : id;
  };
  return t("map.edge", { from: label(edge.from), to: label(edge.to), verdict: t(`map.verdict.${edge.verdict}` as Key), sessions: edge.sessions });
}

const press = (action: () => void) => (event: KeyboardEvent) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  action();
};

const Edge = memo(function Edge({ edge, path, names: label, selected, faded, onOpen }: {
  edge: MapEdge;
  path: string;
  names: string;
  selected: boolean;
  faded: boolean;
  onOpen: (id: string) => void;
}) {
  const width = Math.min(6, 1.5 + Math.log10(1 + edge.bytes / 10_000));
  return (
    <g
      role="button"
      tabIndex={0}
      aria-label={label}
      aria-pressed={selected}
      data-edge={edge.id}
      className={`edge edge-${edge.verdict} ${selected ? "selected" : ""} ${faded ? "faded" : ""}`}
      onClick={() => onOpen(edge.id)}
      onKeyDown={press(() => onOpen(edge.id))}
    >
      <path d={path} className="edge-reach" />
      <path d={path} className="edge-line" strokeWidth={width} markerEnd={`url(#arrow-${edge.verdict})`} />
    </g>
  );
}, (a, b) => a.path === b.path && a.names === b.names && a.selected === b.selected && a.faded === b.faded && a.edge.bytes === b.edge.bytes && a.edge.verdict === b.edge.verdict);

const ICONS: Record<MapNode["kind"], string> = {
  external: "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM2 10h16M10 2c5 5 5 11 0 16M10 2c-5 5-5 11 0 16",
  hosts: "M3 3h14v6H3zM3 11h14v6H3zM6 6h.1M6 14h.1",
  workloads: "M3 6l7-3 7 3v8l-7 3-7-3zM3 6l7 3 7-3M10 9v8",
  unmanaged: "M3 6l7-3 7 3v8l-7 3-7-3zM8 8.500a2 2 0 1 1 2.500 2v1M10.500 14h.1",
  address: "M10 2a5.500 5.500 0 0 0-5.500 5.500C4.500 12 10 18 10 18s5.500-6 5.500-10.500A5.500 5.500 0 0 0 10 2zM10 6v3",
};

const Node = memo(function Node({ node, x, y, width, height, selected, faded, onOpen }: {
  node: MapNode;
  x: number;
  y: number;
  width: number;
  height: number;
  selected: boolean;
  faded: boolean;
  onOpen: (id: string) => void;
}) {
  const t = useT();
  const label = nodeLabel(node, t);
  const second = [node.kind === "workloads" && node.label !== node.domain ? node.domain : "", node.members > 1 ? `×${node.members}` : "", node.mode ? t(`mode.${node.mode}` as Key) : ""].filter((part) => part !== "").join(" · ");
  return (
    <g
      role="button"
      tabIndex={0}
      aria-label={second ? `${label}, ${second}` : label}
      aria-pressed={selected}
      data-node={node.id}
      className={`node node-${node.kind} mode-${(node.mode || "none").toLowerCase()} ${selected ? "selected" : ""} ${faded ? "faded" : ""}`}
      transform={`translate(${x} ${y})`}
      onClick={() => onOpen(node.id)}
      onKeyDown={press(() => onOpen(node.id))}
    >
      <rect width={width} height={height} rx="9" className="node-box" />
      <path d={`M0 9a9 9 0 0 1 5-8.100v${height - 1.8}A9 9 0 0 1 0 ${height - 9}z`} className="node-stripe" />
      <g transform={`translate(14 ${height / 2 - 10})`} className="node-icon">
        <path d={ICONS[node.kind]} fill="none" stroke="currentColor" strokeWidth="1.500" strokeLinecap="round" strokeLinejoin="round" />
      </g>
      <text x="44" y={second ? height / 2 - 3 : height / 2 + 5} className="node-name">{short(label, 15)}</text>
      {second ? <text x="44" y={height / 2 + 14} className="node-second">{short(second, 21)}</text> : null}
      <title>{second ? `${label} · ${second}` : label}</title>
    </g>
  );
});

const short = (text: string, length: number) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
