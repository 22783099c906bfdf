/** Network Activity: who talks to whom, as a map or as a table, and what was said. */
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { useConversations } from "../api/queries";
import type { Conversation, Endpoint } from "../api/types";
import { bytes } from "../format";
import { useT } from "../i18n";
import type { Key } from "../i18n/en";
import { ModeBadge, VerdictBadge } from "../parts/badges";
import { Drawer, Facts } from "../parts/drawer";
import { Choice, SearchBox, Toggle } from "../parts/filters";
import { Grid, type Column } from "../parts/grid";
import { Page } from "../parts/list";
import { Empty, Failure, Skeleton } from "../parts/states";
import { Time } from "../parts/time";
import { parseSort } from "../url";
import { aggregate, fold, LEVELS, MAX_MARKS, type Level, type MapData, type MapEdge, type MapNode, verdictOf } from "./aggregate";
import { Canvas } from "./canvas";
import { nodeLabel } from "./words";

const route = getRouteApi("/network");
const VERDICTS = ["allow", "violate", "deny", "threat"] as const;

export default function Network() {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/network" });
  const set = (change: Partial<typeof search>, replace = true) => void navigate({ search: (old) => ({ ...old, ...change }), replace });
  const query = useConversations();
  const wanted: Level = search.level ?? "group";
  const filter = { namespace: search.namespace, verdict: search.verdict, q: search.q, hideUnmanaged: search.unmanaged === "hide" };
  const keys = [query.data, wanted, search.namespace, search.verdict, search.q, search.unmanaged];
  const table = search.view === "table";
  const data = useMemo<MapData>(
    () => (!query.data ? { level: wanted, nodes: [], edges: [], omitted: 0 } : table ? { level: wanted, omitted: 0, ...fold(query.data, wanted, filter) } : aggregate(query.data, wanted, filter)),
    [...keys, table],
  );
  const namespaces = useMemo(
    () => [...new Set([...(query.data?.endpoints ?? []).map((endpoint) => endpoint.domain ?? ""), search.namespace ?? ""])].filter((name) => name !== "").sort(),
    [query.data, search.namespace],
  );
  const filtered = Boolean(search.namespace || search.verdict || search.q || search.unmanaged);
  const edge = data.edges.find((item) => item.id === search.edge);
  const node = data.nodes.find((item) => item.id === search.node);
  const close = () => set({ node: undefined, edge: undefined });
  const openNode = (id: string) => set({ node: id, edge: undefined }, false);
  const openEdge = (id: string) => set({ edge: id, node: undefined }, false);
  return (
    <Page
      title={t("nav.network")}
      count={query.data ? data.edges.length : undefined}
      actions={
        <div className="segment-track" role="group" aria-label={t("map.view.map")}>
          <button type="button" className="segment" aria-pressed={!table} onClick={() => set({ view: undefined })}>{t("map.view.map")}</button>
          <button type="button" className="segment" aria-pressed={table} onClick={() => set({ view: "table" })}>{t("map.view.table")}</button>
        </div>
      }
      tools={
        <>
          <div className="segment-track" role="group" aria-label={t("map.level")}>
            {LEVELS.map((level) => (
              <button key={level} type="button" className="segment" aria-pressed={wanted === level} onClick={() => set({ level: level === "group" ? undefined : level, node: undefined, edge: undefined })}>
                {t(`map.level.${level}`)}
              </button>
            ))}
          </div>
          <SearchBox value={search.q} onChange={(q) => set({ q })} />
          {namespaces.length > 0 ? <Choice label={t("column.namespace")} value={search.namespace} options={namespaces.map((name) => [name, name] as const)} onChange={(namespace) => set({ namespace })} /> : null}
          <Choice label={t("map.verdict")} value={search.verdict} options={VERDICTS.map((verdict) => [verdict, t(`map.verdict.${verdict}`)] as const)} onChange={(verdict) => set({ verdict })} />
          <Toggle label={t("map.unmanaged")} on={search.unmanaged !== "hide"} onChange={(on) => set({ unmanaged: on ? undefined : "hide" })} />
        </>
      }
      drawer={
        edge ? <EdgePanel key={edge.id} edge={edge} data={data} endpoints={query.data?.endpoints ?? []} onClose={close} />
        : node ? <NodePanel key={node.id} node={node} data={data} onEdge={openEdge} onClose={close} /> : undefined
      }
    >
      {query.isPending ? <Skeleton /> : query.error && !query.data ? <Failure error={query.error} retry={() => void query.refetch()} /> : (table ? data.edges : data.nodes).length === 0 ? (
        <Empty action={filtered ? <button type="button" className="button" onClick={() => set({ namespace: undefined, verdict: undefined, q: undefined, unmanaged: undefined })}>{t("list.clear")}</button> : undefined}>
          {filtered ? t("list.none_match") : t("map.empty")}
        </Empty>
      ) : table ? (
        <EdgeTable data={data} selected={search.edge} sort={search.sort} onSort={(sort) => set({ sort })} onOpen={openEdge} />
      ) : (
        <>
          {data.level !== wanted ? <p className="notice">{t("map.collapsed", { count: `> ${MAX_MARKS}`, level: t(`map.level.${data.level}`) })}</p> : null}
          {data.omitted > 0 ? <p className="notice">{t("map.too_many", { count: data.edges.length })}</p> : null}
          <Canvas data={data} node={search.node} edge={search.edge} onNode={openNode} onEdge={openEdge} />
          <ul className="legend" aria-label={t("map.legend")}>
            {VERDICTS.map((verdict) => (
              <li key={verdict}>
                <svg width="34" height="10" aria-hidden="true"><path d="M2 5h30" className={`edge-line edge-${verdict}`} strokeWidth="2.500" /></svg>
                {t(`map.verdict.${verdict}`)}
              </li>
            ))}
            {(["Discover", "Monitor", "Protect"] as const).map((mode) => <li key={mode}><ModeBadge mode={mode} /></li>)}
          </ul>
        </>
      )}
    </Page>
  );
}

