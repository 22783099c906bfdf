/** Assets › Containers. */
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { useWorkload, useWorkloads } from "../api/queries";
import type { Workload } from "../api/types";
import { bytes } from "../format";
import { useT } from "../i18n";
import { ModeBadge, ModePair } from "../parts/badges";
import { Drawer, Facts } from "../parts/drawer";
import { Choice, SearchBox, Toggle } from "../parts/filters";
import type { Column } from "../parts/grid";
import { Page, QueryGrid, rowsOf } from "../parts/list";
import { Failure, Skeleton } from "../parts/states";
import { Tabs } from "../parts/tabs";
import { Time } from "../parts/time";
import { Processes } from "./processes";
import { addresses, flatten, type Row, select } from "./pods";

const route = getRouteApi("/containers");

export default function Containers() {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/containers" });
  const set = (change: Partial<typeof search>, replace = true) => void navigate({ search: (old) => ({ ...old, ...change }), replace });
  const filtered = Boolean(search.q || search.namespace || search.state);
  const query = useWorkloads({ f_domain: search.namespace, f_state: search.state }, search.sort, filtered);
  const all = rowsOf(query);
  const chosen = useMemo(
    () => select(all, { q: search.q, namespace: search.namespace, state: search.state, exited: search.exited === "show" }),
    [query.data, search.q, search.namespace, search.state, search.exited],
  );
  const rows = useMemo(() => flatten(chosen), [chosen]);
  const namespaces = useMemo(
    () => [...new Set([...all.map((workload) => workload.domain), search.namespace ?? ""])].filter((name) => name !== "").sort(),
    [query.data, search.namespace],
  );
  const columns: Column<Row>[] = [
    {
      id: "display_name",
      label: t("column.name"),
      width: "minmax(220px, 2fr)",
      sortable: true,
      render: ({ workload, depth }) => (
        <app-containers-grid-name-cell>
          <span className={depth === 1 ? "child" : "strong"}>{(depth === 1 ? workload.name : workload.display_name) || workload.id.slice(0, 12)}</span>
        </app-containers-grid-name-cell>
      ),
    },
    { id: "domain", label: t("column.namespace"), width: "minmax(100px, 0.8fr)", sortable: true, render: ({ workload }) => workload.domain || "–" },
    { id: "service_group", label: t("column.service"), width: "minmax(160px, 1.2fr)", sortable: true, render: ({ workload }) => workload.service_group || "–" },
    { id: "image", label: t("column.image"), width: "minmax(160px, 1.4fr)", sortable: true, render: ({ workload }) => workload.image },
    { id: "host_name", label: t("column.node"), width: "minmax(90px, 0.8fr)", sortable: true, render: ({ workload }) => workload.host_name },
    { id: "interfaces", label: t("column.addresses"), width: "minmax(120px, 0.9fr)", render: ({ workload }) => addresses(workload).join(", ") || "–" },
    {
      id: "policy_mode",
      label: t("column.mode"),
      width: "minmax(120px, 1fr)",
      sortable: true,
      render: ({ workload }) =>
        workload.state === "exit" ? <span className="muted">exit</span> : <ModePair network={workload.policy_mode} process={workload.profile_mode} />,
    },
  ];
  return (
    <Page
      title={t("nav.containers")}
      count={query.data ? rows.length : undefined}
      tools={
        <>
          <SearchBox value={search.q} onChange={(q) => set({ q })} />
          {namespaces.length > 0 ? (
            <Choice label={t("column.namespace")} value={search.namespace} options={namespaces.map((name) => [name, name] as const)} onChange={(namespace) => set({ namespace })} />
          ) : null}
          <Choice
            label={t("column.state")}
            value={search.state}
            options={[["discover", t("mode.Discover")], ["monitor", t("mode.Monitor")], ["protect", t("mode.Protect")]] as const}
            onChange={(state) => set({ state })}
          />
          <Toggle label={t("containers.exited")} on={search.exited === "show"} onChange={(on) => set({ exited: on ? "show" : undefined })} />
        </>
      }
      drawer={search.id ? <Details key={search.id} id={search.id} onClose={() => set({ id: undefined, tab: undefined })} /> : undefined}
    >
      <QueryGrid
        label={t("nav.containers")}
        query={query as never}
        rows={rows}
        columns={columns}
        rowId={({ workload }) => workload.id}
        rowClass={({ workload }) => (workload.state === "exit" ? "is-off" : "")}
        selected={search.id}
        onOpen={({ workload }) => set({ id: workload.id }, false)}
        sort={search.sort}
        onSort={(sort) => set({ sort })}
        empty={t("containers.empty")}
        filtered={filtered}
        onClear={() => set({ q: undefined, namespace: undefined, state: undefined })}
      />
    </Page>
  );
}

