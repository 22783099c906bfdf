import { expect, test } from "vitest";
import { en } from "./en";
import { fill } from ".";
import { zh_cn } from "./zh_cn";

const places = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

test("every language has every text with the same places for values", () => {
  expect(Object.keys(zh_cn).sort()).toEqual(Object.keys(en).sort());
  for (const [key, text] of Object.entries(en)) {
    expect(places(zh_cn[key as keyof typeof en]), key).toEqual(places(text));
  }
});

test("a value fills its place, and a place without a value stays visible", () => {
  expect(fill("{a} and {b}", { a: 1 })).toBe("1 and {b}");
});
