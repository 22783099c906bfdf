/** The mode of a group, for network or process, and its change after a confirmation. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { api } from "../api/client";
import { MODES, type Group, type Mode } from "../api/types";
import { useT } from "../i18n";
import type { Key } from "../i18n/en";
import { ModeBadge } from "../parts/badges";
import { Dialog } from "../parts/dialog";
import { useCanWrite } from "../session/access";
import { serviceName } from "./service";

/** The server applies a change after it answered. */
const APPLIED_MS = 700;

export function ModeSwitch({ group, of }: { group: Group; of: "network" | "process" }) {
  const t = useT();
  const client = useQueryClient();
  const name = useId();
  const allowed = useCanWrite("rt_policy");
  const service = serviceName(group.name);
  const current = (of === "network" ? group.policy_mode : group.profile_mode) as Mode | undefined;
  const [wanted, setWanted] = useState<Mode>();
  const what = t(of === "network" ? "mode.network" : "mode.process");
  const refresh = () => {
    void client.invalidateQueries({ queryKey: ["list", "/v1/group"] });
    void client.invalidateQueries({ queryKey: ["one"] });
  };
  const change = useMutation({
    mutationFn: (mode: Mode) =>
      api.patch("/v1/service/config", {
        config: { services: [service], ...(of === "network" ? { policy_mode: mode } : { profile_mode: mode }) },
      }),
    onSuccess: () => {
      setWanted(undefined);
      refresh();
      setTimeout(refresh, APPLIED_MS);
    },
  });
  if (!current || service === undefined) return null;
  if (!allowed) {
    return (
      <p className="mode-row">
        <span className="mode-label">{what}</span> <ModeBadge mode={current} />
      </p>
    );
  }
  return (
    <div className="mode-row">
      <div className="segments" role="radiogroup" aria-label={what}>
        <span className="mode-label" aria-hidden="true">{what}</span>
        <span className="segment-track">
          {MODES.map((mode) => (
            <label key={mode} className={`segment segment-${mode.toLowerCase()}`}>
              <input
                type="radio"
                className="sr-only"
                name={name}
                value={mode}
                checked={(wanted ?? current) === mode}
                onChange={() => {
                  change.reset();
                  setWanted(mode === current ? undefined : mode);
                }}
              />
              {t(`mode.${mode}`)}
            </label>
          ))}
        </span>
      </div>
      <p className="muted small">{t(`mode.${wanted ?? current}.means` as Key)}</p>
      <p role="status" className="sr-only">{change.isSuccess ? t("mode.changed", { what, group: group.name, to: t(`mode.${current}` as Key) }) : ""}</p>
      <Dialog alert isOpen={wanted !== undefined} onClose={() => setWanted(undefined)} title={wanted ? t("mode.confirm", { mode: t(`mode.${wanted}`) }) : ""}>
        {wanted ? (
          <>
            <p>
              {t("mode.confirm.text", {
                what,
                group: group.name,
                from: t(`mode.${current}` as Key),
                to: t(`mode.${wanted}`),
                means: t(`mode.${wanted}.means`),
              })}
            </p>
            {change.error ? <p className="problem" role="alert">{t("mode.failed", { message: change.error.message })}</p> : null}
            <div className="dialog-actions">
              <button type="button" className="button" onClick={() => setWanted(undefined)}>{t("mode.cancel")}</button>
              <button type="button" className="button primary" autoFocus disabled={change.isPending} onClick={() => change.mutate(wanted)}>
                {t("mode.apply", { mode: t(`mode.${wanted}`) })}
              </button>
            </div>
          </>
        ) : null}
      </Dialog>
    </div>
  );
}