function Details({ id, onClose }: { id: string; onClose: () => void }) {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/containers" });
  const query = useWorkload(id);
  const workload = query.data;
  return (
    <Drawer wide={search.tab === "processes"} kind={t("containers.details")} title={workload?.display_name || workload?.name || id.slice(0, 12)} onClose={onClose}>
      {query.isPending ? <Skeleton /> : query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : null}
      {workload ? (
        <Tabs
          label={t("containers.details")}
          selected={search.tab ?? "overview"}
          onSelect={(tab) => void navigate({ search: (old) => ({ ...old, tab: tab === "processes" ? tab : undefined }), replace: true })}
          items={[
            { key: "overview", label: t("detail.overview"), content: () => <Overview workload={workload} /> },
            { key: "processes", label: t("processes.title"), content: () => <Processes of="workload" id={id} /> },
          ]}
        />
      ) : null}
    </Drawer>
  );
}

function Overview({ workload }: { workload: Workload }) {
  const t = useT();
  const yesNo = (value: boolean | undefined) => (value ? t("yes") : t("no"));
  return (
    <>
      <Facts
        rows={[
          [t("column.state"), workload.state],
          [t("mode.network"), <ModeBadge key="n" mode={workload.policy_mode} />],
          [t("mode.process"), <ModeBadge key="p" mode={workload.profile_mode} />],
          [t("column.service"), workload.service_group ? <Link key="g" to="/groups" search={{ name: workload.service_group }}>{workload.service_group}</Link> : ""],
          [t("column.namespace"), workload.domain],
          [t("detail.pod"), workload.pod_name],
          [t("column.image"), workload.image],
          [t("column.node"), workload.host_name],
          [t("detail.enforcer"), workload.enforcer_name],
          [t("column.id"), <span key="i" className="mono wrap">{workload.id}</span>],
          [t("column.started"), <Time key="s" at={workload.started_at} />],
          [t("detail.secured"), <Time key="x" at={workload.secured_at} />],
          ...(workload.running === false
            ? ([[t("detail.finished"), <Time key="f" at={workload.finished_at} />], [t("detail.exit_code"), String(workload.exit_code ?? "")]] as [string, React.ReactNode][])
            : []),
          [t("detail.privileged"), yesNo(workload.privileged)],
          [t("detail.root"), yesNo(workload.run_as_root)],
          [t("column.cpus"), workload.cpus],
          [t("detail.limit"), workload.memory_limit ? bytes(workload.memory_limit) : t("detail.none")],
          [t("detail.account"), workload.service_account],
        ]}
      />
      <h3>{t("detail.network")}</h3>
      <Facts
        rows={[
          ...Object.entries(workload.interfaces ?? {}).map(([name, list]): [string, string] => [name, list.map((address) => `${address.ip}/${address.ip_prefix}`).join(", ")]),
          [
            t("detail.ports"),
            (workload.ports ?? []).map((port) => `${port.ip_proto === 17 ? "udp" : "tcp"}/${port.port}${port.host_port ? ` ← ${port.host_port}` : ""}`).join(", "),
          ],
          [t("column.applications"), (workload.applications ?? []).join(", ")],
        ]}
      />
      {Object.keys(workload.labels ?? {}).length > 0 ? (
        <>
          <h3>{t("detail.labels")}</h3>
          <Facts rows={Object.entries(workload.labels ?? {})} />
        </>
      ) : null}
    </>
  );
}
