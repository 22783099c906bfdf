/** The form of one file rule. */
import { type FormEvent, useId, useState } from "react";
import type { FileBehavior, FileFilter } from "../api/types";
import { useT } from "../i18n";
import { Dialog } from "../parts/dialog";
import { Toggle } from "../parts/filters";
import { type Draft, draftOf, NEW, problemOf } from "./file-rule";

const BEHAVIORS: readonly FileBehavior[] = ["monitor_change", "block_access"];

export function FileForm({ rules, before, busy, failure, onSave, onClose }: {
  rules: FileFilter[];
  /** The rule that is changed; none for a new one. */
  before: FileFilter | undefined;
  busy: boolean;
  /** Why the API did not take it. */
  failure: string | undefined;
  onSave: (draft: Draft) => void;
  onClose: () => void;
}) {
  const t = useT();
  const id = useId();
  const [draft, setDraft] = useState(before ? draftOf(before) : NEW);
  const [tried, setTried] = useState(false);
  const set = (change: Partial<Draft>) => setDraft((old) => ({ ...old, ...change }));
  const problem = problemOf(draft, rules, before);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!problem) onSave(draft);
  };
  const said = tried && problem ? t(problem.key, { path: problem.path ?? "" }) : failure;
  return (
    <Dialog isOpen onClose={onClose} title={before ? t("files.edit", { filter: before.filter }) : t("files.add")}>
      <form className="form" onSubmit={submit} noValidate>
        <label htmlFor={`${id}-filter`}>{t("files.filter")}</label>
        <input
          id={`${id}-filter`}
          className="input mono"
          autoFocus
          spellCheck={false}
          autoCapitalize="none"
          value={draft.filter}
          aria-invalid={tried && problem !== undefined && problem.key !== "files.problem.application"}
          aria-describedby={said ? `${id}-problem` : undefined}
          onChange={(event) => set({ filter: event.target.value })}
        />
        <Toggle label={t("files.recursive")} on={draft.recursive} onChange={(recursive) => set({ recursive })} />
        <label htmlFor={`${id}-behavior`}>{t("files.behavior")}</label>
        <select id={`${id}-behavior`} className="input" value={draft.behavior} aria-describedby={`${id}-means`} onChange={(event) => set({ behavior: event.target.value as FileBehavior })}>
          {BEHAVIORS.map((behavior) => <option key={behavior} value={behavior}>{t(`files.${behavior}`)}</option>)}
        </select>
        <p id={`${id}-means`} className="muted small">{t(`files.${draft.behavior}.means`)}</p>
        {draft.behavior === "block_access" ? (
          <>
            <label htmlFor={`${id}-applications`}>{t("files.applications")}</label>
            <textarea
              id={`${id}-applications`}
              className="input mono"
              rows={4}
              spellCheck={false}
              value={draft.applications}
              aria-invalid={tried && problem?.key === "files.problem.application"}
              onChange={(event) => set({ applications: event.target.value })}
            />
          </>
        ) : null}
        {said ? <p id={`${id}-problem`} className="problem" role="alert">{said}</p> : null}
        <div className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>{t("mode.cancel")}</button>
          <button type="submit" className="button primary" disabled={busy}>{t("files.save")}</button>
        </div>
      </form>
    </Dialog>
  );
}
