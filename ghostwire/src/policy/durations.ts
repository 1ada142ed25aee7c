// Durations as Go writes and reads them, in nanoseconds: '1h30m', '-1m', '0', '1.5s'.

const UNITS: ReadonlyMap<string, bigint> = new Map([
  ['ns', 1n],
  ['us', 1_000n],
  ['µs', 1_000n],
  ['μs', 1_000n],
  ['ms', 1_000_000n],
  ['s', 1_000_000_000n],
  ['m', 60_000_000_000n],
  ['h', 3_600_000_000_000n],
]);

const SECOND = 1_000_000_000n;
const LARGEST = (1n << 63n) - 1n;

export class DurationError extends Error {}

/** @throws DurationError with Go's message */
export function parseDuration(text: string): bigint {
  const invalid = (): DurationError => new DurationError(`time: invalid duration ${JSON.stringify(text.slice(0, 100))}`);
  let rest = text.replace(/^[+-]/, '');
  if (rest === '0') return 0n;
  if (rest === '') throw invalid();
  let total = 0n;
  while (rest !== '') {
    const match = /^(\d*)(?:\.(\d*))?([^\d.]*)/.exec(rest);
    const [whole = '', digits = '', fraction = '', unit = ''] = match ?? [];
    if (whole === '' || (digits === '' && fraction === '') || digits.length > 19) throw invalid();
    if (unit === '') throw new DurationError(`time: missing unit in duration ${JSON.stringify(text)}`);
    const scale = UNITS.get(unit);
    if (scale === undefined) throw new DurationError(`time: unknown unit ${JSON.stringify(unit)} in duration ${JSON.stringify(text)}`);
    const part = fraction.slice(0, 18);
    total += BigInt(digits || '0') * scale + (BigInt(part || '0') * scale) / 10n ** BigInt(part.length);
    if (total > LARGEST) throw invalid();
    rest = rest.slice(whole.length);
  }
  return text.startsWith('-') ? -total : total;
}

/** '168h0m1s', '1.5s', '0s' */
export function formatDuration(value: bigint): string {
  const sign = value < 0n ? '-' : '';
  const magnitude = value < 0n ? -value : value;
  if (magnitude === 0n) return '0s';
  if (magnitude < SECOND) {
    const [unit, scale]: [string, bigint] = magnitude < 1_000n ? ['ns', 1n] : magnitude < 1_000_000n ? ['µs', 1_000n] : ['ms', 1_000_000n];
    return `${sign}${decimal(magnitude, scale)}${unit}`;
  }
  const minutes = magnitude / (60n * SECOND);
  const seconds = `${decimal(magnitude % (60n * SECOND), SECOND)}s`;
  if (minutes === 0n) return sign + seconds;
  const hours = minutes / 60n;
  return `${sign}${hours > 0n ? `${hours}h` : ''}${minutes % 60n}m${seconds}`;
}

function decimal(value: bigint, scale: bigint): string {
  const fraction = (value % scale).toString().padStart(scale.toString().length - 1, '0').replace(/0+$/, '');
  return `${value / scale}${fraction === '' ? '' : `.${fraction}`}`;
}
