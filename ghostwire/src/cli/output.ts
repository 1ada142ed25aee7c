// What commands print: JSON with --json, else lines and tables for people.

/** Rows under their headings, columns as wide as their widest cell. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, column) => Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)));
  return [headings, ...rows]
    .map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `name: value` lines; lists are joined, null and empty ones are left out. */
export function fields(record: Readonly<Record<string, unknown>>): string {
  const shown = Object.entries(record)
    .map(([name, value]) => [name, cell(value)] as const)
    .filter(([, text]) => text !== '');
  const width = Math.max(...shown.map(([name]) => name.length)) + 1;
  return shown.map(([name, text]) => `${`${name}:`.padEnd(width)} ${text}`).join('\n');
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (Array.isArray(value)) return value.join(', ');
  if (typeof value === 'object')
    return Object.entries(value)
      .map(([key, part]) => `${key}=${cell(part)}`)
      .join(', ');
  return typeof value === 'string' ? value : JSON.stringify(value);
}

export function print(json: boolean, value: unknown, text: string): void {
  process.stdout.write(json ? `${JSON.stringify(value, undefined, 2)}\n` : `${text}\n`);
}
