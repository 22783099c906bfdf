/** A page with a list: title, filters, rows or the state that stands for them, and the open row beside it. */
import type { UseInfiniteQueryResult, InfiniteData } from "@tanstack/react-query";
import { type ReactNode, useEffect } from "react";
import { config } from "../config";
import { useT } from "../i18n";
import { Grid, type GridProps } from "./grid";
import { Empty, Failure, Skeleton } from "./states";

export function Page({ title, tools, actions, children, drawer, count }: {
  title: string;
  /** What narrows or arranges what is shown. */
  tools?: ReactNode;
  /** What is done with it. */
  actions?: ReactNode;
  children: ReactNode;
  drawer?: ReactNode;
  count?: number;
}) {
  const t = useT();
  useEffect(() => {
    document.title = `${title} · ${config.brand.name}`;
  }, [title]);
  return (
    <div className="page">
      <div className="page-main">
        <header className="page-head">
          <h1>{title}</h1>
          <span className="muted count">{count === undefined ? "" : t("list.count", { count })}</span>
          {actions}
        </header>
        {tools ? <div className="tools">{tools}</div> : null}
        {children}
      </div>
      {drawer}
    </div>
  );
}

type Listed<T> = UseInfiniteQueryResult<InfiniteData<T[]>, Error>;

export function rowsOf<T>(query: Listed<T>): T[] {
  return query.data?.pages.flat() ?? [];
}

/** The rows of a query, or why there are none. */
export function QueryGrid<T>({ query, rows, empty, filtered, onClear, ...grid }: Omit<GridProps<T>, "rows" | "onNearEnd"> & {
  query: Pick<Listed<T>, "isPending" | "error" | "data" | "refetch" | "hasNextPage" | "isFetchingNextPage" | "fetchNextPage">;
  rows: T[];
  empty: string;
  filtered?: boolean;
  onClear?: () => void;
}) {
  const t = useT();
  if (query.isPending) return <Skeleton />;
  if (query.error && !query.data) return <Failure error={query.error} retry={() => void query.refetch()} />;
  if (rows.length === 0) {
    return filtered ? (
      <Empty action={onClear ? <button type="button" className="button" onClick={onClear}>{t("list.clear")}</button> : undefined}>
        {t("list.none_match")}
      </Empty>
    ) : (
      <Empty>{empty}</Empty>
    );
  }
  return (
    <Grid
      {...grid}
      rows={rows}
      onNearEnd={query.hasNextPage && !query.isFetchingNextPage ? () => void query.fetchNextPage() : undefined}
    />
  );
}
