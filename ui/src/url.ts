/**
 * Search parameters as plain text: what a page shows is in its address, readable and shareable.
 * A parameter at its default is left out.
 */
export type Search = Record<string, string>;

export function parseSearch(text: string): Search {
  return Object.fromEntries(new URLSearchParams(text));
}

export function stringifySearch(search: Record<string, unknown>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(search)) {
    if (typeof value === "string" && value !== "") parameters.set(name, value);
  }
  const text = parameters.toString();
  return text ? `?${text}` : "";
}

/** Any text of at most 200 characters. */
export const text = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value.slice(0, 200) : undefined;

/** One of `words`, else nothing. */
export const oneOf = <W extends string>(value: unknown, words: readonly W[]): W | undefined =>
  words.find((word) => word === value);

/** "column" or "-column" for descending. */
export interface Sort {
  column: string;
  descending: boolean;
}

export function parseSort(value: string | undefined): Sort | undefined {
  if (!value) return undefined;
  return value.startsWith("-") ? { column: value.slice(1), descending: true } : { column: value, descending: false };
}

/** Ascending, descending, then as the server orders. */
export function nextSort(current: string | undefined, column: string): string | undefined {
  if (current === column) return `-${column}`;
  return current === `-${column}` ? undefined : column;
}
