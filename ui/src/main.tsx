/** Starts the console. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "./api/client";
import { startLanguage } from "./i18n";
import { router } from "./router";
import { startTheme } from "./shell/theme";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/pages.css";

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // What the server refused it will refuse again; what did not arrive may arrive now.
      retry: (count, error) => count < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      refetchOnWindowFocus: true,
    },
  },
});

startTheme();
const place = document.getElementById("root");
if (place) {
  void startLanguage().finally(() =>
    createRoot(place).render(
      <StrictMode>
        <QueryClientProvider client={client}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </StrictMode>,
    ),
  );
}
