/** The list of events: what the logs had, and what came since. While paused, what comes waits outside of the list. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { api, type Query } from "../api/client";
import { connection, subscribe } from "../api/stream";
import { type EventType, TYPES } from "./filters";
import { merge, type Raw, type SecurityEvent, toEvent } from "./model";

const PAGE = 300;
/** Rows that came live and are kept on the page. */
export const LIVE_MAX = 5_000;

/** Newest first, of all three logs. `limit` is for each; 0 means all. */
export async function fetchEvents(query: Query, types: readonly EventType[] = TYPES, signal?: AbortSignal): Promise<SecurityEvent[][]> {
  return Promise.all(
    types.map(async (type) => {
      const answer = await api.get<Record<string, Raw[] | null>>(`/v1/log/${type}`, query, signal);
      return (answer[`${type}s`] ?? []).map((raw) => toEvent(type, raw));
    }),
  );
}

export function useEvents() {
  const query = useInfiniteQuery({
    queryKey: ["events"],
    queryFn: ({ pageParam, signal }) => fetchEvents({ start: pageParam, limit: PAGE }, TYPES, signal),
    initialPageParam: 0,
    getNextPageParam: (last, pages) => (last.some((list) => list.length === PAGE) ? pages.length * PAGE : undefined),
    staleTime: 30_000,
  });
  const [live, setLive] = useState<SecurityEvent[]>([]);
  const [waiting, setWaiting] = useState<SecurityEvent[]>([]);
  const [paused, setPaused] = useState(false);
  const isPaused = useRef(paused);
  isPaused.current = paused;
  const state = useSyncExternalStore(connection.subscribe, connection.state);
  const wasLost = useRef(false);

  useEffect(
    () =>
      subscribe(({ topic, record }) => {
        const type = TYPES.find((known) => known === topic);
        if (!type) return;
        const add = (list: SecurityEvent[]) => [toEvent(type, record), ...list].slice(0, LIVE_MAX);
        if (isPaused.current) setWaiting(add);
        else setLive(add);
      }),
    [],
  );
  const { refetch } = query;
  useEffect(() => {
    if (state === "lost") wasLost.current = true;
    else if (state === "open" && wasLost.current) {
      wasLost.current = false;
      void refetch();
    }
  }, [state, refetch]);

  const resume = useCallback(() => {
    setPaused(false);
    setWaiting((held) => {
      setLive((list) => merge(held, list).slice(0, LIVE_MAX));
      return [];
    });
  }, []);
  const events = useMemo(() => merge(live, ...(query.data?.pages.flat() ?? [])), [live, query.data]);
  return { query, events, paused, waiting: waiting.length, pause: () => setPaused(true), resume };
}
