/** The file rules of a group: which files are watched, and which only some programs may open. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api } from "../api/client";
import { fileMonitor, useFileFilters } from "../api/queries";
import type { FileFilter } from "../api/types";
import { useT } from "../i18n";
import { Dialog } from "../parts/dialog";
import { Toggle } from "../parts/filters";
import { Failure, Skeleton } from "../parts/states";
import { useCanWrite } from "../session/access";
import { FileForm } from "./file-form";
import { changeOf } from "./file-rule";

/** What is open above the list. */
type Open = { what: "add" } | { what: "edit" | "delete"; rule: FileFilter };

export function Files({ group }: { group: string }) {
  const t = useT();
  const client = useQueryClient();
  const allowed = useCanWrite("rt_policy");
  const [builtIn, setBuiltIn] = useState(false);
  const [open, setOpen] = useState<Open>();
  const query = useFileFilters(group, builtIn);
  const change = useMutation({
    mutationFn: (body: unknown) => api.patch(fileMonitor(group), body),
    onSuccess: () => {
      setOpen(undefined);
      void client.invalidateQueries({ queryKey: ["one"] });
    },
  });
  const show = (next: Open | undefined) => {
    change.reset();
    setOpen(next);
  };
  if (query.isPending) return <Skeleton rows={4} />;
  if (query.error) return <Failure error={query.error} retry={() => void query.refetch()} />;
  const rules = query.data;
  const failure = change.error ? t("files.failed", { message: change.error.message }) : undefined;
  return (
    <>
      <div className="tools">
        <Toggle label={t("files.built_in")} on={builtIn} onChange={setBuiltIn} />
        {allowed ? <button type="button" className="button" onClick={() => show({ what: "add" })}>{t("files.add")}</button> : null}
      </div>
      <p role="status" className="sr-only">{change.isSuccess ? t("files.saved", { group }) : ""}</p>
      {rules.length === 0 ? <p className="muted">{t("files.empty")}</p> : <FileTable rules={rules} onOpen={allowed ? show : undefined} />}
      {open && open.what !== "delete" ? (
        <FileForm
          rules={rules}
          before={open.what === "edit" ? open.rule : undefined}
          busy={change.isPending}
          failure={failure}
          onSave={(draft) => change.mutate(changeOf(draft, open.what === "edit" ? open.rule : undefined))}
          onClose={() => show(undefined)}
        />
      ) : null}
      <Dialog alert isOpen={open?.what === "delete"} onClose={() => show(undefined)} title={open?.what === "delete" ? t("files.delete", { filter: open.rule.filter }) : ""}>
        {open?.what === "delete" ? (
          <>
            <p>{t("files.delete.text", { group })}</p>
            {failure ? <p className="problem" role="alert">{failure}</p> : null}
            <div className="dialog-actions">
              <button type="button" className="button" onClick={() => show(undefined)}>{t("mode.cancel")}</button>
              <button type="button" className="button primary" autoFocus disabled={change.isPending} onClick={() => change.mutate({ config: { delete_filters: [open.rule] } })}>
                {t("files.delete.button")}
              </button>
            </div>
          </>
        ) : null}
      </Dialog>
    </>
  );
}

function FileTable({ rules, onOpen }: { rules: FileFilter[]; onOpen?: (open: Open) => void }) {
  const t = useT();
  return (
    <div className="table-scroll">
      <table className="table">
        <thead>
          <tr>
            <th>{t("column.path")}</th><th>{t("files.behavior")}</th><th>{t("column.applications")}</th><th>{t("column.origin")}</th>
          </tr>
        </thead>
        <tbody>
          {rules.map((rule) => (
            <tr key={`${rule.cfg_type} ${rule.filter}`}>
              <td className="mono wrap path">{rule.filter}{rule.recursive ? <span className="muted"> {t("files.recursive.short")}</span> : null}</td>
              <td><span className={`badge verdict-${rule.behavior === "block_access" ? "deny" : "violate"}`}>{t(`files.${rule.behavior}`)}</span></td>
              <td className="mono wrap">{rule.applications.join(", ") || "–"}</td>
              <td>
                {rule.cfg_type.replace("_", " ")}
                {onOpen && rule.cfg_type === "user_created" ? (
                  <span className="row tight">
                    <button type="button" className="link" aria-label={t("files.edit", { filter: rule.filter })} onClick={() => onOpen({ what: "edit", rule })}>{t("files.edit.button")}</button>
                    <button type="button" className="link" aria-label={t("files.delete", { filter: rule.filter })} onClick={() => onOpen({ what: "delete", rule })}>{t("files.delete.button")}</button>
                  </span>
                ) : null}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
