/** A point in time, absolute and relative. All of them tick together. */
import { useSyncExternalStore } from "react";
import { absolute, relative, seconds as parse } from "../format";
import { locale, useLanguage, useT } from "../i18n";

const TICK_MS = 5_000;
const watchers = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;
let now = Date.now() / 1000;

function subscribe(watcher: () => void) {
  watchers.add(watcher);
  timer ??= setInterval(() => {
    now = Date.now() / 1000;
    for (const other of watchers) other();
  }, TICK_MS);
  return () => {
    watchers.delete(watcher);
    if (watchers.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

export function Time({ at }: { at: number | string | undefined }) {
  const t = useT();
  const language = useLanguage();
  const ticked = useSyncExternalStore(subscribe, () => now);
  const value = typeof at === "string" ? parse(at) : at;
  if (!value) return <span className="muted">–</span>;
  const current = Math.max(ticked, value);
  return (
    <time dateTime={new Date(value * 1000).toISOString()} className="time">
      <span>{absolute(value)}</span> <span className="muted">{relative(value, current, locale(language)) ?? t("time.now")}</span>
    </time>
  );
}
