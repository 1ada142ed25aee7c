/** Rows on their way back: packed columns, as `crates/zqlite-store/src/rows.rs` describes, made into objects. */

const NULLS = 0
const NUMBER = 1
const TEXT = 2
const BLOB = 3

const KIND_NUMBER = 1
const KIND_INTEGER = 2
const KIND_TEXT = 3
const KIND_BLOB = 4

/** A buffer of answers and where the reading stands. */
export class Reader {
  readonly bytes: Buffer
  readonly #i32: Int32Array
  readonly #f64: Float64Array
  readonly #i64: BigInt64Array
  /** The text that all answers cut theirs from, and how far it was cut. */
  text = ''
  textAt = 0
  /** In words of 8 bytes. */
  at = 0

  constructor(size: number) {
    const memory = new ArrayBuffer(size)
    this.bytes = Buffer.from(memory)
    this.#i32 = new Int32Array(memory)
    this.#f64 = new Float64Array(memory)
    this.#i64 = new BigInt64Array(memory)
  }

  /** The lower or upper half of a word, relative to the place of reading. */
  low(word: number): number {
    return this.#i32[2 * (this.at + word)] as number
  }

  high(word: number): number {
    return this.#i32[2 * (this.at + word) + 1] as number
  }

  double(word: number): number {
    return this.#f64[this.at + word] as number
  }

  /** A number where it is exact as one, else a bigint. */
  integer(word: number): number | bigint {
    const high = this.high(word)
    if (high >= -0x200000 && high < 0x200000) {
      const value = high * 2 ** 32 + (this.low(word) >>> 0)
      if (Number.isSafeInteger(value)) return value
    }
    return this.#i64[this.at + word] as bigint
  }

  /** Cuts off the next `units` of the text. */
  cut(units: number): string {
    const start = this.textAt
    this.textAt = start + units
    return this.text.substring(start, this.textAt)
  }

  /** The columns of a chunk, and the number of its rows; moves behind it. */
  chunk(columns: unknown[][]): number {
    const rows = this.low(0)
    const width = this.high(0)
    this.at++
    for (let c = 0; c < width; c++) columns[c] = this.#column(rows)
    return rows
  }

  #column(rows: number): unknown[] {
    const tag = this.low(0)
    const blobWords = (this.high(0) + 7) >>> 3
    this.at++
    switch (tag) {
      case NULLS:
        return Array.from({ length: rows }, () => null)
      case NUMBER: {
        const start = this.at
        this.at += rows
        return Array.from(this.#f64.subarray(start, start + rows))
      }
      case TEXT: {
        const values: (string | null)[] = []
        const lengths = 2 * this.at
        for (let i = 0; i < rows; i++) {
          const units = this.#i32[lengths + i] as number
          values.push(units < 0 ? null : this.cut(units))
        }
        this.at += (rows + 1) >>> 1
        return values
      }
      case BLOB: {
        const values: (Uint8Array | null)[] = []
        const lengths = 2 * this.at
        let byte = 8 * (this.at + ((rows + 1) >>> 1))
        for (let i = 0; i < rows; i++) {
          const length = this.#i32[lengths + i] as number
          values.push(length < 0 ? null : this.#copy(byte, length))
          byte += Math.max(length, 0)
        }
        this.at += ((rows + 1) >>> 1) + blobWords
        return values
      }
      default:
        return this.#mixed(rows, blobWords)
    }
  }

  #mixed(rows: number, blobWords: number): unknown[] {
    const values: unknown[] = []
    const kinds = 8 * this.at
    const slots = this.at + ((rows + 7) >>> 3)
    let byte = 8 * (slots + rows)
    for (let i = 0; i < rows; i++) {
      const slot = this.#f64[slots + i] as number
      switch (this.bytes[kinds + i]) {
        case KIND_NUMBER:
          values.push(slot)
          break
        case KIND_INTEGER:
          values.push(this.#i64[slots + i])
          break
        case KIND_TEXT:
          values.push(this.cut(slot))
          break
        case KIND_BLOB:
          values.push(this.#copy(byte, slot))
          byte += slot
          break
        default:
          values.push(null)
      }
    }
    this.at = slots + rows + blobWords
    return values
  }

  #copy(byte: number, length: number): Uint8Array {
    return new Uint8Array(this.bytes.subarray(byte, byte + length))
  }
}

/** Appends `count` objects made of the columns to `rows`. */
export type MakeRows = (columns: unknown[][], count: number, rows: unknown[]) => void

/**
 * A function that makes objects with these properties. It is generated, so that every row of a result has the one hidden
 * class that an object literal gives; where code generation is forbidden, rows are made property by property.
 */
export function rowMaker(names: readonly string[]): MakeRows {
  try {
    const take = names.map((_, i) => `const c${i} = columns[${i}];`).join(' ')
    // A computed key, because a plain `__proto__` in a literal sets the prototype.
    const properties = names.map((name, i) => `[${JSON.stringify(name)}]: c${i}[i]`).join(', ')
    // oxlint-disable-next-line no-new-func, typescript/no-implied-eval -- the names are quoted as JSON strings
    return new Function('columns', 'count', 'rows', `${take} for (let i = 0; i < count; i++) rows.push({ ${properties} })`) as MakeRows
  } catch {
    return (columns, count, rows) => {
      for (let i = 0; i < count; i++) {
        const row = {}
        names.forEach((name, c) => {
          Object.defineProperty(row, name, { value: columns[c]?.[i], enumerable: true, configurable: true, writable: true })
        })
        rows.push(row)
      }
    }
  }
}
