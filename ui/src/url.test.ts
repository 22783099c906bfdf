import { expect, test } from "vitest";
import { nextSort, oneOf, parseSearch, parseSort, stringifySearch, text } from "./url";

test("an address says what is chosen and nothing else", () => {
  expect(stringifySearch({ q: "a b&c", sort: "-name", id: undefined, empty: "" })).toBe("?q=a+b%26c&sort=-name");
  expect(stringifySearch({})).toBe("");
});

test("what was written into an address is read back from it", () => {
  const search = { q: "größe = 1&2", id: "7", sort: "-domain" };
  expect(parseSearch(stringifySearch(search))).toEqual(search);
});

test("a value that a page does not know is as if it were not there", () => {
  expect(oneOf("Protect", ["Discover"])).toBeUndefined();
  expect(text(7)).toBeUndefined();
  expect(text("x".repeat(999))?.length).toBe(200);
});

test("a column sorts up, then down, then as the server orders", () => {
  expect(nextSort(undefined, "name")).toBe("name");
  expect(nextSort("name", "name")).toBe("-name");
  expect(nextSort("-name", "name")).toBeUndefined();
  expect(nextSort("-name", "domain")).toBe("domain");
  expect(parseSort("-name")).toEqual({ column: "name", descending: true });
});
