/** Either the page that the address names, or the way in to it. The address stays the same. */
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useState } from "react";
import { ApiError, onSignedOut } from "./api/client";
import { useSelf } from "./api/queries";
import { Failure } from "./parts/states";
import { Login } from "./session/login";
import { Shell } from "./shell/shell";

export function Root() {
  const self = useSelf();
  const client = useQueryClient();
  const [ended, setEnded] = useState(false);
  const end = useCallback(
    (byItself: boolean) => {
      setEnded(byItself);
      client.setQueryData(["self"], null);
      // Nothing that this user saw is there for the next one.
      client.removeQueries({ predicate: (query) => query.queryKey[0] !== "self" });
    },
    [client],
  );
  useEffect(
    () =>
      onSignedOut(() => {
        if (client.getQueryData(["self"])) end(true);
      }),
    [client, end],
  );
  if (self.data) return <Shell self={self.data} onEnd={end} />;
  if (self.isPending) return <div className="splash" aria-busy="true" />;
  if (self.error && !(self.error instanceof ApiError && self.error.status === 401)) {
    return (
      <main className="splash">
        <Failure error={self.error} retry={() => void self.refetch()} />
      </main>
    );
  }
  return <Login ended={ended} />;
}
