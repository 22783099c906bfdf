/** Words and formats in the user's language. A language other than English is loaded when it is chosen. */
import { useSyncExternalStore } from "react";
import { en, type Key, type Words } from "./en";

export const LANGUAGES = { en: "English", zh_cn: "简体中文" } as const;
export type Language = keyof typeof LANGUAGES;
const STORED = "nv.language";

const watchers = new Set<() => void>();
let language: Language = "en";
let words: Words = en;

export function isLanguage(value: unknown): value is Language {
  return typeof value === "string" && Object.hasOwn(LANGUAGES, value);
}

export async function setLanguage(next: Language): Promise<void> {
  const loaded = next === "en" ? en : (await import("./zh_cn")).zh_cn;
  language = next;
  words = loaded;
  document.documentElement.lang = next === "zh_cn" ? "zh-CN" : "en";
  localStorage.setItem(STORED, next);
  for (const watcher of watchers) watcher();
}

/** The language chosen before, else the browser's. */
export async function startLanguage(): Promise<void> {
  const stored = localStorage.getItem(STORED);
  const wanted = isLanguage(stored) ? stored : navigator.language.toLowerCase().startsWith("zh") ? "zh_cn" : "en";
  if (wanted !== "en") await setLanguage(wanted);
}

/** Puts `values` in the places of `{name}` in a text. */
export function fill(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (place, name: string) => (Object.hasOwn(values, name) ? String(values[name]) : place));
}

export type Translate = (key: Key, values?: Record<string, string | number>) => string;
const translate: Translate = (key, values = {}) => fill(words[key], values);

function subscribe(watcher: () => void) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

export function useLanguage(): Language {
  return useSyncExternalStore(subscribe, () => language);
}

export function useT(): Translate {
  useLanguage();
  return translate;
}

export const locale = (of: Language) => (of === "zh_cn" ? "zh-CN" : "en-US");
