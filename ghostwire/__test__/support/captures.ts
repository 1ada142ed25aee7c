// The captures of a real control plane: outside data, beside the project. Tests say loudly when it is absent.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { Case, NodeAnswer } from '../../src/policy/cases.js';

/** A packet filter rule with nothing left to be known: what a machine's filter runs. */
export interface Match {
  readonly IPProto: readonly number[];
  readonly Srcs: readonly string[];
  readonly Dsts: readonly { readonly Net: string; readonly Ports: { readonly First: number; readonly Last: number } }[];
}

export interface Capture extends Case {
  /** 200: the plane took the policy. */
  readonly code: number;
  readonly err: string | null;
  readonly nodes: Readonly<Record<string, NodeAnswer & { readonly matches?: readonly Match[] }>> | null;
}

const folder = fileURLToPath(new URL('../../../../shared/data/captures/', import.meta.url));

/** undefined when the folder is not there. */
export function captures(): Capture[] | undefined {
  if (!existsSync(folder)) return undefined;
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl.gz'))
    .sort()
    .flatMap((name) => gunzipSync(readFileSync(folder + name)).toString().split('\n'))
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Capture);
}

/** The part of a capture that is given to us. */
export function caseOf({ id, policy, topology, tailnet }: Capture): Case {
  return { id, policy, topology, ...(tailnet === undefined ? {} : { tailnet }) };
}
