/** Addresses of pages. Everything that a page shows by choice is a search parameter here, checked and typed. */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { Root } from "./root";
import { config } from "./config";
import { LEVELS, SINCE, TYPES } from "./events/filters";
import { LEVELS as MAP_LEVELS } from "./map/aggregate";
import { Failure, Skeleton } from "./parts/states";
import { oneOf, parseSearch, stringifySearch, text } from "./url";

/** Every parameter may be left out. */
const optional =
  <T,>(read: (search: Record<string, unknown>) => T) =>
  (search: Record<string, unknown>): Partial<T> =>
    read(search);

const root = createRootRoute({ component: Root });
const index = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/network", replace: true });
  },
});

const network = createRoute({
  getParentRoute: () => root,
  path: "/network",
  validateSearch: optional((search) => ({
    level: oneOf(search.level, MAP_LEVELS),
    view: oneOf(search.view, ["table"]),
    namespace: text(search.namespace),
    verdict: oneOf(search.verdict, ["allow", "violate", "deny", "threat"]),
    q: text(search.q),
    unmanaged: oneOf(search.unmanaged, ["hide"]),
    node: text(search.node),
    edge: typeof search.edge === "string" ? search.edge.slice(0, 600) : undefined,
    sort: text(search.sort),
  })),
  component: lazyRouteComponent(() => import("./map/page")),
});

const listSearch = (search: Record<string, unknown>) => ({ q: text(search.q), sort: text(search.sort) });

const nodes = createRoute({
  getParentRoute: () => root,
  path: "/nodes",
  validateSearch: optional((search) => ({ ...listSearch(search), id: text(search.id), tab: oneOf(search.tab, ["processes"]) })),
  component: lazyRouteComponent(() => import("./assets/nodes")),
});
const containers = createRoute({
  getParentRoute: () => root,
  path: "/containers",
  validateSearch: optional((search) => ({
    ...listSearch(search),
    id: text(search.id),
    namespace: text(search.namespace),
    state: oneOf(search.state, ["discover", "monitor", "protect", "exit", "unmanaged", "quarantined"]),
    exited: oneOf(search.exited, ["show"]),
    tab: oneOf(search.tab, ["processes"]),
  })),
  component: lazyRouteComponent(() => import("./assets/containers")),
});
const components = createRoute({
  getParentRoute: () => root,
  path: "/components",
  validateSearch: optional((search) => ({ tab: oneOf(search.tab, ["enforcers"]), id: text(search.id) })),
  component: lazyRouteComponent(() => import("./assets/components")),
});
const groups = createRoute({
  getParentRoute: () => root,
  path: "/groups",
  validateSearch: optional((search) => ({
    ...listSearch(search),
    mode: oneOf(search.mode, ["Discover", "Monitor", "Protect"]),
    name: text(search.name),
    tab: oneOf(search.tab, ["profile", "files", "rules"]),
  })),
  component: lazyRouteComponent(() => import("./groups/page")),
});
const rules = createRoute({
  getParentRoute: () => root,
  path: "/rules",
  validateSearch: optional(listSearch),
  component: lazyRouteComponent(() => import("./groups/rules")),
});
const eventSearch = (search: Record<string, unknown>) => ({
  q: text(search.q),
  type: oneOf(search.type, TYPES),
  level: oneOf(search.level, LEVELS),
  since: oneOf(search.since, SINCE),
});
const events = createRoute({
  getParentRoute: () => root,
  path: "/events",
  validateSearch: optional(eventSearch),
  component: lazyRouteComponent(() => import("./events/page")),
});
// Below the list, so that the list stays as it is while its rows are opened and closed.
const event = createRoute({ getParentRoute: () => events, path: "$id", component: () => null });

export const router = createRouter({
  routeTree: root.addChildren([index, network, nodes, containers, components, groups, rules, events.addChildren([event])]),
  basepath: config.prefix || "/",
  parseSearch,
  stringifySearch,
  defaultPendingComponent: Skeleton,
  defaultPendingMs: 100,
  defaultErrorComponent: ({ error, reset }) => <Failure error={error} retry={reset} />,
  defaultNotFoundComponent: () => <Failure error={new Error("404")} />,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
