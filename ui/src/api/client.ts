/** Requests to the REST API through the console's own server, which adds the session's token. */
import { config } from "../config";

export interface PasswordRule {
  min_len: number;
  min_uppercase_count: number;
  min_lowercase_count: number;
  min_digit_count: number;
  min_special_count: number;
}

/** An answer other than 2xx, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
    readonly requestId: string,
    readonly passwordRule?: PasswordRule,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export type Query = Record<string, string | number | boolean | undefined>;

/** Address of an API path with its query; parameters without a value are left out. */
export function address(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `${config.prefix}${path}${text ? `?${text}` : ""}`;
}

type Listener = () => void;
const signedOut = new Set<Listener>();

/** Calls `listener` when the server says that the session is over. */
export function onSignedOut(listener: Listener): () => void {
  signedOut.add(listener);
  return () => signedOut.delete(listener);
}

async function request<T>(method: string, path: string, query: Query, body: unknown, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(address(path, query), {
      method,
      signal,
      credentials: "same-origin",
      headers: {
        accept: "application/json",
        // Forms and other sites cannot set this one; the server refuses changes without it.
        "x-nv-console": "1",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new ApiError(0, 0, "The console's server cannot be reached.", "");
  }
  const requestId = response.headers.get("x-request-id") ?? "";
  const text = await response.text();
  if (!response.ok) {
    const failure = parse(text) as { code?: number; error?: string; message?: string; password_profile_basic?: PasswordRule } | undefined;
    if (response.status === 401 && !path.startsWith("/v1/auth")) for (const listener of signedOut) listener();
    throw new ApiError(
      response.status,
      failure?.code ?? 0,
      failure?.message || failure?.error || `${response.status} ${response.statusText}`,
      requestId,
      failure?.password_profile_basic,
    );
  }
  return (text ? parse(text) : undefined) as T;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const api = {
  get: <T>(path: string, query: Query = {}, signal?: AbortSignal) => request<T>("GET", path, query, undefined, signal),
  post: <T>(path: string, body: unknown) => request<T>("POST", path, {}, body),
  patch: <T>(path: string, body: unknown) => request<T>("PATCH", path, {}, body),
  delete: <T>(path: string) => request<T>("DELETE", path, {}, undefined),
};
