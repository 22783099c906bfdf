import { expect, test } from "vitest";
import { canWrite } from "../session/access";
import type { SelfUser } from "../api/types";
import { serviceName } from "./service";

test("only learned groups and the nodes have a mode that can be changed", () => {
  expect(serviceName("nv.web.shop")).toBe("web.shop");
  expect(serviceName("nodes")).toBe("nodes");
  for (const other of ["containers", "external", "nv.ip.redis.shop", "my-group"]) expect(serviceName(other)).toBeUndefined();
});

test("a reader is not offered what only a writer may do", () => {
  const user = (role: string, write: boolean) => ({ user: { role }, global_permissions: [{ id: "rt_policy", read: true, write }] }) as SelfUser;
  expect(canWrite(undefined, "rt_policy")).toBe(false);
  expect(canWrite(user("reader", false), "rt_policy")).toBe(false);
  expect(canWrite(user("operators", true), "rt_policy")).toBe(true);
  expect(canWrite(user("admin", false), "rt_policy")).toBe(true);
});
