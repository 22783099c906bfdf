/** What is around every page: the menu, who is signed in, and whether the live stream is connected. */
import { Link, Outlet, useRouterState } from "@tanstack/react-router";
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { api } from "../api/client";
import { connect, connection, type Hint, onHint } from "../api/stream";
import type { SelfUser } from "../api/types";
import { config } from "../config";
import { useT } from "../i18n";
import type { Key } from "../i18n/en";
import { useIdleEnd } from "../session/idle";
import { Banner } from "./banner";
import { LanguageChoice, ThemeChoice } from "./preferences";

type Place = "/network" | "/nodes" | "/containers" | "/components" | "/groups" | "/rules" | "/events";
interface Item {
  label: Key;
  to?: Place;
  icon?: string;
  items?: { label: Key; to: Place }[];
}

const MENU: Item[] = [
  { label: "nav.network", to: "/network", icon: "M4 4h4v4H4zM12 12h4v4h-4zM12 4h4v4h-4zM8 6h4M6 8v6h6M14 8v4" },
  {
    label: "nav.assets",
    icon: "M3 6l7-3 7 3-7 3zM3 6v8l7 3 7-3V6M10 9v8",
    items: [
      { label: "nav.nodes", to: "/nodes" },
      { label: "nav.containers", to: "/containers" },
      { label: "nav.components", to: "/components" },
    ],
  },
  {
    label: "nav.policy",
    icon: "M10 2.500 4 5v5c0 4 2.500 6.500 6 7.500 3.500-1 6-3.500 6-7.500V5z",
    items: [
      { label: "nav.groups", to: "/groups" },
      { label: "nav.rules", to: "/rules" },
    ],
  },
  {
    label: "nav.notifications",
    icon: "M5 14h10l-1.500-2V9a3.500 3.500 0 0 0-7 0v3zM8.500 16.500h3",
    items: [{ label: "nav.security_events", to: "/events" }],
  },
];

export function Shell({ self, onEnd }: { self: SelfUser; onEnd: (ended: boolean) => void }) {
  const t = useT();
  const client = useQueryClient();
  const main = useRef<HTMLElement>(null);
  const path = useRouterState({ select: (state) => state.location.pathname.split("/")[1] });
  const stream = useSyncExternalStore(connection.subscribe, connection.state);
  const [menuOpen, setMenuOpen] = useState(false);
  const firstPath = useRef(path);

  useEffect(() => connect(), []);
  useEffect(() => {
    const changed: Record<Hint, string[]> = {
      workload: ["/v1/workload", "/v1/host", "/v1/group"],
      group: ["/v1/group", "/v1/workload"],
      policy: ["/v1/policy/rule", "/v1/group"],
      gap: [],
    };
    return onHint((hint) => {
      for (const path of changed[hint]) void client.invalidateQueries({ queryKey: ["list", path] });
      void client.invalidateQueries({ queryKey: ["one"] });
      if (hint === "gap") void client.invalidateQueries({ queryKey: ["events"] });
    });
  }, [client]);
  useEffect(() => {
    if (firstPath.current === path) return;
    firstPath.current = path;
    setMenuOpen(false);
    main.current?.focus({ preventScroll: true });
  }, [path]);

  const leave = useCallback(
    async (ended: boolean) => {
      await api.delete("/v1/auth").catch(() => undefined);
      onEnd(ended);
    },
    [onEnd],
  );
  useIdleEnd(self.user.timeout, useCallback(() => void leave(true), [leave]));

  const initial = (self.user.fullname || self.user.username || "?").slice(0, 1).toUpperCase();
  const link = (to: Place, label: Key, icon?: string) => (
    <Link to={to} className="nav-link" activeProps={{ className: "nav-link active" }}>
      {icon ? <Icon path={icon} /> : null}
      {t(label)}
    </Link>
  );
  return (
    <div className="shell">
      <a className="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>
        {t("nav.skip")}
      </a>
      <Banner banner={config.brand.header} />
      <div className="frame">
        <nav className={`sidebar ${menuOpen ? "open" : ""}`} aria-label={t("nav.main")}>
          <p className="brand">
            <img src={`${config.prefix}/shield.svg`} alt="" width="26" height="26" />
            <span>{config.brand.name}</span>
            <button type="button" className="icon-button menu-button" aria-expanded={menuOpen} aria-label={t("nav.expand")} onClick={() => setMenuOpen(!menuOpen)}>
              <Icon path="M3 5h14M3 10h14M3 15h14" />
            </button>
          </p>
          <ul>
            {MENU.map((item) => (
              <li key={item.label}>
                {item.to ? link(item.to, item.label, item.icon) : (
                  <span className="nav-section">
                    {item.icon ? <Icon path={item.icon} /> : null}
                    {t(item.label)}
                  </span>
                )}
                {item.items ? <ul>{item.items.map((sub) => <li key={sub.to}>{link(sub.to, sub.label)}</li>)}</ul> : null}
              </li>
            ))}
          </ul>
          <details className="account">
            <summary aria-label={t("user.menu")}>
              <span className="avatar" aria-hidden="true">{initial}</span>
              <span className="account-name">
                {self.user.fullname || self.user.username}
                <span className="small">{self.user.role}</span>
              </span>
            </summary>
            <div className="account-body">
              <ThemeChoice />
              <LanguageChoice />
              <button type="button" className="button" onClick={() => void leave(false)}>
                {t("user.sign_out")}
              </button>
            </div>
          </details>
        </nav>
        <div className="content">
          <div aria-live="assertive">{stream === "lost" ? <p className="disconnected">{t("stream.lost")}</p> : null}</div>
          <main id="main" ref={main} tabIndex={-1}>
            <Outlet />
          </main>
        </div>
      </div>
      <Banner banner={config.brand.footer} />
    </div>
  );
}

function Icon({ path }: { path: string }) {
  return (
    <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
      <path d={path} fill="none" stroke="currentColor" strokeWidth="1.500" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
