/** Network rules in their order; the first that matches decides. */
import { Link } from "@tanstack/react-router";
import type { PolicyRule } from "../api/types";
import { useT } from "../i18n";

export function RuleTable({ rules }: { rules: PolicyRule[] }) {
  const t = useT();
  return (
    <div className="table-scroll">
      <table className="table">
        <thead>
          <tr>
            <th>{t("column.id")}</th>
            <th>{t("column.from")}</th>
            <th>{t("column.to")}</th>
            <th>{t("column.ports")}</th>
            <th>{t("column.applications")}</th>
            <th>{t("column.action")}</th>
            <th>{t("column.origin")}</th>
            <th>{t("column.matches")}</th>
          </tr>
        </thead>
        <tbody>
          {rules.map((rule) => (
            <tr key={rule.id} className={rule.disable ? "is-off" : ""}>
              <td className="mono">{rule.id}</td>
              <td><GroupLink name={rule.from} /></td>
              <td><GroupLink name={rule.to} /></td>
              <td className="mono">{rule.ports}</td>
              <td>{(rule.applications ?? []).join(", ")}</td>
              <td><span className={`badge ${rule.action === "deny" ? "verdict-deny" : "verdict-allow"}`}>{rule.disable ? t("rules.disabled") : rule.action}</span></td>
              <td>{rule.cfg_type.replace("_", " ")}</td>
              <td>{rule.match_counter ?? 0}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function GroupLink({ name }: { name: string }) {
  return <Link to="/groups" search={{ name }}>{name}</Link>;
}
