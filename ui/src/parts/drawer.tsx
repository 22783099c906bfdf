/** A panel beside a list that shows one of its rows. Esc closes it, and the focus goes back to where it came from. */
import { type ReactNode, useEffect, useId, useRef } from "react";
import { useT } from "../i18n";

export function Drawer({ kind, title, onClose, children, wide }: {
  kind: string;
  title: ReactNode;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
}) {
  const t = useT();
  const heading = useRef<HTMLHeadingElement>(null);
  const close = useRef(onClose);
  close.current = onClose;
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    heading.current?.focus({ preventScroll: true });
    const onKey = (event: KeyboardEvent) => {
      // A dialog or menu above the panel takes the key first.
      if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("[role=alertdialog], [role=menu]")) close.current();
    };
    document.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("keydown", onKey);
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  return (
    <aside className={`drawer ${wide ? "wide" : ""}`} aria-labelledby={id}>
      <header className="drawer-head">
        <div className="grow">
          <p className="muted small">{kind}</p>
          <h2 id={id} ref={heading} tabIndex={-1}>
            {title}
          </h2>
        </div>
        <button type="button" className="icon-button" aria-label={t("list.close")} onClick={onClose}>
          <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
            <path d="m3.500 3.500 9 9m0-9-9 9" stroke="currentColor" strokeWidth="1.800" strokeLinecap="round" />
          </svg>
        </button>
      </header>
      <div className="drawer-body">{children}</div>
    </aside>
  );
}

/** Names and values. Values that are empty are shown as a dash. */
export function Facts({ rows }: { rows: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value === "" || value === undefined || value === null ? "–" : value}</dd>
        </div>
      ))}
    </dl>
  );
}
