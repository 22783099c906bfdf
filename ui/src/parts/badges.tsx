/** Modes, severities and verdicts: always a word and a shape beside the colour. */
import { useT } from "../i18n";
import type { Key } from "../i18n/en";

const SHAPES: Record<string, string> = {
  Discover: "M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3z",
  Monitor: "M8 2.500 14 13H2z",
  Protect: "M8 2 3 4v4c0 3 2 5 5 6 3-1 5-3 5-6V4z",
};

export function ModeBadge({ mode }: { mode: string | undefined }) {
  const t = useT();
  if (!mode || !(mode in SHAPES)) return <span className="muted">–</span>;
  return (
    <span className={`badge mode-${mode.toLowerCase()}`}>
      <svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true">
        <path d={SHAPES[mode]} fill="currentColor" />
      </svg>
      {t(`mode.${mode}` as Key)}
    </span>
  );
}

export function ModePair({ network, process }: { network?: string; process?: string }) {
  if (network === process) return <ModeBadge mode={network} />;
  return (
    <span className="row tight">
      <ModeBadge mode={network} />
      <span className="muted">/</span>
      <ModeBadge mode={process} />
    </span>
  );
}

export function LevelBadge({ level }: { level: string }) {
  return <span className={`badge level level-${level.toLowerCase()}`}>{level}</span>;
}

export type Verdict = "allow" | "violate" | "deny" | "threat";
const MARKS: Record<Verdict, string> = {
  allow: "m3.500 8.500 3 3 6-7",
  violate: "M8 3v6M8 12v.5",
  deny: "m4 4 8 8M12 4l-8 8",
  threat: "M9 2 4 9h4l-1 5 5-7H8z",
};

export function VerdictBadge({ verdict, label }: { verdict: Verdict; label: string }) {
  return (
    <span className={`badge verdict-${verdict}`}>
      <svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true">
        <path d={MARKS[verdict]} fill="none" stroke="currentColor" strokeWidth="2" strokeLinecap="round" strokeLinejoin="round" />
      </svg>
      {label}
    </span>
  );
}