const label = (data: MapData, id: string, t: ReturnType<typeof useT>) => {
  const node = data.nodes.find((item) => item.id === id);
  return node ? nodeLabel(node, t) : id;
};

function EdgeTable({ data, selected, sort, onSort, onOpen }: { data: MapData; selected?: string; sort?: string; onSort: (sort: string | undefined) => void; onOpen: (id: string) => void }) {
  const t = useT();
  const order = parseSort(sort) ?? { column: "sessions", descending: true };
  const value = (edge: MapEdge): string | number =>
    ({ from: label(data, edge.from, t), to: label(data, edge.to, t), verdict: VERDICTS.indexOf(edge.verdict), bytes: edge.bytes })[order.column] ?? edge.sessions;
  const rows = useMemo(() => {
    const sign = order.descending ? -1 : 1;
    return [...data.edges].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
  }, [data, sort]);
  const columns: Column<MapEdge>[] = [
    { id: "from", label: t("column.from"), width: "minmax(180px, 1.4fr)", sortable: true, render: (edge) => <span className="strong">{label(data, edge.from, t)}</span> },
    { id: "to", label: t("column.to"), width: "minmax(180px, 1.4fr)", sortable: true, render: (edge) => <span className="strong">{label(data, edge.to, t)}</span> },
    { id: "verdict", label: t("column.verdict"), width: "160px", sortable: true, render: (edge) => <VerdictBadge verdict={edge.verdict} label={t(`map.verdict.${edge.verdict}`)} /> },
    { id: "ports", label: t("column.ports"), width: "minmax(140px, 1fr)", render: (edge) => <span className="mono">{edge.ports.join(", ") || "–"}</span> },
    { id: "sessions", label: t("column.sessions"), width: "110px", sortable: true, render: (edge) => edge.sessions },
    { id: "bytes", label: t("column.bytes"), width: "110px", sortable: true, render: (edge) => bytes(edge.bytes) },
  ];
  return <Grid label={t("nav.network")} columns={columns} rows={rows} rowId={(edge) => edge.id} selected={selected} sort={sort} onSort={onSort} onOpen={(edge) => onOpen(edge.id)} />;
}

