/** Notifications › Security Events: threats, violations and incidents in one live list. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { config } from "../config";
import { useT, type Translate } from "../i18n";
import type { Key } from "../i18n/en";
import { LevelBadge, VerdictBadge, type Verdict } from "../parts/badges";
import { Drawer, Facts } from "../parts/drawer";
import { Choice, SearchBox } from "../parts/filters";
import type { Column } from "../parts/grid";
import { Page, QueryGrid } from "../parts/list";
import { Failure, Skeleton } from "../parts/states";
import { Time } from "../parts/time";
import { download, toCsv } from "./csv";
import { LEVELS, SINCE, TYPES } from "./filters";
import { fetchEvents, useEvents } from "./live";
import { type Filter, matches, merge, type Outcome, type SecurityEvent, type Side, sideName } from "./model";

const VERDICTS: Record<Outcome, Verdict> = { stopped: "deny", reported: "violate", allowed: "allow" };
const now = () => Date.now() / 1000;

function summary(event: SecurityEvent, t: Translate): string {
  if (event.target) return t("events.connection", { client: sideName(event.source), server: sideName(event.target), port: event.port });
  const what = event.file || event.process.path || event.process.name || event.name;
  return t("events.process", { name: what, where: sideName({ ...event.source, name: event.source.name || event.node }) });
}

export default function Events() {
  const t = useT();
  const search: Filter = useSearch({ strict: false }) as Filter;
  const { id } = useParams({ strict: false });
  const navigate = useNavigate();
  const filter = { q: search.q, type: search.type, level: search.level, since: search.since };
  const go = (change: Partial<typeof filter>) =>
    void navigate(id ? { to: "/events/$id", params: { id }, search: { ...filter, ...change }, replace: true } : { to: "/events", search: { ...filter, ...change }, replace: true });
  const { query, events, paused, waiting, pause, resume } = useEvents();
  const [exporting, setExporting] = useState(false);
  const rows = useMemo(
    () => events.filter((event) => matches(event, filter, now())),
    [events, filter.q, filter.type, filter.level, filter.since],
  );
  const filtered = Boolean(filter.q || filter.type || filter.level || filter.since);

  const exportAll = async () => {
    setExporting(true);
    try {
      const all = merge(...(await fetchEvents({ limit: 0 }, filter.type ? [filter.type] : TYPES)));
      download(`security-events-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.csv`, toCsv(all.filter((event) => matches(event, filter, now()))));
    } finally {
      setExporting(false);
    }
  };

  const columns: Column<SecurityEvent>[] = [
    { id: "reported_timestamp", label: t("column.time"), width: "minmax(230px, 0.8fr)", render: (event) => <Time at={event.at} /> },
    { id: "level", label: t("column.severity"), width: "100px", render: (event) => <LevelBadge level={event.level} /> },
    { id: "action", label: t("column.verdict"), width: "120px", render: (event) => <VerdictBadge verdict={VERDICTS[event.outcome]} label={t(`events.${event.outcome}` as Key)} /> },
    { id: "summary", label: t("column.event"), width: "minmax(260px, 2.4fr)", render: (event) => <span className="strong">{summary(event, t)}</span> },
    { id: "type", label: t("column.type"), width: "130px", render: (event) => t(`events.type.${event.type}`) },
    { id: "group", label: t("column.service"), width: "minmax(140px, 1fr)", render: (event) => event.group || event.source.service || "–" },
    { id: "host_name", label: t("column.node"), width: "minmax(90px, 0.6fr)", render: (event) => event.node },
  ];
  return (
    <Page
      title={t("nav.security_events")}
      count={query.data ? rows.length : undefined}
      actions={
        <>
          <button type="button" className={`button live ${paused ? "is-paused" : ""}`} onClick={paused ? resume : pause}>
            <span className="live-dot" aria-hidden="true" />
            {paused ? `${t("live.resume")}${waiting > 0 ? ` (${t("live.waiting", { count: waiting })})` : ""}` : t("live.pause")}
          </button>
          <button type="button" className="button" disabled={exporting || rows.length === 0} onClick={() => void exportAll()}>
            {t("list.export")}
          </button>
        </>
      }
      tools={
        <>
          <SearchBox value={filter.q} onChange={(q) => go({ q })} />
          <Choice label={t("column.type")} value={filter.type} options={TYPES.map((type) => [type, t(`events.type.${type}`)] as const)} onChange={(type) => go({ type })} />
          <Choice label={t("events.severity")} value={filter.level} options={LEVELS.map((level) => [level, level] as const)} onChange={(level) => go({ level })} />
          <Choice label={t("events.since")} value={filter.since} options={SINCE.map((since) => [since, t(`events.since.${since}`)] as const)} onChange={(since) => go({ since })} />
        </>
      }
      drawer={id ? <Details key={id} id={id} events={events} onClose={() => void navigate({ to: "/events", search: filter })} /> : undefined}
    >
      <QueryGrid
        label={t("nav.security_events")}
        query={query as never}
        rows={rows}
        columns={columns}
        rowId={(event) => event.id}
        rowClass={(event) => `outcome-${event.outcome}`}
        selected={id}
        onOpen={(event) => void navigate({ to: "/events/$id", params: { id: event.id }, search: filter })}
        empty={t("events.empty")}
        filtered={filtered}
        onClear={() => go({ q: undefined, type: undefined, level: undefined, since: undefined })}
      />
    </Page>
  );
}

/** The event with this id, from the list or from the logs: a link opens it wherever it is. */
function Details({ id, events, onClose }: { id: string; events: SecurityEvent[]; onClose: () => void }) {
  const t = useT();
  const [copied, setCopied] = useState(false);
  const listed = events.find((event) => event.id === id);
  const query = useQuery({
    queryKey: ["event", id],
    queryFn: async ({ signal }) => (await fetchEvents({ f_id: id, limit: 1 }, TYPES, signal)).flat().find((event) => event.id === id) ?? null,
    enabled: !listed,
  });
  const event = listed ?? query.data;
  return (
    <Drawer wide kind={t("events.details")} title={event ? summary(event, t) : id} onClose={onClose}>
      {!event && query.isPending ? <Skeleton /> : null}
      {!event && query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : null}
      {!event && query.isSuccess ? <p className="muted">{t("detail.not_found")}</p> : null}
      {event ? (
        <>
          <p className="row tight">
            <LevelBadge level={event.level} />
            <VerdictBadge verdict={VERDICTS[event.outcome]} label={t(`events.${event.outcome}` as Key)} />
            <span className="muted">{event.name}</span>
          </p>
          {event.message ? <p>{event.message}</p> : null}
          <Facts
            rows={[
              [t("column.time"), <Time key="t" at={event.at} />],
              ...(event.target
                ? ([[t("column.from"), <SideLink key="f" side={event.source} />], [t("column.to"), <SideLink key="o" side={event.target} />], [t("column.ports"), event.port]] as [string, React.ReactNode][])
                : ([[t("column.where"), <SideLink key="w" side={{ ...event.source, name: event.source.name || event.node }} />]] as [string, React.ReactNode][])),
              ...(event.process.name || event.process.path
                ? ([
                    [t("column.path"), <span key="p" className="mono wrap">{event.process.path || event.process.name}</span>],
                    [t("events.command"), <span key="c" className="mono wrap">{event.process.command}</span>],
                    [t("events.parent"), <span key="a" className="mono wrap">{event.process.parent}</span>],
                    [t("events.user"), event.process.user],
                  ] as [string, React.ReactNode][])
                : []),
              [t("column.service"), event.group || event.source.service ? <Link key="g" to="/groups" search={{ name: event.group || event.source.service }}>{event.group || event.source.service}</Link> : ""],
              [t("column.rule"), event.rule === "0" ? "" : event.rule],
              ...(event.behaviour ? ([[t("events.behaviour"), event.behaviour]] as [string, React.ReactNode][]) : []),
              ...(event.attack ? ([[t("events.attack"), <a key="a" href={technique(event.attack)} target="_blank" rel="noreferrer">{event.attack}</a>]] as [string, React.ReactNode][]) : []),
              ...(event.mechanism ? ([[t("events.mechanism"), event.decisionMicros > 0 ? `${event.mechanism} · ${event.decisionMicros.toFixed(1)} µs` : event.mechanism]] as [string, React.ReactNode][]) : []),
              [t("column.node"), event.node],
              [t("column.id"), <span key="i" className="mono wrap">{event.id}</span>],
            ]}
          />
          <p>
            <button
              type="button"
              className="button"
              onClick={() => {
                void navigator.clipboard.writeText(`${location.origin}${config.prefix}/events/${encodeURIComponent(event.id)}`).then(() => setCopied(true));
              }}
            >
              {copied ? t("events.copied") : t("events.link")}
            </button>
          </p>
          <details>
            <summary>{t("events.raw")}</summary>
            <pre className="raw" tabIndex={0}>{JSON.stringify(event.raw, null, 2)}</pre>
          </details>
        </>
      ) : null}
    </Drawer>
  );
}

function SideLink({ side }: { side: Side }) {
  const detail = [side.domain, side.ip].filter((value) => value !== "").join(" · ");
  return (
    <>
      {/^[0-9a-f]{32,}$/.test(side.id) ? <Link to="/containers" search={{ id: side.id }}>{sideName(side)}</Link> : sideName(side)}
      {detail && detail !== sideName(side) ? <span className="muted"> {detail}</span> : null}
    </>
  );
}

/** The technique's own page; its id comes from a record, so only its form is let through. */
function technique(id: string): string {
  const known = /^T\d{4}(\.\d{3})?$/.test(id) ? `${id.replace(".", "/")}/` : "";
  return `https://attack.mitre.org/techniques/${known}`;
}
