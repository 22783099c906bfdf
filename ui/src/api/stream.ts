/**
 * The live stream of records. One connection for all pages; the browser resumes it by itself with the last sequence it
 * saw. When the server has closed it for good, it is opened again with growing pauses.
 */
import { address, api } from "./client";

export const TOPICS = ["threat", "violation", "incident", "event", "activity", "audit"] as const;
export type Topic = (typeof TOPICS)[number];
/** Something of the kind has changed and is worth asking for; `gap`: records were lost between two of the stream. */
export const HINTS = ["workload", "group", "policy", "gap"] as const;
export type Hint = (typeof HINTS)[number];
export type StreamState = "connecting" | "open" | "lost";

export interface StreamRecord {
  topic: Topic;
  record: Record<string, unknown>;
}

const PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

const listeners = new Set<(message: StreamRecord) => void>();
const hintListeners = new Set<(hint: Hint) => void>();
const watchers = new Set<() => void>();
let state: StreamState = "connecting";
let source: EventSource | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;
let pause = PAUSE_MS;

function set(next: StreamState) {
  if (next === state) return;
  state = next;
  for (const watcher of watchers) watcher();
}

/** Reads one message: the topic is the event's name, or the record says it itself. */
export function read(name: string, data: string): StreamRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const outer = value as Record<string, unknown>;
  const topic = [name, outer.topic].find((word) => TOPICS.includes(word as Topic)) as Topic | undefined;
  if (!topic) return undefined;
  const inner = outer.record ?? outer[topic];
  const record = typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>) : outer;
  return { topic, record };
}

function open() {
  source = new EventSource(address("/v1/stream", { topics: [...TOPICS, ...HINTS.filter((hint) => hint !== "gap")].join(",") }));
  source.onopen = () => {
    pause = PAUSE_MS;
    set("open");
  };
  const receive = (event: MessageEvent<string>) => {
    const message = read(event.type, event.data);
    if (message) for (const listener of listeners) listener(message);
  };
  source.onmessage = receive;
  for (const topic of TOPICS) source.addEventListener(topic, receive as EventListener);
  for (const hint of HINTS) {
    source.addEventListener(hint, () => {
      for (const listener of hintListeners) listener(hint);
    });
  }
  source.onerror = () => {
    set("lost");
    if (source?.readyState !== EventSource.CLOSED) return;
    // Closed for good: perhaps the session is over, which this answer tells the whole console.
    api.get("/v1/selfuser").catch(() => undefined);
    clearTimeout(retry);
    retry = setTimeout(open, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  };
}

export function connect(): () => void {
  if (!source) open();
  return () => {
    clearTimeout(retry);
    source?.close();
    source = undefined;
    pause = PAUSE_MS;
    set("connecting");
  };
}

export function subscribe(listener: (message: StreamRecord) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function onHint(listener: (hint: Hint) => void): () => void {
  hintListeners.add(listener);
  return () => hintListeners.delete(listener);
}

export const connection = {
  subscribe(watcher: () => void) {
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  },
  state: () => state,
};
