import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Relative addresses: the server sets <base> to the prefix under which the console is reached.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    manifest: "manifest.json",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    sourcemap: false,
  },
  server: {
    proxy: Object.fromEntries(
      ["/v1", "/v2"].map((path) => [
        path,
        { target: process.env.NV_CONSOLE_URL ?? "https://127.0.0.1:8443", secure: false, changeOrigin: true },
      ]),
    ),
  },
});
