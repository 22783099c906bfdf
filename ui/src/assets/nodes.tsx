/** Assets › Nodes. */
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useHost, useHosts } from "../api/queries";
import type { Host } from "../api/types";
import { bytes } from "../format";
import { useT } from "../i18n";
import { ModeBadge, ModePair } from "../parts/badges";
import { Drawer, Facts } from "../parts/drawer";
import { SearchBox } from "../parts/filters";
import type { Column } from "../parts/grid";
import { Page, QueryGrid, rowsOf } from "../parts/list";
import { Failure, Skeleton } from "../parts/states";
import { Tabs } from "../parts/tabs";
import { Processes } from "./processes";

const route = getRouteApi("/nodes");

export default function Nodes() {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/nodes" });
  const set = (change: Partial<typeof search>, replace = true) => void navigate({ search: (old) => ({ ...old, ...change }), replace });
  const query = useHosts(search.sort);
  const wanted = search.q?.toLowerCase() ?? "";
  const rows = rowsOf(query).filter((host) => [host.name, host.id, host.os, host.kernel].some((value) => value?.toLowerCase().includes(wanted)));
  const columns: Column<Host>[] = [
    { id: "name", label: t("column.name"), width: "minmax(160px, 1.4fr)", sortable: true, render: (host) => <span className="strong">{host.name || host.id}</span> },
    { id: "state", label: t("column.state"), width: "minmax(100px, 0.8fr)", sortable: true, render: (host) => host.state || "–" },
    { id: "policy_mode", label: t("column.mode"), width: "minmax(120px, 1fr)", sortable: true, render: (host) => <ModePair network={host.policy_mode} process={host.profile_mode} /> },
    { id: "os", label: t("column.os"), width: "minmax(140px, 1.2fr)", sortable: true, render: (host) => host.os },
    { id: "kernel", label: t("column.kernel"), width: "minmax(140px, 1fr)", sortable: true, render: (host) => host.kernel },
    { id: "runtime", label: t("column.runtime"), width: "minmax(120px, 1fr)", sortable: true, render: (host) => `${host.runtime} ${host.runtime_version ?? ""}` },
    { id: "containers", label: t("column.containers"), width: "100px", sortable: true, render: (host) => host.containers },
    { id: "cpus", label: t("column.cpus"), width: "70px", sortable: true, render: (host) => host.cpus },
    { id: "memory", label: t("column.memory"), width: "100px", sortable: true, render: (host) => bytes(host.memory ?? 0) },
  ];
  return (
    <Page
      title={t("nav.nodes")}
      count={query.data ? rows.length : undefined}
      tools={<SearchBox value={search.q} onChange={(q) => set({ q })} />}
      drawer={search.id ? <Details key={search.id} id={search.id} onClose={() => set({ id: undefined, tab: undefined })} /> : undefined}
    >
      <QueryGrid
        label={t("nav.nodes")}
        query={query}
        rows={rows}
        columns={columns}
        rowId={(host) => host.id}
        selected={search.id}
        onOpen={(host) => set({ id: host.id }, false)}
        sort={search.sort}
        onSort={(sort) => set({ sort })}
        empty={t("nodes.empty")}
        filtered={Boolean(search.q)}
        onClear={() => set({ q: undefined })}
      />
    </Page>
  );
}

function Details({ id, onClose }: { id: string; onClose: () => void }) {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/nodes" });
  const query = useHost(id);
  const host = query.data;
  return (
    <Drawer wide={search.tab === "processes"} kind={t("column.node")} title={host?.name || id} onClose={onClose}>
      {query.isPending ? <Skeleton /> : query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : null}
      {host ? (
        <Tabs
          label={t("column.node")}
          selected={search.tab ?? "overview"}
          onSelect={(tab) => void navigate({ search: (old) => ({ ...old, tab: tab === "processes" ? tab : undefined }), replace: true })}
          items={[
            { key: "overview", label: t("detail.overview"), content: () => <Overview host={host} /> },
            { key: "processes", label: t("processes.title"), content: () => <Processes of="host" id={id} /> },
          ]}
        />
      ) : null}
    </Drawer>
  );
}

function Overview({ host }: { host: Host }) {
  const t = useT();
  return (
    <>
      <Facts
        rows={[
          [t("column.id"), <span key="i" className="mono wrap">{host.id}</span>],
          [t("column.state"), host.state],
          [t("mode.network"), <ModeBadge key="n" mode={host.policy_mode} />],
          [t("mode.process"), <ModeBadge key="p" mode={host.profile_mode} />],
          [t("column.service"), <Link key="g" to="/groups" search={{ name: "nodes" }}>nodes</Link>],
          [t("column.platform"), host.platform],
          [t("column.os"), host.os],
          [t("column.kernel"), host.kernel],
          [t("column.runtime"), `${host.runtime} ${host.runtime_version ?? ""}`],
          ["cgroup", host.cgroup_version ? `v${host.cgroup_version}` : ""],
          [t("column.containers"), host.containers],
          [t("column.cpus"), host.cpus],
          [t("column.memory"), bytes(host.memory ?? 0)],
        ]}
      />
      <h3>{t("detail.network")}</h3>
      <Facts
        rows={Object.entries(host.interfaces ?? {}).map(([name, list]): [string, string] => [name, list.map((address) => `${address.ip}/${address.ip_prefix}`).join(", ")])}
      />
      <p>
        <Link to="/containers" search={{ q: host.name }}>{t("nav.containers")} →</Link>
      </p>
    </>
  );
}
