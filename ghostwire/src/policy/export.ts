// The policy as one file, for another coordinator or a version control system, and what such a file cannot say.
//
// A file only allows, and for good. So native rules that allow without an end become entries of `acls`; those that deny
// or expire are left out and named.

import { applyEdits, modify, parse } from 'jsonc-parser';
import { NATIVE, ruleState, type NativeRule, type RuleFields } from './rules.js';

export interface PolicyExport {
  /** HuJSON */
  readonly text: string;
  /** Whether the text alone means all that is in force. */
  readonly complete: boolean;
  /** Ids of native rules that were written into the text. */
  readonly included: readonly number[];
  /** Native rules that the text cannot hold. */
  readonly omitted: readonly { readonly id: number; readonly reason: string }[];
}

/** Stands for a policy that was never written. */
const NOTHING = '{\n  // No policy: everybody may reach everybody.\n}\n';

/** @param unused ids, in the ACL engine, of rules that have no effect */
export function exportPolicy(text: string | null, rules: readonly NativeRule[], unused: ReadonlySet<number>, now: number): PolicyExport {
  const included: number[] = [];
  const omitted: { id: number; reason: string }[] = [];
  let out = text ?? NOTHING;
  const sections: unknown = parse(out, [], { allowTrailingComma: true });
  const restricts = typeof sections === 'object' && sections !== null && ('acls' in sections || 'grants' in sections);
  for (const { id, record } of rules) {
    if (ruleState(record, now) !== 'active' || unused.has(NATIVE + id)) continue;
    const reason = obstacle(record);
    if (reason !== undefined) {
      omitted.push({ id, reason });
      continue;
    }
    included.push(id);
    // Where nothing restricts, there is nothing to add.
    if (restricts) out = append(out, record);
  }
  return { text: out, complete: omitted.length === 0, included, omitted };
}

function obstacle({ action, expiresAt, protocols, sources, destinations }: RuleFields): string | undefined {
  if (action === 'deny') return 'a policy file cannot deny';
  if (expiresAt !== null) return 'what a policy file allows does not expire';
  if (protocols.length === 0) return 'an entry of a policy file allows TCP, UDP and ICMP, or protocols that it names, but not all';
  if ([...sources, ...destinations].some((selector) => /^[0-9a-fA-F.:]+-[0-9a-fA-F.:]+$/.test(selector)))
    return 'a policy file has no ranges of addresses';
  return undefined;
}

function append(text: string, { protocols, ports, sources, destinations }: RuleFields): string {
  const suffix = ports.length === 0 ? '*' : ports.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)).join();
  let out = text;
  for (const protocol of protocols) {
    const entry = { action: 'accept', src: sources, proto: String(protocol), dst: destinations.map((target) => `${target}:${suffix}`) };
    // Without formatting options, which would lay out anew what is there; but on a line of its own.
    const edits = modify(out, ['acls', -1], entry, { isArrayInsertion: true });
    out = applyEdits(out, edits.map((edit) => ({ ...edit, content: edit.content.replace(/^,\{/, ',\n    {') })));
  }
  return out;
}
