/** The operator's own line above or below every page. */
import { useEffect, useRef } from "react";
import type { Banner as BannerConfig } from "../config";

export function Banner({ banner }: { banner: BannerConfig | null }) {
  const line = useRef<HTMLParagraphElement>(null);
  useEffect(() => {
    if (line.current && banner) line.current.style.backgroundColor = banner.colour;
  }, [banner]);
  return banner ? (
    <p className="brand-banner" ref={line}>
      {banner.text}
    </p>
  ) : null;
}
