/** What a run found: progress on standard error, failures with how to repeat them, and a summary. As `report.rs`. */
import { writeFileSync } from 'node:fs'

/** Failures after which a run ends. */
const MOST_FAILURES = 10
const PROGRESS = 10_000

export class Report {
  readonly #started = Date.now()
  readonly #failures: { repeat: string; what: string }[] = []
  readonly #controls: { name: string; noticed: boolean }[] = []
  readonly #details: Record<string, unknown> = {}
  #told = Date.now()
  #rounds = 0

  constructor(
    readonly command: string,
    readonly seed: number,
    readonly planned: number,
  ) {}

  get over(): boolean {
    return this.#failures.length >= MOST_FAILURES
  }

  /** A round ended, with an error if it failed; `repeat` is what repeats it. */
  round(repeat: string, failure: unknown): void {
    this.#rounds++
    if (failure !== undefined) this.#fail(repeat, failure)
    if (Date.now() - this.#told > PROGRESS) {
      this.#told = Date.now()
      this.#say(`${this.command}: ${this.#rounds} of ${this.planned} rounds, ${this.#failures.length} failed, ${this.#seconds()} s`)
    }
  }

  /** Something that must be noticed was, or why it was not. */
  control(name: string, failure: unknown, how: string): void {
    if (failure === undefined) this.#say(`control, must fail and did: ${name}: ${how}`)
    else this.#fail(`${this.command} --seed ${this.seed}`, new Error(`control: ${name}: ${failure instanceof Error ? failure.message : JSON.stringify(failure)}`))
    this.#controls.push({ name, noticed: failure === undefined })
  }

  detail(name: string, value: unknown): void {
    this.#details[name] = value
  }

  /** Tells the summary, writes it to a file if asked to, and returns whether the run passed. */
  finish(json?: string): boolean {
    const { command, seed } = this
    const failed = this.#failures.length
    const summary = { command, seed, rounds: this.#rounds, failed, failures: this.#failures, controls: this.#controls, ...this.#details, seconds: this.#seconds() }
    if (json !== undefined) writeFileSync(json, `${JSON.stringify(summary, undefined, 2)}\n`)
    process.stdout.write(`${command}: ${this.#rounds} rounds, ${failed} failed, ${this.#controls.length} controls, 0 skipped, seed ${seed}, ${this.#seconds()} s\n`)
    return failed === 0 && this.#rounds > 0
  }

  #fail(repeat: string, failure: unknown): void {
    const what = failure instanceof Error ? (failure.stack ?? failure.message) : String(failure)
    this.#failures.push({ repeat, what })
    this.#say(`FAILED: ${what}\n  repeat: npm run torture -- ${repeat}`)
  }

  #seconds(): number {
    return Math.round((Date.now() - this.#started) / 100) / 10
  }

  #say(line: string): void {
    process.stderr.write(`${line}\n`)
  }
}
