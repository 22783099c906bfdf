/** Signing in, with the change of a one-time password and the terms where they are still to be accepted. */
import { type FormEvent, lazy, Suspense, useId, useRef, useState } from "react";
import { useQueryClient } from "@tanstack/react-query";
import { ApiError, api } from "../api/client";
import { useEula } from "../api/queries";
import { config } from "../config";
import { useT, type Translate } from "../i18n";
import { LanguageChoice } from "../shell/preferences";
import { Banner } from "../shell/banner";

const ResetDialog = lazy(() => import("./reset"));

interface LoginAnswer {
  token: object | null;
  need_to_reset_password?: boolean;
}

const BLOCKED = 47;
const EXPIRED = 48;

export function signInFailure(error: unknown, t: Translate): string {
  if (!(error instanceof ApiError)) return String(error);
  if (error.code === BLOCKED) return t("login.blocked");
  if (error.code === EXPIRED) return t("login.expired");
  if (error.status === 401) return t("login.failed");
  return error.message;
}

export function signIn(username: string, password: string, newPassword?: string): Promise<LoginAnswer> {
  return api.post<LoginAnswer>("/v1/auth", {
    password: { username, password, ...(newPassword === undefined ? {} : { new_password: newPassword }) },
  });
}

export function Login({ ended }: { ended: boolean }) {
  const t = useT();
  const client = useQueryClient();
  const eula = useEula();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [accepted, setAccepted] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();
  const [mustReset, setMustReset] = useState(false);
  const passwordInput = useRef<HTMLInputElement>(null);
  const problemId = useId();
  const mustAccept = eula.data?.eula?.accepted === false;

  const done = async () => {
    if (mustAccept) await api.post("/v1/eula", { eula: { accepted: true } }).catch(() => undefined);
    setPassword("");
    await client.resetQueries();
  };

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    if (mustAccept && !accepted) return setProblem(t("login.terms.needed"));
    setBusy(true);
    setProblem(undefined);
    try {
      const answer = await signIn(username, password);
      if (answer.need_to_reset_password || !answer.token) setMustReset(true);
      else await done();
    } catch (error) {
      setProblem(signInFailure(error, t));
      passwordInput.current?.select();
    } finally {
      setBusy(false);
    }
  };

  return (
    <div className="login-page">
      <Banner banner={config.brand.header} />
      <main className="login">
        <section className="login-brand" aria-hidden="true">
          <img src={`${config.prefix}${config.brand.logo ? "/brand/logo" : "/shield.svg"}`} alt="" width="72" height="72" />
          <p className="login-name">{config.brand.name}</p>
          <p>{t("login.tagline")}</p>
        </section>
        <form className="login-form" onSubmit={submit} noValidate>
          <h1>{t("login.title")}</h1>
          {ended ? <p className="notice" role="status">{t("login.over")}</p> : null}
          <label htmlFor="Email1">{t("login.user")}</label>
          <input
            id="Email1"
            className="input"
            name="username"
            autoComplete="username"
            autoCapitalize="none"
            spellCheck={false}
            autoFocus
            value={username}
            onChange={(event) => setUsername(event.target.value)}
          />
          <label htmlFor="password1">{t("login.password")}</label>
          <input
            id="password1"
            className="input"
            type="password"
            name="password"
            autoComplete="current-password"
            ref={passwordInput}
            aria-invalid={problem !== undefined}
            aria-describedby={problem ? problemId : undefined}
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
          {mustAccept ? (
            <div className="mdc-checkbox terms">
              <p className="terms-text">{config.brand.terms ?? t("login.terms.text")}</p>
              <label className="toggle">
                <input type="checkbox" checked={accepted} onChange={(event) => setAccepted(event.target.checked)} />
                <span>{t("login.terms")}</span>
              </label>
            </div>
          ) : null}
          {problem ? (
            <p id={problemId} className="problem" role="alert">
              {problem}
            </p>
          ) : null}
          <button type="submit" className="button primary" disabled={busy}>
            {busy ? t("login.working") : t("login.submit")}
          </button>
          <LanguageChoice />
        </form>
      </main>
      <Banner banner={config.brand.footer} />
      {mustReset ? (
        <Suspense>
          <ResetDialog username={username} password={password} onDone={done} onCancel={() => setMustReset(false)} />
        </Suspense>
      ) : null}
    </div>
  );
}
