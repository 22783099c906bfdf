/** Numbers and times as people read them. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(value: number): string {
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${UNITS[unit]}`;
}

const SPANS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

/** "3m ago"; `undefined` within the last two seconds. */
export function relative(seconds: number, now: number, locale: string): string | undefined {
  const past = now - seconds;
  if (Math.abs(past) < 2) return undefined;
  const [unit, length] = SPANS.find(([, span]) => Math.abs(past) >= span) ?? ["second", 1];
  return new Intl.RelativeTimeFormat(locale, { numeric: "always", style: "narrow" }).format(-Math.trunc(past / length), unit);
}

/** "2026-11-25 15:04:05" in the browser's time zone: sorts and aligns. */
export function absolute(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Seconds since the epoch of an RFC 3339 text; `undefined` for "" and the zero time. */
export function seconds(text: string | undefined): number | undefined {
  if (!text || text.startsWith("0001-")) return undefined;
  const value = Date.parse(text) / 1000;
  return Number.isFinite(value) && value > 0 ? value : undefined;
}
