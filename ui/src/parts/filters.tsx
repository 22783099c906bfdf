/** The bar above a list. What is typed reaches the address when typing pauses. */
import { useEffect, useId, useRef, useState } from "react";
import { useT } from "../i18n";

const PAUSE_MS = 200;

export function SearchBox({ value, onChange, label }: { value: string | undefined; onChange: (value: string | undefined) => void; label?: string }) {
  const t = useT();
  const [typed, setTyped] = useState(value ?? "");
  const sent = useRef(value ?? "");
  const change = useRef(onChange);
  change.current = onChange;
  useEffect(() => {
    if ((value ?? "") !== sent.current) {
      sent.current = value ?? "";
      setTyped(sent.current);
    }
  }, [value]);
  useEffect(() => {
    if (typed === sent.current) return;
    const timer = setTimeout(() => {
      sent.current = typed;
      change.current(typed || undefined);
    }, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <app-quick-filter>
      <input
        type="search"
        className="input search"
        placeholder={label ?? t("list.search")}
        aria-label={label ?? t("list.search")}
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
      />
    </app-quick-filter>
  );
}

export function Choice<W extends string>({ label, value, options, onChange }: {
  label: string;
  value: W | undefined;
  options: readonly (readonly [W, string])[];
  onChange: (value: W | undefined) => void;
}) {
  const t = useT();
  const id = useId();
  return (
    <span className="choice">
      <label htmlFor={id}>{label}</label>
      <select id={id} className="input" value={value ?? ""} onChange={(event) => onChange((event.target.value || undefined) as W | undefined)}>
        <option value="">{t("list.all")}</option>
        {options.map(([word, name]) => (
          <option key={word} value={word}>
            {name}
          </option>
        ))}
      </select>
    </span>
  );
}

export function Toggle({ label, on, onChange }: { label: string; on: boolean; onChange: (on: boolean) => void }) {
  return (
    <label className="toggle">
      <input type="checkbox" checked={on} onChange={(event) => onChange(event.target.checked)} />
      <span>{label}</span>
    </label>
  );
}
