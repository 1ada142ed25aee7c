// Routes: which of those that a machine offers are approved, and which of several routers is the one that is used.

import { CidrTable } from 'zqlite';
import type { Prefix } from '../addresses/ip.js';
import { prefixText } from '../addresses/ranges.js';
import type { PolicyDocument } from './document.js';
import { isExitRoute, subnetRoutes, type Tailnet, type TailnetNode } from './tailnet.js';

/** `autoApprovers.routes`, to be found by what a prefix lies in: the table's values are places in the lists. */
interface Approvers {
  readonly table: CidrTable;
  readonly lists: (readonly string[])[];
}

/** Made for a policy when a route is first offered. */
const known = new WeakMap<PolicyDocument['autoApprovers'], Approvers>();

function approversOf(autoApprovers: PolicyDocument['autoApprovers']): Approvers {
  let found = known.get(autoApprovers);
  if (found === undefined) {
    const [table, lists]: [CidrTable, Approvers['lists']] = [new CidrTable(), []];
    for (const { prefix, approvers } of autoApprovers.routes) {
      if (isExitRoute(prefix)) continue;
      const text = prefixText(prefix);
      // Two entries may write one prefix in two ways.
      const place = table.get(text);
      if (place === undefined) table.insert(text, lists.push(approvers) - 1);
      else lists[place] = [...(lists[place] ?? []), ...approvers];
    }
    known.set(autoApprovers, (found = { table, lists }));
  }
  return found;
}

/** Who may approve what, asked about one machine's offers. */
export interface Offer {
  readonly user: string | null;
  readonly tags: readonly string[];
  readonly offered: readonly Prefix[];
  /** What an admin approved by hand, or the policy did before. */
  readonly approved: readonly Prefix[];
}

/** Routes in force: offered, and approved by hand or by `autoApprovers`. In the order of the offer. */
export function approvedRoutes(document: PolicyDocument, { user, tags, offered, approved }: Offer): Prefix[] {
  const byHand = new Set(approved.map(prefixText));
  const mayApprove = (approvers: readonly string[]): boolean =>
    approvers.some((approver) =>
      tags.length > 0
        ? tags.includes(approver) || approver === 'autogroup:tagged'
        : user !== null && (approver === user || approver.startsWith('autogroup:member') || (document.groups.get(approver) ?? []).includes(user)),
    );
  const { autoApprovers } = document;
  const { routes, exitNode } = autoApprovers;
  return offered.filter((route) => {
    if (byHand.has(prefixText(route))) return true;
    // A default route is only ever approved by `exitNode`, even where `routes` names it.
    if (isExitRoute(route)) return mayApprove(exitNode);
    if (routes.length === 0) return false;
    const { table, lists } = approversOf(autoApprovers);
    return table.covering(prefixText(route)).some(({ value }) => mayApprove(lists[value] ?? []));
  });
}

/**
 * Whom of the routers of a prefix the plane prefers. It goes by who registered first, so the nodes of a tailnet are given in
 * that order where it is known.
 */
export class Routers {
  readonly #byRoute = new Map<string, TailnetNode[]>();

  constructor(tailnet: Tailnet) {
    for (const node of tailnet.nodes) {
      for (const route of subnetRoutes(node)) {
        const text = prefixText(route);
        const routers = this.#byRoute.get(text);
        if (routers === undefined) this.#byRoute.set(text, [node]);
        else routers.push(node);
      }
    }
  }

  /** The router of a prefix that is used, among some or all of them. */
  primary(route: string, among?: ReadonlySet<TailnetNode>): TailnetNode | undefined {
    return this.#byRoute.get(route)?.find((node) => among === undefined || among.has(node));
  }
}
