/**
 * Ends a session that nobody uses. Pages refresh themselves, which keeps the session alive at the server; so the browser
 * counts the time since the last key or click itself, and while somebody works it tells the server at times.
 */
import { useEffect } from "react";
import { api } from "../api/client";

const CHECK_MS = 5_000;
const KEEP_ALIVE_MS = 60_000;
const SHORTEST_S = 30;
const SIGNS = ["pointerdown", "keydown", "wheel"] as const;

export function useIdleEnd(timeoutSeconds: number, end: () => void) {
  useEffect(() => {
    const limit = Math.max(timeoutSeconds, SHORTEST_S) * 1000;
    let used = Date.now();
    let told = used;
    const note = () => {
      used = Date.now();
    };
    for (const sign of SIGNS) window.addEventListener(sign, note, { passive: true, capture: true });
    const timer = setInterval(() => {
      const now = Date.now();
      if (now - used >= limit) end();
      else if (used > told && now - told >= KEEP_ALIVE_MS) {
        told = now;
        api.patch("/v1/auth", undefined).catch(() => undefined);
      }
    }, CHECK_MS);
    return () => {
      clearInterval(timer);
      for (const sign of SIGNS) window.removeEventListener(sign, note, { capture: true });
    };
  }, [timeoutSeconds, end]);
}
