/** What the list of security events can be narrowed to, and what of it is in the address. */
export const TYPES = ["threat", "violation", "incident"] as const;
export type EventType = (typeof TYPES)[number];
export const LEVELS = ["Critical", "Error", "Warning", "Notice", "Info"] as const;
export const SINCE = ["1h", "24h", "7d"] as const;
export type Since = (typeof SINCE)[number];
export const SECONDS: Record<Since, number> = { "1h": 3_600, "24h": 86_400, "7d": 604_800 };
