/** The captures of a real control plane, as the lines of JSON that `ghostwire policy compile` takes. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

export const folder = fileURLToPath(new URL('../../../shared/data/captures/', import.meta.url))

export function captures(): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl.gz'))
    .flatMap((name) => gunzipSync(readFileSync(folder + name)).toString().split('\n'))
    .filter((line) => line !== '')
    .map((line) => {
      const { id, policy, topology, tailnet } = JSON.parse(line) as Record<string, unknown>
      return JSON.stringify({ id, policy, topology, tailnet })
    })
}
