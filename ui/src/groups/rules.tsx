/** Policy › Network Rules. */
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import { useRules } from "../api/queries";
import type { PolicyRule } from "../api/types";
import { useT } from "../i18n";
import { SearchBox } from "../parts/filters";
import type { Column } from "../parts/grid";
import { Page, QueryGrid, rowsOf } from "../parts/list";

const route = getRouteApi("/rules");

export default function Rules() {
  const t = useT();
  const search = route.useSearch();
  const navigate = useNavigate({ from: "/rules" });
  const query = useRules();
  const wanted = search.q?.toLowerCase() ?? "";
  const rows = rowsOf(query).filter((rule) =>
    [String(rule.id), rule.from, rule.to, rule.ports, rule.action, rule.comment].some((value) => value?.toLowerCase().includes(wanted)),
  );
  const columns: Column<PolicyRule>[] = [
    { id: "id", label: t("column.id"), width: "90px", render: (rule) => <span className="mono">{rule.id}</span> },
    { id: "from", label: t("column.from"), width: "minmax(180px, 1.4fr)", render: (rule) => rule.from },
    { id: "to", label: t("column.to"), width: "minmax(180px, 1.4fr)", render: (rule) => rule.to },
    { id: "ports", label: t("column.ports"), width: "minmax(110px, 1fr)", render: (rule) => <span className="mono">{rule.ports}</span> },
    { id: "applications", label: t("column.applications"), width: "minmax(110px, 0.8fr)", render: (rule) => (rule.applications ?? []).join(", ") },
    {
      id: "action",
      label: t("column.action"),
      width: "110px",
      render: (rule) => <span className={`badge ${rule.action === "deny" ? "verdict-deny" : "verdict-allow"}`}>{rule.disable ? t("rules.disabled") : rule.action}</span>,
    },
    { id: "cfg_type", label: t("column.origin"), width: "145px", render: (rule) => rule.cfg_type.replace("_", " ") },
    { id: "match_counter", label: t("column.matches"), width: "100px", render: (rule) => rule.match_counter ?? 0 },
  ];
  return (
    <Page
      title={t("nav.rules")}
      count={query.data ? rows.length : undefined}
      tools={<SearchBox value={search.q} onChange={(q) => void navigate({ search: (old) => ({ ...old, q }), replace: true })} />}
    >
      <QueryGrid
        label={t("nav.rules")}
        query={query}
        rows={rows}
        columns={columns}
        rowId={(rule) => String(rule.id)}
        rowClass={(rule) => (rule.disable ? "is-off" : "")}
        onOpen={(rule) => void navigate({ to: "/groups", search: { name: rule.from, tab: "rules" } })}
        empty={t("rules.empty")}
        filtered={Boolean(search.q)}
        onClear={() => void navigate({ search: {}, replace: true })}
      />
    </Page>
  );
}
