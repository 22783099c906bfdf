/** Assets › System Components: what the product itself consists of, and whether it is well. */
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import { useComponents } from "../api/queries";
import type { Component } from "../api/types";
import { useT } from "../i18n";
import { Drawer, Facts } from "../parts/drawer";
import type { Column } from "../parts/grid";
import { Page, QueryGrid, rowsOf } from "../parts/list";
import { Failure, Skeleton } from "../parts/states";
import { Tabs } from "../parts/tabs";
import { Time } from "../parts/time";

const route = getRouteApi("/components");
const CONNECTED = "connected";

export default function Components() {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/components" });
  return (
    <Page title={t("nav.components")} drawer={search.id ? <Enforcer key={search.id} id={search.id} onClose={() => void navigate({ search: (old) => ({ ...old, id: undefined }) })} /> : undefined}>
      <Tabs
        fill
        label={t("nav.components")}
        selected={search.tab ?? "controllers"}
        onSelect={(key) => void navigate({ search: { tab: key === "enforcers" ? key : undefined }, replace: true })}
        items={[
          { key: "controllers", label: t("components.controllers"), content: () => <app-controllers-grid><List key="controller" kind="controller" /></app-controllers-grid> },
          { key: "enforcers", label: t("components.enforcers"), content: () => <app-enforcers-grid><List key="enforcer" kind="enforcer" selected={search.id} onOpen={(part) => void navigate({ search: (old) => ({ ...old, id: part.id }) })} /></app-enforcers-grid> },
        ]}
      />
    </Page>
  );
}

function List({ kind, selected, onOpen }: { kind: "controller" | "enforcer"; selected?: string; onOpen?: (part: Component) => void }) {
  const t = useT();
  const query = useComponents(kind);
  const Status = `app-${kind}s-grid-status-cell` as const;
  const columns: Column<Component>[] = [
    { id: "display_name", label: t("column.name"), width: "minmax(180px, 1.5fr)", render: (part) => <span className="strong">{part.display_name || part.name || part.id}</span> },
    {
      id: "connection_state",
      label: t("column.state"),
      width: "minmax(145px, 0.8fr)",
      render: (part) => {
        const well = part.connection_state === CONNECTED;
        return (
          <Status>
            <span className={`badge ${well ? "state-good" : "state-bad"}`}>
              {well ? t("components.connected") : part.connection_state === "disconnected" ? t("components.disconnected") : part.connection_state}
            </span>
          </Status>
        );
      },
    },
    { id: "host_name", label: t("column.host"), width: "minmax(120px, 1fr)", render: (part) => part.host_name },
    { id: "cluster_ip", label: t("column.address"), width: "minmax(120px, 1fr)", render: (part) => part.cluster_ip || "–" },
    { id: "version", label: t("column.version"), width: "minmax(90px, 0.7fr)", render: (part) => part.version },
    { id: "joined_at", label: t("column.joined"), width: "minmax(260px, 1.6fr)", render: (part) => <Time at={part.connection_state === CONNECTED ? part.joined_at : part.disconnected_at || part.joined_at} /> },
    kind === "controller"
      ? { id: "leader", label: t("column.leader"), width: "80px", render: (part) => (part.leader ? t("yes") : t("no")) }
      : { id: "tier", label: t("column.enforcement"), width: "minmax(160px, 1.2fr)", render: (part) => enforcement(part) },
  ];
  return (
    <QueryGrid
      label={kind === "controller" ? t("components.controllers") : t("components.enforcers")}
      query={query}
      rows={rowsOf(query)}
      columns={columns}
      rowId={(part) => part.id}
      selected={selected}
      onOpen={onOpen}
      empty={t("components.empty")}
    />
  );
}

/** How this node's kernel lets the enforcer act. */
function enforcement(part: Component): string {
  const known = [part.process_tier, part.network_tier].filter((tier) => typeof tier === "string" && tier !== "");
  return known.join(" · ") || "–";
}

/** An enforcer and what its node's kernel was found to allow. */
function Enforcer({ id, onClose }: { id: string; onClose: () => void }) {
  const t = useT();
  const query = useComponents("enforcer");
  const part = rowsOf(query).find((item) => item.id === id);
  const capabilities = part?.capabilities;
  return (
    <Drawer wide kind={t("components.enforcers")} title={part?.display_name || part?.name || id} onClose={onClose}>
      {query.isPending ? <Skeleton /> : query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : null}
      {query.isSuccess && !part ? <p className="muted">{t("detail.not_found")}</p> : null}
      {part ? (
        <Facts
          rows={[
            [t("column.state"), part.connection_state],
            [t("column.host"), part.host_name],
            [t("column.version"), part.version],
            [t("column.kernel"), capabilities?.kernel],
            [t("components.processes"), part.process_tier],
            [t("components.connections"), part.network_tier],
            [t("components.tier"), capabilities?.tier],
          ]}
        />
      ) : null}
      {capabilities?.lost?.length ? (
        <>
          <h3>{t("components.lost")}</h3>
          <ul className="bullets">{capabilities.lost.map((sentence) => <li key={sentence}>{sentence}</li>)}</ul>
        </>
      ) : null}
      {capabilities?.trials?.length ? (
        <>
          <h3>{t("components.trials")}</h3>
          <table className="table">
            <thead>
              <tr><th>{t("components.mechanism")}</th><th>{t("components.works")}</th><th>{t("components.took")}</th></tr>
            </thead>
            <tbody>
              {capabilities.trials.map((trial) => (
                <tr key={trial.mechanism}>
                  <td className="mono">{trial.mechanism}</td>
                  <td>
                    <span className={`badge ${trial.works ? "state-good" : "state-off"}`}>{trial.works ? t("yes") : t("no")}</span>
                    {trial.reason ? <span className="muted"> {trial.reason}</span> : null}
                  </td>
                  <td className="time">{(trial.trial_micros / 1000).toFixed(1)} ms</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      ) : null}
    </Drawer>
  );
}
