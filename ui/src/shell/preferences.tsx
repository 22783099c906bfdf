/** Language and theme. */
import { useId, useState } from "react";
import { isLanguage, LANGUAGES, setLanguage, useLanguage, useT } from "../i18n";
import { setTheme, THEMES, type Theme, theme } from "./theme";

export function LanguageChoice() {
  const t = useT();
  const language = useLanguage();
  const id = useId();
  return (
    <span className="choice">
      <label htmlFor={id}>{t("user.language")}</label>
      <select id={id} className="input" value={language} onChange={(event) => isLanguage(event.target.value) && void setLanguage(event.target.value)}>
        {Object.entries(LANGUAGES).map(([code, name]) => (
          <option key={code} value={code}>
            {name}
          </option>
        ))}
      </select>
    </span>
  );
}

export function ThemeChoice() {
  const t = useT();
  const id = useId();
  const [current, setCurrent] = useState(theme);
  return (
    <span className="choice">
      <label htmlFor={id}>{t("user.theme")}</label>
      <select
        id={id}
        className="input"
        value={current}
        onChange={(event) => {
          const next = event.target.value as Theme;
          setTheme(next);
          setCurrent(next);
        }}
      >
        {THEMES.map((name) => (
          <option key={name} value={name}>
            {t(`theme.${name}`)}
          </option>
        ))}
      </select>
    </span>
  );
}
