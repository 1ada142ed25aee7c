// Text from a policy inside an error message: quoted, and short however long it was.

import { closest } from 'fastest-levenshtein';

const LONGEST = 120;

export const quote = (text: string): string => JSON.stringify(text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

/** `; did you mean "…"?`, or nothing when there is nothing to choose from. */
export function didYouMean(text: string, known: readonly string[]): string {
  if (known.length === 0 || known.length > 10_000 || text.length > LONGEST) return '';
  return `; did you mean ${quote(closest(text, [...known]))}?`;
}
