/** Policy › Groups. */
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useGroup, useGroups, useProcessProfile } from "../api/queries";
import type { Group, PolicyRule, ProcessEntry, Workload } from "../api/types";
import { useT } from "../i18n";
import { ModeBadge, ModePair } from "../parts/badges";
import { Drawer, Facts } from "../parts/drawer";
import { Choice, SearchBox } from "../parts/filters";
import type { Column } from "../parts/grid";
import { Page, QueryGrid, rowsOf } from "../parts/list";
import { Failure, Skeleton } from "../parts/states";
import { Tabs } from "../parts/tabs";
import { Time } from "../parts/time";
import { Files } from "./files";
import { ModeSwitch } from "./mode";
import { RuleTable } from "./rule-table";
import { serviceName } from "./service";

const route = getRouteApi("/groups");

export default function Groups() {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/groups" });
  const set = (change: Partial<typeof search>, replace = true) => void navigate({ search: (old) => ({ ...old, ...change }), replace });
  const filtered = Boolean(search.q || search.mode);
  const query = useGroups({ f_policy_mode: search.mode }, search.sort, filtered);
  const wanted = search.q?.toLowerCase() ?? "";
  const rows = rowsOf(query).filter(
    (group) =>
      (!search.mode || group.policy_mode === search.mode) &&
      [group.name, group.domain, group.comment].some((value) => value?.toLowerCase().includes(wanted)),
  );
  const columns: Column<Group>[] = [
    { id: "name", label: t("column.name"), width: "minmax(240px, 2fr)", sortable: true, render: (group) => <span className="strong">{group.name}</span> },
    { id: "domain", label: t("column.namespace"), width: "minmax(110px, 0.8fr)", sortable: true, render: (group) => group.domain || "–" },
    { id: "kind", label: t("column.kind"), width: "110px", sortable: true, render: (group) => group.kind },
    { id: "cfg_type", label: t("column.origin"), width: "145px", sortable: true, render: (group) => group.cfg_type.replace("_", " ") },
    { id: "members", label: t("column.members"), width: "90px", render: (group) => group.members?.length ?? 0 },
    { id: "policy_mode", label: t("column.mode"), width: "minmax(180px, 1fr)", sortable: true, render: (group) => <ModePair network={group.policy_mode} process={group.profile_mode} /> },
    { id: "policy_rules", label: t("column.rules"), width: "80px", render: (group) => group.policy_rules?.length ?? 0 },
  ];
  return (
    <Page
      title={t("nav.groups")}
      count={query.data ? rows.length : undefined}
      tools={
        <>
          <SearchBox value={search.q} onChange={(q) => set({ q })} />
          <Choice
            label={t("mode.network")}
            value={search.mode}
            options={[["Discover", t("mode.Discover")], ["Monitor", t("mode.Monitor")], ["Protect", t("mode.Protect")]] as const}
            onChange={(mode) => set({ mode })}
          />
        </>
      }
      drawer={search.name ? <Details key={search.name} name={search.name} onClose={() => set({ name: undefined, tab: undefined })} /> : undefined}
    >
      <QueryGrid
        label={t("nav.groups")}
        query={query}
        rows={rows}
        columns={columns}
        rowId={(group) => group.name}
        selected={search.name}
        onOpen={(group) => set({ name: group.name }, false)}
        sort={search.sort}
        onSort={(sort) => set({ sort })}
        empty={t("groups.empty")}
        filtered={filtered}
        onClear={() => set({ q: undefined, mode: undefined })}
      />
    </Page>
  );
}

function Details({ name, onClose }: { name: string; onClose: () => void }) {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/groups" });
  const query = useGroup(name);
  const group = query.data;
  const rules = (group?.policy_rules ?? []).filter((rule): rule is PolicyRule => typeof rule === "object");
  return (
    <Drawer wide kind={t("column.service")} title={name} onClose={onClose}>
      {query.isPending ? <Skeleton /> : query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : null}
      {group ? (
        <>
          {serviceName(group.name) && group.policy_mode ? (
            <>
              <ModeSwitch group={group} of="network" />
              <ModeSwitch group={group} of="process" />
            </>
          ) : (
            <p className="muted">{t("groups.fixed")}</p>
          )}
          {group.criteria?.length ? <Facts rows={[[t("groups.criteria"), group.criteria.map((entry) => `${entry.key} ${entry.op} ${entry.value}`).join("; ")]]} /> : null}
          <Tabs
            label={name}
            selected={search.tab ?? "members"}
            onSelect={(key) => void navigate({ search: (old) => ({ ...old, tab: key === "members" ? undefined : key }), replace: true })}
            items={[
              { key: "members", label: <>{t("groups.members")} <span className="pill">{group.members?.length ?? 0}</span></>, content: () => <Members members={group.members ?? []} /> },
              { key: "profile", label: t("groups.profile"), content: () => <Profile group={name} /> },
              ...(group.kind === "container" ? [{ key: "files" as const, label: t("groups.files"), content: () => <Files group={name} /> }] : []),
              {
                key: "rules",
                label: <>{t("groups.rules")} <span className="pill">{rules.length}</span></>,
                content: () => (rules.length === 0 ? <p className="muted">{t("groups.rules.empty")}</p> : <RuleTable rules={rules} />),
              },
            ]}
          />
        </>
      ) : null}
    </Drawer>
  );
}

function Members({ members }: { members: Workload[] }) {
  const t = useT();
  if (members.length === 0) return <p className="muted">{t("groups.members.empty")}</p>;
  return (
    <table className="table">
      <thead>
        <tr><th>{t("column.name")}</th><th>{t("column.node")}</th><th>{t("column.mode")}</th></tr>
      </thead>
      <tbody>
        {members.map((member) => (
          <tr key={member.id}>
            <td><Link to="/containers" search={{ id: member.id }}>{member.display_name || member.name || member.id.slice(0, 12)}</Link></td>
            <td>{member.host_name}</td>
            <td><ModePair network={member.policy_mode} process={member.profile_mode} /></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Profile({ group }: { group: string }) {
  const t = useT();
  const query = useProcessProfile(group);
  if (query.isPending) return <Skeleton rows={4} />;
  if (query.error) return <Failure error={query.error} retry={() => void query.refetch()} />;
  const list: ProcessEntry[] = query.data.process_list ?? [];
  return (
    <>
      <p className="row tight">
        <ModeBadge mode={query.data.mode} />
        <span className="muted">{t("groups.baseline", { name: query.data.baseline })}</span>
      </p>
      {list.length === 0 ? <p className="muted">{t("groups.profile.empty")}</p> : (
        <table className="table">
          <thead>
            <tr><th>{t("column.name")}</th><th>{t("column.path")}</th><th>{t("column.action")}</th><th>{t("column.origin")}</th><th>{t("column.changed")}</th></tr>
          </thead>
          <tbody>
            {list.map((entry) => (
              <tr key={entry.uuid || `${entry.name} ${entry.path}`}>
                <td>{entry.name}</td>
                <td className="mono wrap">{entry.path || "–"}</td>
                <td><span className={`badge ${entry.action === "deny" ? "verdict-deny" : "verdict-allow"}`}>{entry.action}</span></td>
                <td>{entry.cfg_type.replace("_", " ")}</td>
                <td><Time at={entry.last_modified_timestamp} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
