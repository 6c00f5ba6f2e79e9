/** A server of this machine, for as long as something is done with it. */

import type { RequestListener } from "node:http";
import type { AddressInfo } from "node:net";

/** @param act - gets the server's address, without a path. */
export async function served(listener: RequestListener, act: (origin: string) => Promise<void>): Promise<void> {
  const { createServer } = await import("node:http");
  const server = createServer(listener);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  try {
    await act(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
