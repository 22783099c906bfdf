import { expect, test } from "vitest";
import { bytes, relative, seconds } from "./format";

test("bytes are shown in the largest unit that keeps them above one", () => {
  expect([0, 1023, 1024, 1536, 150 * 1024, 5 * 1024 ** 3].map(bytes)).toEqual(["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "150 KiB", "5.0 GiB"]);
});

test("a moment ago has no number, and the future is not the past", () => {
  expect(relative(100, 101, "en-US")).toBeUndefined();
  expect(relative(100, 100 + 150, "en-US")).toBe("2m ago");
  expect(relative(100 + 7200, 100, "en-US")).toBe("in 2h");
});

test("the contract's zero times are no times", () => {
  for (const zero of ["", undefined, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "x"]) expect(seconds(zero)).toBeUndefined();
  expect(seconds("1970-01-01T00:01:00Z")).toBe(60);
});
