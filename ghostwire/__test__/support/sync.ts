// A sync server of three peers.

import type { ExecutionContext } from 'ava';
import { SyncServer, type SyncOptions, type SyncPut } from '../../src/sync.js';

export const put = (handle: number, text = 'a'): SyncPut => ({ handle, id: `p${handle}`, record: JSON.stringify({ id: `p${handle}`, text }) });

/** Peers 1 to 3, who see each other, at revision 1; stopped after the test. */
export async function startSync(t: ExecutionContext, options: Partial<SyncOptions> = {}): Promise<SyncServer> {
  const server = await SyncServer.start({ host: '127.0.0.1', port: 0, epoch: 'e', ...options });
  t.teardown(() => server.stop());
  server.publish({
    revision: 1,
    puts: [1, 2, 3].map((handle) => put(handle)),
    views: [{ view: 1, add: [1, 2, 3] }],
    recipients: [1, 2, 3].map((handle) => ({ handle, view: 1, self: '{"me":1}' })),
  });
  return server;
}
