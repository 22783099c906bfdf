/** What the map's nodes are called. */
import type { Translate } from "../i18n";
import type { MapNode } from "./aggregate";

export function nodeLabel(node: MapNode, t: Translate): string {
  if (node.label) return node.label;
  if (node.kind === "external") return t("map.external");
  if (node.kind === "hosts") return t("map.hosts");
  return node.kind === "unmanaged" ? t("map.unmanaged") : t("map.no_namespace");
}
