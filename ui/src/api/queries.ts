/** What pages ask the API for. Lists are paged by the server; a page that is looked at stays fresh. */
import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { parseSort } from "../url";
import { api, type Query } from "./client";
import type { Component, Conversations, FileFilter, Group, Host, PolicyRule, Process, ProcessProfile, SelfUser, Workload } from "./types";

export const PAGE = 200;
/** Lists change by themselves while containers come and go. */
const FRESH_MS = 5_000;

export function useSelf() {
  return useQuery({
    queryKey: ["self"],
    queryFn: ({ signal }) => api.get<SelfUser>("/v1/selfuser", {}, signal),
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function useEula() {
  return useQuery({
    queryKey: ["eula"],
    queryFn: ({ signal }) =>
      api.get<{ eula: { accepted: boolean } | null; bootstrap_password_command?: string }>("/v1/eula", {}, signal),
    retry: 1,
    staleTime: 60_000,
  });
}

export interface ListOptions {
  path: string;
  /** Key of the list in the answer. */
  key: string;
  query?: Query;
  sort?: string;
  /** With a filter the server counts `start` before filtering, so only a longer first page is exact. */
  filtered?: boolean;
}

/** The contract's `s_<column>` parameters. */
export function sortQuery(sort: string | undefined): Query {
  const parsed = parseSort(sort);
  return parsed ? { [`s_${parsed.column}`]: parsed.descending ? "desc" : "asc" } : {};
}

const FILTERED_PAGE = 5000;

export function useList<T>({ path, key, query = {}, sort, filtered = false }: ListOptions) {
  const limit = filtered ? FILTERED_PAGE : PAGE;
  return useInfiniteQuery({
    queryKey: ["list", path, query, sort, filtered],
    queryFn: async ({ pageParam, signal }) => {
      const answer = await api.get<Record<string, T[] | null>>(
        path,
        { ...query, ...sortQuery(sort), start: pageParam, limit },
        signal,
      );
      return answer[key] ?? [];
    },
    initialPageParam: 0,
    getNextPageParam: (last, pages) => (!filtered && last.length === limit ? pages.length * limit : undefined),
    refetchInterval: FRESH_MS,
    placeholderData: keepPreviousData,
  });
}

export const useWorkloads = (query: Query, sort: string | undefined, filtered: boolean) =>
  useList<Workload>({ path: "/v1/workload", key: "workloads", query: { view: "pod", ...query }, sort, filtered });
export const useHosts = (sort: string | undefined) => useList<Host>({ path: "/v1/host", key: "hosts", sort });
export const useComponents = (kind: "controller" | "enforcer") =>
  useList<Component>({ path: `/v1/${kind}`, key: `${kind}s` });
export const useGroups = (query: Query, sort: string | undefined, filtered: boolean) =>
  useList<Group>({ path: "/v1/group", key: "groups", query: { view: "pod", ...query }, sort, filtered });
export const useRules = () => useList<PolicyRule>({ path: "/v1/policy/rule", key: "rules" });

function useOne<T>(path: string, pick: (answer: Record<string, unknown>) => T, enabled = true) {
  return useQuery({
    queryKey: ["one", path],
    queryFn: async ({ signal }) => pick(await api.get<Record<string, unknown>>(path, {}, signal)),
    refetchInterval: FRESH_MS,
    enabled,
  });
}

export const useWorkload = (id: string) =>
  useOne(`/v1/workload/${encodeURIComponent(id)}`, (answer) => answer.workload as Workload);
/** Processes of a container, or of a host with its containers left out. */
export const useProcesses = (of: "workload" | "host", id: string, history: boolean) =>
  useOne(
    `/v1/${of}/${encodeURIComponent(id)}/${history ? "process_history" : "process"}`,
    (answer) => (answer.processes ?? []) as Process[],
  );
export const useHost = (id: string) => useOne(`/v1/host/${encodeURIComponent(id)}`, (answer) => answer.host as Host);
export const useGroup = (name: string) =>
  useOne(`/v1/group/${encodeURIComponent(name)}`, (answer) => answer.group as Group);
export const useProcessProfile = (group: string) =>
  useOne(
    `/v1/process_profile/${encodeURIComponent(group)}`,
    (answer) => (answer.process_profile ?? answer.profile ?? answer) as ProcessProfile,
  );
export const fileMonitor = (group: string) => `/v1/file_monitor/${encodeURIComponent(group)}`;
/** A group's own file rules, after the built-in watch list where that is asked for. */
export const useFileFilters = (group: string, builtIn: boolean) =>
  useOne(
    `${fileMonitor(group)}${builtIn ? "?predefined" : ""}`,
    (answer) => (answer.profile as { filters?: FileFilter[] | null } | undefined)?.filters ?? [],
  );
export const useConversations = () =>
  useQuery({
    queryKey: ["conversations"],
    queryFn: ({ signal }) => api.get<Conversations>("/v1/conversation", { verbose: false }, signal),
    refetchInterval: FRESH_MS,
    placeholderData: keepPreviousData,
  });
