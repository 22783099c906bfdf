/** What the signed-in user may do. The API decides; this only hides what it would refuse. */
import { useSelf } from "../api/queries";
import type { SelfUser } from "../api/types";

const ALL = ["admin", "fedAdmin"];

export function canWrite(self: SelfUser | undefined, permission: string): boolean {
  if (!self) return false;
  if (ALL.includes(self.user.role)) return true;
  return self.global_permissions?.some((entry) => entry.id === permission && entry.write) ?? false;
}

export function useCanWrite(permission: string): boolean {
  return canWrite(useSelf().data, permission);
}
