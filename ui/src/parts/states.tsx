/** What a page shows while it has nothing to show: loading, failed, empty. */
import type { ReactNode } from "react";
import { ApiError } from "../api/client";
import { useT } from "../i18n";

export function Skeleton({ rows = 8 }: { rows?: number }) {
  const t = useT();
  return (
    <div className="skeleton" role="status" aria-label={t("state.loading")}>
      {Array.from({ length: rows }, (_, index) => (
        <div key={index} className="skeleton-row" />
      ))}
    </div>
  );
}

export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  const t = useT();
  const known = error instanceof ApiError ? error : undefined;
  return (
    <div className="notice notice-error" role="alert">
      <strong>{t("state.failed")}</strong>
      <p>{known?.status === 403 ? t("state.forbidden") : error instanceof Error ? error.message : String(error)}</p>
      {known?.requestId ? <p className="muted mono">{t("state.request", { id: known.requestId })}</p> : null}
      {retry ? (
        <button type="button" className="button" onClick={retry}>
          {t("state.retry")}
        </button>
      ) : null}
    </div>
  );
}

export function Empty({ children, action }: { children: ReactNode; action?: ReactNode }) {
  return (
    <div className="empty">
      <svg viewBox="0 0 48 48" width="48" height="48" aria-hidden="true">
        <path d="M24 5 9 10.500v11C9 31 15.200 38 24 42c8.800-4 15-11 15-20.500v-11z" fill="none" stroke="currentColor" strokeWidth="2" />
        <path d="m17 24 5 5 9-10" fill="none" stroke="currentColor" strokeWidth="2" strokeLinecap="round" strokeLinejoin="round" />
      </svg>
      <p>{children}</p>
      {action}
    </div>
  );
}
