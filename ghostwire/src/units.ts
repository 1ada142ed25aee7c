// Durations and sizes as people write them: '30s', '10m', '512MB'.

const DURATIONS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, min: 60_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Powers of 1024 under both names, as zqlite has them. */
const SIZES: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 };

function parse(text: string, units: Readonly<Record<string, number>>, bare: number): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim());
  const factor = match?.[2] === '' ? bare : units[match?.[2] ?? '?'];
  if (match === null || factor === undefined) return undefined;
  const value = Math.round(Number(match[1]) * factor);
  return Number.isSafeInteger(value) ? value : undefined;
}

function format(value: number, units: Readonly<Record<string, number>>): string {
  let best = String(value);
  for (const [unit, factor] of Object.entries(units)) {
    const candidate = `${value / factor}${unit}`;
    if (value !== 0 && value % factor === 0 && candidate.length <= best.length + 1) best = candidate;
  }
  return best;
}

/** Milliseconds from '250ms', '30s', '10m', '12h', '7d' or a bare number of milliseconds; undefined when it is neither. */
export const parseDuration = (text: string): number | undefined => parse(text, DURATIONS, 1);

/** Bytes from '512MB' or a bare number of bytes; undefined when it is neither. */
export const parseSize = (text: string): number | undefined => parse(text, SIZES, 1);

/** The shortest exact form that `parseDuration` reads back. */
export const formatDuration = (milliseconds: number): string => format(milliseconds, DURATIONS);

/** The shortest exact form that `parseSize` reads back. */
export const formatSize = (bytes: number): string => format(bytes, SIZES);
