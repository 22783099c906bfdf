/** What the server wrote into the page: where the console is mounted and how it is branded. */
export interface Banner {
  text: string;
  colour: string;
}

export interface ConsoleConfig {
  /** Without a slash at its end; empty for the root. */
  prefix: string;
  brand: { name: string; logo: boolean; terms: string | null; header: Banner | null; footer: Banner | null };
}

const DEFAULT: ConsoleConfig = {
  prefix: "",
  brand: { name: "NeuVector", logo: false, terms: null, header: null, footer: null },
};

function read(): ConsoleConfig {
  const text = globalThis.document?.querySelector('meta[name="nv-config"]')?.getAttribute("content");
  if (!text || text === "nv-config") return DEFAULT;
  try {
    return JSON.parse(text) as ConsoleConfig;
  } catch {
    return DEFAULT;
  }
}

export const config: ConsoleConfig = read();
