/** Ours, as it is built: `npm run build` first. */
import { answerCase, parseCase } from '../../ghostwire/dist/policy/cases.js'
import { median, subject } from '../subject.js'
import { captures } from './captures.js'

subject(async (effort) => {
  if (effort.case !== 'captures') throw new Error(`no such case: ${effort.case}`)
  return perCapture(effort.quick ? 3 : 15)
})

/** Microseconds a capture, from its JSON to the JSON of its answer: read, validated, tested, compiled for each machine. */
function perCapture(rounds: number): number {
  const lines = captures()
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    let written = 0
    const start = process.hrtime.bigint()
    for (const line of lines) written += JSON.stringify(answerCase(parseCase(line))).length
    times.push(Number(process.hrtime.bigint() - start) / 1000 / lines.length)
    if (written === 0) throw new Error('nothing was answered')
  }
  return median(times)
}
