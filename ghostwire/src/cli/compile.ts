// ghostwire policy compile: answers cases of policies and tailnets, a line of JSON each.

import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { Command } from 'commander';
import { GhostwireError } from '../errors.js';
import { answerCase, parseCase } from '../policy/cases.js';

/** Characters. A case is a policy and a tailnet; this is far more than both. */
const LONGEST_LINE = 128 * 1024 * 1024;

export function compileCommand(policy: Command): void {
  const compile = policy
    .command('compile')
    .description('what policies mean for given tailnets: filters, peers, SSH rules and attributes of each machine; needs no server')
    .requiredOption('--cases <file>', 'lines of JSON {id, policy, topology, tailnet}, plain or gzip (.gz); - reads standard input');
  compile.action(async () => {
    const { cases } = compile.opts<{ cases: string }>();
    const wrong: string[] = [];
    let broken: NodeJS.ErrnoException | undefined;
    process.stdout.once('error', (error) => (broken = error));
    for await (const { text, number } of lines(chunks(cases), cases)) {
      if (broken !== undefined) break;
      if (text.trim() === '') continue;
      let answered: string;
      try {
        answered = JSON.stringify(answerCase(parseCase(text)));
      } catch (error) {
        if (!(error instanceof GhostwireError)) throw error;
        wrong.push(`${cases}: line ${number}: ${error.message}`);
        answered = JSON.stringify({ id: idOf(text), error: error.message });
      }
      const more = process.stdout.write(`${answered}\n`);
      if (!more) await Promise.race([once(process.stdout, 'drain'), once(process.stdout, 'close')]).catch(() => undefined);
    }
    // A reader that has seen enough, such as head, is no failure.
    if (broken !== undefined && broken.code !== 'EPIPE') throw broken;
    // Answered like the others, so that one bad line does not cost the rest; but not passed over.
    if (wrong.length > 0) throw new GhostwireError('ERR_VALIDATION', `${wrong.length} lines are no cases; the first: ${wrong[0]}`);
  });
}

/** The id of what may be no case; null when it has none. */
function idOf(line: string): unknown {
  try {
    return (JSON.parse(line) as { id?: unknown } | null)?.id ?? null;
  } catch {
    return null;
  }
}

async function* chunks(file: string): AsyncGenerator<Buffer> {
  const input: Readable = file === '-' ? process.stdin : createReadStream(file);
  try {
    const plain: Readable = file.endsWith('.gz') ? input.pipe(createGunzip()) : input;
    input.on('error', (error) => plain.destroy(error));
    yield* plain as AsyncIterable<Buffer>;
  } catch (cause) {
    throw new GhostwireError('ERR_USAGE', `cannot read ${file}: ${(cause as Error).message}`, { file }, { cause });
  }
}

async function* lines(input: AsyncIterable<Buffer>, file: string): AsyncGenerator<{ text: string; number: number }> {
  const decoder = new TextDecoder();
  let number = 0;
  let parts: string[] = [];
  let length = 0;
  for await (const chunk of input) {
    const text = decoder.decode(chunk, { stream: true });
    let start = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      yield { text: parts.join('') + text.slice(start, end), number: (number += 1) };
      parts = [];
      length = 0;
      start = end + 1;
    }
    parts.push(text.slice(start));
    length += text.length - start;
    if (length > LONGEST_LINE) throw new GhostwireError('ERR_USAGE', `${file}: line ${number + 1} is longer than ${LONGEST_LINE} characters`);
  }
  yield { text: parts.join(''), number: number + 1 };
}