function EdgePanel({ edge, data, endpoints, onClose }: { edge: MapEdge; data: MapData; endpoints: Endpoint[]; onClose: () => void }) {
  const t = useT();
  const name = (id: string) => {
    const endpoint = endpoints.find((item) => item.id === id);
    return endpoint?.display_name || endpoint?.name || (endpoint?.kind === "external" || id === "external" ? t("map.external") : id.slice(0, 40));
  };
  return (
    <Drawer wide kind={t("map.conversation")} title={`${label(data, edge.from, t)} → ${label(data, edge.to, t)}`} onClose={onClose}>
      <Facts
        rows={[
          [t("column.verdict"), <VerdictBadge key="v" verdict={edge.verdict} label={t(`map.verdict.${edge.verdict}` as Key)} />],
          [t("column.ports"), edge.ports.join(", ")],
          [t("column.sessions"), edge.sessions],
          [t("column.bytes"), bytes(edge.bytes)],
        ]}
      />
      {edge.conversations.map((conversation) => (
        <section key={`${conversation.from} ${conversation.to}`}>
          <h3>{name(conversation.from)} → {name(conversation.to)}</h3>
          <Entries conversation={conversation} />
        </section>
      ))}
    </Drawer>
  );
}

function Entries({ conversation }: { conversation: Conversation }) {
  const t = useT();
  return (
    <div className="table-scroll">
      <table className="table">
        <thead>
          <tr>
            <th>{t("column.ports")}</th>
            <th>{t("column.applications")}</th>
            <th>{t("column.verdict")}</th>
            <th>{t("column.address")}</th>
            <th>{t("column.sessions")}</th>
            <th>{t("column.bytes")}</th>
            <th>{t("column.seen")}</th>
          </tr>
        </thead>
        <tbody>
          {(conversation.entries ?? []).map((entry, index) => {
            const verdict = verdictOf({ policy_action: entry.policy_action ?? "", severity: "", event_type: [] });
            return (
              <tr key={`${entry.port} ${entry.application} ${index}`}>
                <td className="mono">{entry.port || "–"}</td>
                <td>{entry.application || "–"}</td>
                <td><VerdictBadge verdict={verdict} label={entry.policy_action || "–"} /></td>
                <td className="mono">{entry.fqdn || [entry.client_ip, entry.server_ip].filter(Boolean).join(" → ") || "–"}</td>
                <td>{entry.sessions}</td>
                <td>{bytes(entry.bytes)}</td>
                <td><Time at={entry.last_seen_at} /></td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function NodePanel({ node, data, onEdge, onClose }: { node: MapNode; data: MapData; onEdge: (id: string) => void; onClose: () => void }) {
  const t = useT();
  const list = (edges: MapEdge[], end: "from" | "to") =>
    edges.length === 0 ? <p className="muted">{t("detail.none")}</p> : (
      <ul className="plain">
        {edges.map((edge) => (
          <li key={edge.id}>
            <button type="button" className="link" onClick={() => onEdge(edge.id)}>{label(data, edge[end], t)}</button>{" "}
            <VerdictBadge verdict={edge.verdict} label={t(`map.verdict.${edge.verdict}`)} /> <span className="muted">{edge.ports.join(", ")} · {bytes(edge.bytes)}</span>
          </li>
        ))}
      </ul>
    );
  return (
    <Drawer kind={t(`map.level.${data.level}`)} title={nodeLabel(node, t)} onClose={onClose}>
      <Facts
        rows={[
          [t("column.namespace"), node.domain],
          [t("column.members"), node.members],
          [t("mode.network"), <ModeBadge key="m" mode={node.mode} />],
          [t("column.service"), node.group ? <Link key="g" to="/groups" search={{ name: node.group }}>{node.group}</Link> : ""],
        ]}
      />
      <h3>{t("map.node.in")}</h3>
      {list(data.edges.filter((edge) => edge.to === node.id), "from")}
      <h3>{t("map.node.out")}</h3>
      {list(data.edges.filter((edge) => edge.from === node.id), "to")}
    </Drawer>
  );
}
