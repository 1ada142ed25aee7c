// Who is online, as far as it matters: who has a connection for the netmap, with some patience at both ends.

/** An agent that is started anew, or whose connection broke, is back by then. Milliseconds. */
const OFFLINE_AFTER = 5_000;
/** For everybody to come back after the coordinator's own start. Milliseconds. */
const SETTLED_AFTER = 30_000;

export class Presence {
  readonly #changed: (handles: Iterable<number> | undefined) => void;
  readonly #offlineAfter: number;
  readonly #connected = new Set<number>();
  /** Those whose connection has ended a moment ago. */
  readonly #leaving = new Map<number, NodeJS.Timeout>();
  #settled = false;
  #start: NodeJS.Timeout;

  /** @param changed told who may be online or offline now who was not before; undefined: anybody */
  constructor(changed: (handles: Iterable<number> | undefined) => void, { offlineAfter = OFFLINE_AFTER, settledAfter = SETTLED_AFTER } = {}) {
    this.#changed = changed;
    this.#offlineAfter = offlineAfter;
    this.#start = setTimeout(() => {
      this.#settled = true;
      changed(undefined);
    }, settledAfter).unref();
  }

  /** Until everybody has had the time to come back nobody counts as offline. */
  isOnline(handle: number): boolean {
    return !this.#settled || this.#connected.has(handle) || this.#leaving.has(handle);
  }

  take(events: readonly { readonly handle: number; readonly connected: boolean }[]): void {
    const came: number[] = [];
    for (const { handle, connected } of events) {
      clearTimeout(this.#leaving.get(handle));
      this.#leaving.delete(handle);
      if (connected) {
        this.#connected.add(handle);
        came.push(handle);
      } else if (this.#connected.delete(handle)) {
        const timer = setTimeout(() => {
          this.#leaving.delete(handle);
          this.#changed([handle]);
        }, this.#offlineAfter).unref();
        this.#leaving.set(handle, timer);
      }
    }
    if (came.length > 0) this.#changed(came);
  }

  stop(): void {
    clearTimeout(this.#start);
    for (const timer of this.#leaving.values()) clearTimeout(timer);
  }
}
