// Who sees whom, and which prefixes each is told to send through whom.
//
// Two machines see each other when one may reach the other, or something that the other carries, whichever way.

import type { Prefix } from '../addresses/ip.js';
import { prefixText } from '../addresses/ranges.js';
import type { Reach } from './reach.js';
import { Routers } from './routes.js';
import { isExitRoute, type Tailnet, type TailnetNode } from './tailnet.js';

/** A machine as another one is told of it. */
export interface VisiblePeer {
  readonly name: string;
  /** Prefixes that it may send from and be sent to: its addresses, and what it carries for the other. */
  readonly allowed: readonly string[];
  /** Of those, the subnets that it is the router for; null is none. */
  readonly primary: readonly string[] | null;
}

export class Visibility {
  readonly #tailnet: Tailnet;
  readonly #routers: Routers;
  /** By viewer: machines seen, and what they carry of which the viewer has use. */
  readonly #seen = new Map<TailnetNode, Map<TailnetNode, Set<string>>>();
  /** By viewer: prefixes that it reaches without `via`. */
  readonly #direct = new Map<TailnetNode, Set<string>>();
  /** By viewer and prefix: the routers that `via` chose for it. */
  readonly #steered = new Map<TailnetNode, Map<string, Set<TailnetNode>>>();

  constructor(tailnet: Tailnet, reaches: readonly Reach[]) {
    this.#tailnet = tailnet;
    this.#routers = new Routers(tailnet);
    for (const reach of reaches) {
      for (const target of reach.targets) {
        for (const sender of reach.senders) {
          this.#meet(sender, target.node, target.routes);
          if (reach.grant.via.length > 0) this.#steer(sender, target.node, target.routes);
          else this.#reachDirectly(sender, target.routes);
        }
        for (const { node, routes } of reach.carriers) {
          this.#meet(node, target.node, target.routes);
          this.#meet(target.node, node, routes);
        }
      }
    }
  }

  /** Machines that one sees, in the tailnet's order. */
  of(viewer: TailnetNode): VisiblePeer[] {
    const seen = this.#seen.get(viewer);
    if (seen === undefined) return [];
    const own = new Set(viewer.routes.map(prefixText));
    // A machine without IPv4 is told of nobody's.
    const families = new Set(viewer.addresses.map(({ family }) => family));
    return this.#tailnet.nodes.flatMap((peer) => {
      const useful = seen.get(peer);
      if (useful === undefined) return [];
      const carried = peer.routes.filter((route) => {
        const text = prefixText(route);
        if (isExitRoute(route)) return useful.has(text);
        // Routers of one prefix know which of them is in use.
        return (useful.has(text) || own.has(text)) && this.#routers.primary(text, this.#chosen(viewer, text)) === peer;
      });
      const primary = carried.filter((route) => !isExitRoute(route)).map(prefixText);
      return [
        {
          name: peer.name,
          allowed: [...peer.addresses.filter(({ family }) => families.has(family)), ...carried].map(prefixText),
          primary: primary.length === 0 ? null : primary,
        },
      ];
    });
  }

  #meet(viewer: TailnetNode, peer: TailnetNode, routes: readonly Prefix[]): void {
    if (viewer === peer) return;
    const useful = this.#useful(viewer, peer);
    for (const route of routes) useful.add(prefixText(route));
    this.#useful(peer, viewer);
  }

  #useful(viewer: TailnetNode, peer: TailnetNode): Set<string> {
    let seen = this.#seen.get(viewer);
    if (seen === undefined) this.#seen.set(viewer, (seen = new Map()));
    let useful = seen.get(peer);
    if (useful === undefined) seen.set(peer, (useful = new Set()));
    return useful;
  }

  /** The routers that a viewer is to use for a prefix; undefined is whichever the tailnet uses. */
  #chosen(viewer: TailnetNode, route: string): ReadonlySet<TailnetNode> | undefined {
    return this.#direct.get(viewer)?.has(route) === true ? undefined : this.#steered.get(viewer)?.get(route);
  }

  #reachDirectly(viewer: TailnetNode, routes: readonly Prefix[]): void {
    if (routes.length === 0) return;
    let direct = this.#direct.get(viewer);
    if (direct === undefined) this.#direct.set(viewer, (direct = new Set()));
    for (const route of routes) direct.add(prefixText(route));
  }

  #steer(viewer: TailnetNode, router: TailnetNode, routes: readonly Prefix[]): void {
    let steered = this.#steered.get(viewer);
    if (steered === undefined) this.#steered.set(viewer, (steered = new Map()));
    for (const route of routes) {
      const text = prefixText(route);
      const routers = steered.get(text);
      if (routers === undefined) steered.set(text, new Set([router]));
      else routers.add(router);
    }
  }
}
