/** The forced change of a one-time password. */
import { type FormEvent, useId, useState } from "react";
import { ApiError, type PasswordRule } from "../api/client";
import { useT } from "../i18n";
import { Dialog } from "../parts/dialog";
import { signIn, signInFailure } from "./login";

export default function ResetDialog({ username, password, onDone, onCancel }: {
  username: string;
  password: string;
  onDone: () => Promise<void>;
  onCancel: () => void;
}) {
  const t = useT();
  const id = useId();
  const [first, setFirst] = useState("");
  const [second, setSecond] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();
  const [rule, setRule] = useState<PasswordRule>();

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    if (first !== second) return setProblem(t("reset.differ"));
    setBusy(true);
    setProblem(undefined);
    try {
      await signIn(username, password, first);
      await onDone();
    } catch (error) {
      if (error instanceof ApiError && error.passwordRule) setRule(error.passwordRule);
      setProblem(error instanceof ApiError && error.status === 400 ? error.message : signInFailure(error, t));
    } finally {
      setBusy(false);
    }
  };

  return (
    <Dialog title={t("reset.title")} isOpen onClose={onCancel}>
      <mat-dialog-container>
        <app-reset-password-modal>
          <form className="form" onSubmit={submit} noValidate>
            <p>{t("reset.why")}</p>
            <input type="text" name="username" autoComplete="username" value={username} readOnly hidden />
            <label htmlFor={`${id}-new`}>{t("reset.new")}</label>
            <input
              id={`${id}-new`}
              className="input"
              type="password"
              formcontrolname="newPassword"
              autoComplete="new-password"
              autoFocus
              aria-invalid={problem !== undefined}
              aria-describedby={`${id}-help`}
              value={first}
              onChange={(event) => setFirst(event.target.value)}
            />
            <label htmlFor={`${id}-confirm`}>{t("reset.confirm")}</label>
            <input
              id={`${id}-confirm`}
              className="input"
              type="password"
              formcontrolname="confirmPassword"
              autoComplete="new-password"
              aria-describedby={`${id}-help`}
              value={second}
              onChange={(event) => setSecond(event.target.value)}
            />
            <div id={`${id}-help`}>
              {problem ? <p className="problem" role="alert">{problem}</p> : null}
              {rule ? (
                <p className="muted">
                  {t("reset.rule", {
                    length: rule.min_len,
                    upper: rule.min_uppercase_count,
                    lower: rule.min_lowercase_count,
                    digit: rule.min_digit_count,
                    special: rule.min_special_count,
                  })}
                </p>
              ) : null}
            </div>
            <button type="submit" id="reset-password-dialog-submit" className="button primary" disabled={busy || first === "" || second === ""}>
              {t("reset.submit")}
            </button>
          </form>
        </app-reset-password-modal>
      </mat-dialog-container>
    </Dialog>
  );
}
