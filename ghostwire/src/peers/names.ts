// Which name a new peer gets: its hostname, or the hostname with the next free number behind it.
//
// As with addresses, this only proposes; the journal key `hostnames/<name>` decides.

const LONGEST = 63;

export class Names {
  readonly #taken = new Set<string>();
  /** By hostname, the number to try next: ten thousand machines called `localhost` must not cost ten thousand tries each. */
  readonly #next = new Map<string, number>();

  /** A name that nobody has as far as this process knows. Give it back with `release` when the commit fails. */
  propose(hostname: string): string {
    let name = hostname;
    let number = this.#next.get(hostname) ?? 1;
    while (this.#taken.has(name)) {
      const suffix = `-${number}`;
      name = `${hostname.slice(0, LONGEST - suffix.length).replace(/-+$/, '')}${suffix}`;
      number += 1;
    }
    if (name !== hostname) this.#next.set(hostname, number);
    this.#taken.add(name);
    return name;
  }

  take(name: string): void {
    this.#taken.add(name);
  }

  release(name: string): void {
    this.#taken.delete(name);
    const [, hostname, digits] = /^(.*)-(\d+)$/.exec(name) ?? [];
    if (hostname === undefined) return;
    const next = this.#next.get(hostname);
    if (next !== undefined) this.#next.set(hostname, Math.min(next, Math.max(1, Number(digits))));
  }
}
