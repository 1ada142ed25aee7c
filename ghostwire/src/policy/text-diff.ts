// What changed in the text of a policy, line by line, as `diff -u` shows it.

import { createTwoFilesPatch } from 'diff';

/** Milliseconds to look for the shortest difference; it takes long only when nearly every line is another. */
const PATIENCE = 250;

/**
 * A unified diff; empty when the texts are equal. null when they have too little in common to show it.
 */
export function textDiff(from: string, to: string, names: readonly [string, string]): string | null {
  if (from === to) return '';
  const patch = createTwoFilesPatch(names[0], names[1], from, to, undefined, undefined, { context: 3, timeout: PATIENCE });
  // Its first line is a row of '='.
  return patch === undefined ? null : patch.replace(/^=+\n/, '');
}
