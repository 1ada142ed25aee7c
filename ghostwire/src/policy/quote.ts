// Text from a policy inside an error message: quoted, and short however long it was.

import { nearest } from '../nearest.js';

const LONGEST = 120;

export const quote = (text: string): string => JSON.stringify(text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

/** `; did you mean "…"?`, or nothing when there is nothing near. */
export function didYouMean(text: string, known: readonly string[]): string {
  if (known.length === 0 || known.length > 10_000 || text.length > LONGEST) return '';
  const near = nearest(text, known);
  return near === undefined ? '' : `; did you mean ${quote(near)}?`;
}
