/** Which of the names that there are was probably meant by one that there is not. */
import { closest, distance } from 'fastest-levenshtein'

/**
 * The name that `given` resembles: at most two fifths of it are other letters, the letters are the same in another order, or it is
 * a beginning of it. `undefined` when there is none, as a name that is far away would only mislead. Case does not matter.
 */
export function nearest(given: string, known: readonly string[]): string | undefined {
  if (known.length === 0) return undefined
  const [wanted, names] = [given.toLowerCase(), known.map((name) => name.toLowerCase())]
  const near = closest(wanted, names)
  const isNear = distance(wanted, near) <= 0.4 * Math.max(wanted.length, near.length) || letters(wanted) === letters(near)
  const begun = wanted.length < 3 ? -1 : names.findIndex((name) => name.startsWith(wanted))
  return known[isNear ? names.indexOf(near) : begun]
}

/** `; did you mean …?` if there is something near, for the end of a message. */
export function didYouMean(given: string, known: readonly string[], prefix = ''): string {
  const near = nearest(given, known)
  return near === undefined ? '' : `; did you mean ${prefix}${near}?`
}

function letters(text: string): string {
  return text.split('').sort().join('')
}
