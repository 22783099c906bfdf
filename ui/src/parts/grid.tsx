/**
 * A list of any length: only the rows in sight are in the page. Sorting is the caller's (the server's) business.
 * Keys: up, down, page up and down, home and end move along the rows; enter or space opens one.
 */
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { nextSort, parseSort } from "../url";

const ROW_PX = 40;
const NEAR_END = 20;
const ROW_PADDING_PX = 12;

export interface Column<T> {
  id: string;
  label: string;
  /** A track of `grid-template-columns`: its first number is the least width in pixels. */
  width: string;
  render: (row: T) => ReactNode;
  sortable?: boolean;
}

export interface GridProps<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  rowId: (row: T) => string;
  rowClass?: (row: T) => string;
  onOpen?: (row: T) => void;
  selected?: string;
  sort?: string;
  onSort?: (sort: string | undefined) => void;
  onNearEnd?: () => void;
}

export function Grid<T>({ label, columns, rows, rowId, rowClass, onOpen, selected, sort, onSort, onNearEnd }: GridProps<T>) {
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);
  const wantsFocus = useRef(false);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    overscan: 10,
    getItemKey: (index) => rowId(rows[index] as T),
  });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  const current = Math.min(active, Math.max(rows.length - 1, 0));
  const order = parseSort(sort);
  const template = { gridTemplateColumns: columns.map((column) => column.width).join(" ") };
  const narrowest = columns.reduce((sum, column) => sum + Number(/\d+/.exec(column.width)?.[0] ?? 0), ROW_PADDING_PX);

  useEffect(() => {
    if (onNearEnd && rows.length > 0 && last >= rows.length - NEAR_END) onNearEnd();
  }, [onNearEnd, rows.length, last]);

  useEffect(() => {
    if (!wantsFocus.current) return;
    const row = scroller.current?.querySelector<HTMLElement>(`[aria-rowindex="${current + 2}"]`);
    if (row) {
      wantsFocus.current = false;
      row.focus({ preventScroll: true });
    }
  });

  const onKeyDown = (event: KeyboardEvent) => {
    if (!(event.target as HTMLElement).matches("[role=row]")) return;
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? ROW_PX) / ROW_PX) - 2);
    const steps: Record<string, number> = {
      ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length,
    };
    const row = rows[current];
    if ((event.key === "Enter" || event.key === " ") && row && onOpen) {
      event.preventDefault();
      onOpen(row);
    } else if (event.key in steps) {
      event.preventDefault();
      const next = Math.min(rows.length - 1, Math.max(0, current + (steps[event.key] ?? 0)));
      wantsFocus.current = true;
      setActive(next);
      virtual.scrollToIndex(next);
    }
  };

  return (
    <div className="grid" role="grid" aria-label={label} aria-rowcount={rows.length + 1} aria-colcount={columns.length} onKeyDown={onKeyDown}>
      <div className="grid-scroll" ref={scroller}>
        <div role="rowgroup" className="grid-head" style={{ minWidth: narrowest }}>
          <div role="row" className="grid-row" aria-rowindex={1} style={template}>
            {columns.map((column, index) => (
              <div
                key={column.id}
                role="columnheader"
                aria-colindex={index + 1}
                aria-sort={order?.column === column.id ? (order.descending ? "descending" : "ascending") : undefined}
                className="grid-cell"
              >
                {column.sortable && onSort ? (
                  <button type="button" className="sort" onClick={() => onSort(nextSort(sort, column.id))}>
                    {column.label}
                    <span aria-hidden="true">{order?.column === column.id ? (order.descending ? " ↓" : " ↑") : ""}</span>
                  </button>
                ) : (
                  column.label
                )}
              </div>
            ))}
          </div>
        </div>
        <div role="rowgroup" className="grid-body" style={{ height: virtual.getTotalSize(), minWidth: narrowest }}>
          {items.map((item) => {
            const row = rows[item.index] as T;
            const id = rowId(row);
            return (
              <div
                key={item.key}
                role="row"
                row-id={id}
                aria-rowindex={item.index + 2}
                aria-selected={onOpen ? id === selected : undefined}
                tabIndex={item.index === current ? 0 : -1}
                className={`grid-row ag-row ${onOpen ? "can-open" : ""} ${rowClass?.(row) ?? ""}`}
                style={{ ...template, height: ROW_PX, transform: `translateY(${item.start}px)` }}
                onClick={() => {
                  setActive(item.index);
                  onOpen?.(row);
                }}
                onFocus={() => setActive(item.index)}
              >
                {columns.map((column, index) => (
                  <div key={column.id} role="gridcell" aria-colindex={index + 1} col-id={column.id} className="grid-cell">
                    {column.render(row)}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}
