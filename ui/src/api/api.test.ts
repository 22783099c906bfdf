import { expect, test } from "vitest";
import { address } from "./client";
import { sortQuery } from "./queries";
import { read } from "./stream";

test("parameters without a value are not sent", () => {
  expect(address("/v1/workload", { start: 0, limit: 200, f_domain: undefined, q: "" })).toBe("/v1/workload?start=0&limit=200");
});

test("a sort becomes the contract's parameter", () => {
  expect(sortQuery("-domain")).toEqual({ s_domain: "desc" });
  expect(sortQuery("name")).toEqual({ s_name: "asc" });
  expect(sortQuery(undefined)).toEqual({});
});

test("a record of the stream is recognised by the event's name or by its own topic", () => {
  const record = { id: "1", level: "Critical" };
  expect(read("incident", JSON.stringify(record))).toEqual({ topic: "incident", record });
  expect(read("message", JSON.stringify({ topic: "violation", ...record }))?.topic).toBe("violation");
  expect(read("message", JSON.stringify({ topic: "threat", record }))).toEqual({ topic: "threat", record });
});

test("a message that is not a record is ignored", () => {
  for (const data of ["", "{", "null", "7", '"x"', "{}", '{"topic":"weather"}']) expect(read("message", data)).toBeUndefined();
});
