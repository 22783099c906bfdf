/** What runs in a container or on a host itself, and what ran. */
import { useState } from "react";
import { useProcesses } from "../api/queries";
import type { Process } from "../api/types";
import { useT } from "../i18n";
import { Toggle } from "../parts/filters";
import { Failure, Skeleton } from "../parts/states";
import { Time } from "../parts/time";
import { tree } from "./tree";

const INDENT_EM = 1.1;

export function Processes({ of, id }: { of: "workload" | "host"; id: string }) {
  const t = useT();
  const [history, setHistory] = useState(false);
  const query = useProcesses(of, id, history);
  return (
    <>
      <div className="tools">
        <Toggle label={t("processes.history")} on={history} onChange={setHistory} />
      </div>
      {query.isPending ? <Skeleton rows={4} /> : null}
      {query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : null}
      {query.data ? <List processes={query.data} /> : null}
    </>
  );
}

function List({ processes }: { processes: Process[] }) {
  const t = useT();
  if (processes.length === 0) return <p className="muted">{t("processes.empty")}</p>;
  return (
    <div className="table-scroll">
      <table className="table">
        <thead>
          <tr>
            <th>{t("column.name")}</th><th>{t("processes.pid")}</th><th>{t("events.command")}</th><th>{t("events.user")}</th>
            <th>{t("column.state")}</th><th>{t("column.verdict")}</th><th>{t("column.started")}</th>
          </tr>
        </thead>
        <tbody>
          {tree(processes).map(({ process, depth }) => (
            <tr key={`${process.pid} ${process.start_timestamp} ${process.end_timestamp ?? ""} ${process.path}`} className={process.end_timestamp ? "is-off" : undefined}>
              <td className="strong" style={{ paddingInlineStart: `${depth * INDENT_EM + 0.6}em` }} title={process.path}>{process.name}</td>
              <td className="mono">{process.pid}</td>
              <td className="mono wrap">{process.cmdline || process.path}</td>
              <td>{process.user || process.uid}{process.euid !== process.uid ? ` → ${process.euid === 0 ? "root" : process.euid}` : ""}</td>
              <td>{state(process, t)}</td>
              <td>{process.action ? <span className={`badge verdict-${process.action === "deny" || process.action === "violate" ? process.action : "allow"}`}>{process.action}</span> : "–"}</td>
              <td><Time at={process.start_timestamp} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function state(process: Process, t: ReturnType<typeof useT>): string {
  if (process.end_timestamp === undefined) return process.status;
  return process.exit_code === undefined ? t("processes.ended") : t("processes.exited", { code: process.exit_code });
}
