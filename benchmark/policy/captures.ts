/** The captures of a real control plane, as the lines of JSON that `ghostwire policy compile` takes. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { answerCase, parseCase } from '../../ghostwire/src/policy/cases.js'
import { median } from '../subject.js'

export const folder = fileURLToPath(new URL('../../../shared/data/captures/', import.meta.url))

/** Microseconds a capture, from its JSON to the JSON of its answer: read, validated, tested, compiled for each machine. */
export function perCapture(rounds: number): number {
  const lines = captures()
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    let written = 0
    const start = performance.now()
    for (const line of lines) written += JSON.stringify(answerCase(parseCase(line))).length
    times.push(((performance.now() - start) * 1000) / lines.length)
    if (written === 0) throw new Error('nothing was answered')
  }
  return median(times)
}

function captures(): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl.gz'))
    .flatMap((name) => gunzipSync(readFileSync(folder + name)).toString().split('\n'))
    .filter((line) => line !== '')
    .map((line) => {
      const { id, policy, topology, tailnet } = JSON.parse(line) as Record<string, unknown>
      return JSON.stringify({ id, policy, topology, tailnet })
    })
}
