/** Rows on their way back: packed columns, as `crates/zqlite-store/src/rows.rs` describes, made into what the caller asked for. */

const NULLS = 0
const NUMBER = 1
const TEXT = 2
const BLOB = 3
const INT32 = 5
/** All tags, MIXED among them. */
const TAGS = 6

const KIND_NUMBER = 1
const KIND_INTEGER = 2
const KIND_TEXT = 3
const KIND_BLOB = 4

/** How rows are given: objects by column name, arrays in column order, or whole columns. */
export type Layout = 'objects' | 'arrays' | 'columns'

/** A column of a result: numbers only, or any values (integers beyond ±(2^53-1) are bigints). */
export type Column = Float64Array | (number | bigint | string | Uint8Array | null)[]

/** A buffer of answers and where the reading stands. Its fields are what generated code reads. */
export class Reader {
  readonly bytes: Buffer
  readonly i32: Int32Array
  readonly f64: Float64Array
  readonly i64: BigInt64Array
  /** The text that all answers cut theirs from, and how far it was cut. */
  text = ''
  textAt = 0
  /** In words of 8 bytes. */
  at = 0
  /** Of the columns of the chunk scanned last: where their values begin (words, or half words for lengths of texts and for INT32). */
  readonly starts: number[] = []
  readonly tags: number[] = []
  /** Where their texts begin. */
  readonly texts: number[] = []
  /** The values of those that are neither numbers nor texts throughout. */
  readonly values: unknown[][] = []

  constructor(size: number) {
    const memory = new ArrayBuffer(size)
    this.bytes = Buffer.from(memory)
    this.i32 = new Int32Array(memory)
    this.f64 = new Float64Array(memory)
    this.i64 = new BigInt64Array(memory)
  }

  /** The lower or upper half of a word, relative to the place of reading. */
  low(word: number): number {
    return this.i32[2 * (this.at + word)] as number
  }

  high(word: number): number {
    return this.i32[2 * (this.at + word) + 1] as number
  }

  double(word: number): number {
    return this.f64[this.at + word] as number
  }

  /** A number where it is exact as one, else a bigint. */
  integer(word: number): number | bigint {
    const high = this.high(word)
    if (high >= -0x200000 && high < 0x200000) {
      const value = high * 2 ** 32 + (this.low(word) >>> 0)
      if (Number.isSafeInteger(value)) return value
    }
    return this.i64[this.at + word] as bigint
  }

  /** Cuts off the next `units` of the text. */
  cut(units: number): string {
    const start = this.textAt
    this.textAt = start + units
    return this.text.substring(start, this.textAt)
  }

  /**
   * Finds the columns of a chunk and moves behind it.
   * @returns a number that is the same for chunks whose columns have the same tags, or a text where there are many columns
   */
  scan(width: number, rows: number): number | string {
    let key = 0
    let name = ''
    const { starts, texts } = this
    for (let c = 0; c < width; c++) {
      const tag = this.low(0)
      const extra = this.high(0)
      this.at++
      this.tags[c] = tag
      if (width <= 20) key = TAGS * key + tag
      else name += String(tag)
      starts[c] = this.at
      if (tag === NUMBER) {
        this.at += rows
      } else if (tag === TEXT) {
        starts[c] = 2 * this.at
        texts[c] = this.textAt
        this.textAt += extra
        this.at += (rows + 1) >>> 1
      } else if (tag === INT32) {
        starts[c] = 2 * this.at
        this.at += (rows + 1) >>> 1
      } else if (tag !== NULLS) {
        this.values[c] = tag === BLOB ? this.#blobs(rows, extra) : this.#mixed(rows, extra)
      }
    }
    return width <= 20 ? key : name
  }

  #blobs(rows: number, bytes: number): unknown[] {
    const values: (Uint8Array | null)[] = []
    const lengths = 2 * this.at
    let byte = 8 * (this.at + ((rows + 1) >>> 1))
    for (let i = 0; i < rows; i++) {
      const length = this.i32[lengths + i] as number
      values.push(length < 0 ? null : this.#copy(byte, length))
      byte += Math.max(length, 0)
    }
    this.at += ((rows + 1) >>> 1) + ((bytes + 7) >>> 3)
    return values
  }

  #mixed(rows: number, bytes: number): unknown[] {
    const values: unknown[] = []
    const kinds = 8 * this.at
    const slots = this.at + ((rows + 7) >>> 3)
    let byte = 8 * (slots + rows)
    for (let i = 0; i < rows; i++) {
      const slot = this.f64[slots + i] as number
      switch (this.bytes[kinds + i]) {
        case KIND_NUMBER:
          values.push(slot)
          break
        case KIND_INTEGER:
          values.push(this.i64[slots + i])
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
    this.at = slots + rows + ((bytes + 7) >>> 3)
    return values
  }

  #copy(byte: number, length: number): Uint8Array {
    return new Uint8Array(this.bytes.subarray(byte, byte + length))
  }
}

type Decode = (reader: Reader, rows: number, out: unknown[]) => void

/** Variants of a decoder, one for each combination of column tags that came; a column may change its tag from chunk to chunk. */
const MAX_VARIANTS = 64

/** Makes the rows of one shape in one layout. */
export class Decoder {
  readonly #names: readonly string[]
  readonly #layout: Layout
  readonly #variants = new Map<number | string, Decode>()

  constructor(names: readonly string[], layout: Layout) {
    this.#names = names
    this.#layout = layout
  }

  /** Appends the rows of the chunk at the reader's place to `out`, and moves behind it. */
  read(reader: Reader, out: unknown[]): void {
    const rows = reader.low(0)
    const width = reader.high(0)
    reader.at++
    const key = reader.scan(width, rows)
    let decode = this.#variants.get(key)
    if (decode === undefined) {
      if (this.#variants.size >= MAX_VARIANTS) this.#variants.clear()
      decode = this.#make(reader.tags.slice(0, width))
      this.#variants.set(key, decode)
    }
    decode(reader, rows, out)
    reader.values.length = 0
  }

  #make(tags: readonly number[]): Decode {
    if (this.#layout === 'columns') return columnDecoder(this.#names, tags)
    try {
      return compile(this.#names, tags, this.#layout)
    } catch {
      // Code generation is forbidden (--disallow-code-generation-from-strings).
      return interpreter(this.#names, tags, this.#layout)
    }
  }
}

/**
 * A function that makes the rows in one pass over the packed columns. It is generated, so that each value is read from where it
 * lies and every row has the same hidden class.
 */
function compile(names: readonly string[], tags: readonly number[], layout: Layout): Decode {
  const before: string[] = []
  const each: string[] = []
  const values = tags.map((tag, c) => {
    if (tag === NULLS) return 'null'
    if (tag === NUMBER) {
      before.push(`const a${c} = r.starts[${c}];`)
      return `f64[a${c} + i]`
    }
    if (tag === INT32) {
      before.push(`const a${c} = r.starts[${c}];`)
      return `i32[a${c} + i]`
    }
    if (tag === TEXT) {
      before.push(`const a${c} = r.starts[${c}]; let t${c} = r.texts[${c}];`)
      each.push(`const u${c} = i32[a${c} + i]; const v${c} = u${c} < 0 ? null : text.substring(t${c}, t${c} += u${c});`)
      return `v${c}`
    }
    before.push(`const a${c} = r.values[${c}];`)
    return `a${c}[i]`
  })
  const Row = layout === 'arrays' ? undefined : constructorOf(names)
  // A computed key, because a plain `__proto__` in a literal sets the prototype.
  const row =
    layout === 'arrays' ? `[${values.join(', ')}]`
    : Row === undefined ? `{ ${values.map((v, c) => `[${JSON.stringify(names[c])}]: ${v}`).join(', ')} }`
    : `new Row(${values.join(', ')})`
  const loop = `const { f64, i32, text } = r; ${before.join(' ')} for (let i = 0; i < n; i++) { ${each.join(' ')} out.push(${row}) }`
  // oxlint-disable-next-line no-new-func, typescript/no-implied-eval -- the names are quoted as JSON strings
  return (new Function('Row', `return (r, n, out) => { ${loop} }`) as (row: unknown) => Decode)(Row)
}

/** Constructors of rows by their columns, so that rows of equal columns have one hidden class whatever statement they are of. */
const constructors = new Map<string, unknown>()
const MAX_CONSTRUCTORS = 1024

/**
 * What makes rows of these columns, in one go and with Object's own prototype. A literal would do, but of a literal V8 notes how
 * long what it makes lives, and when it happens to look while one result is being decoded it allocates the rows of all that
 * follow among the old, where they are found dead late and keep their texts alive.
 */
function constructorOf(names: readonly string[]): unknown {
  // An assignment means something else to these: to `__proto__` always, to the others where Object.prototype is frozen.
  if (names.some((name) => name in Object.prototype)) return undefined
  const key = JSON.stringify(names)
  let Row = constructors.get(key)
  if (Row === undefined) {
    if (constructors.size >= MAX_CONSTRUCTORS) constructors.clear()
    const body = names.map((name, c) => `this[${JSON.stringify(name)}] = a${c}`).join('; ')
    // oxlint-disable-next-line no-new-func, typescript/no-implied-eval -- the names are quoted as JSON strings
    Row = (new Function(`function Row(${names.map((_, c) => `a${c}`).join(', ')}) { ${body} } Row.prototype = Object.prototype; return Row`) as () => unknown)()
    constructors.set(key, Row)
  }
  return Row
}

/** The same, value by value. */
function interpreter(names: readonly string[], tags: readonly number[], layout: Layout): Decode {
  return (reader, rows, out) => {
    const columns = tags.map((tag, c) => materialize(reader, c, tag, rows))
    for (let i = 0; i < rows; i++) {
      if (layout === 'arrays') {
        out.push(columns.map((column) => column[i]))
        continue
      }
      const row = {}
      names.forEach((name, c) => {
        Object.defineProperty(row, name, { value: columns[c]?.[i], enumerable: true, configurable: true, writable: true })
      })
      out.push(row)
    }
  }
}

/** Gives whole columns, in an array, instead of rows. */
function columnDecoder(names: readonly string[], tags: readonly number[]): Decode {
  return (reader, rows, out) => {
    out.push(names.map((_, c) => materialize(reader, c, tags[c] as number, rows)))
  }
}

function materialize(reader: Reader, c: number, tag: number, rows: number): Column {
  const start = reader.starts[c] as number
  if (tag === NULLS) return Array.from({ length: rows }, () => null)
  if (tag === NUMBER) return reader.f64.slice(start, start + rows)
  if (tag === INT32) return new Float64Array(reader.i32.subarray(start, start + rows))
  if (tag !== TEXT) return reader.values[c] as Column
  let at = reader.texts[c] as number
  return Array.from({ length: rows }, (_, i) => {
    const units = reader.i32[start + i] as number
    return units < 0 ? null : reader.text.substring(at, (at += units))
  })
}

/** Joins the columns of chunks by name; of columns with one name the last one stands, as in rows. */
export function joinColumns(names: readonly string[], chunks: readonly Column[][]): Record<string, Column> {
  const columns = names.map((name, c): [string, Column] => {
    // A chunk without rows does not say what its values would be.
    const parts = chunks.map((chunk) => chunk[c] as Column).filter(({ length }) => length > 0)
    return [name, parts.every((part) => part instanceof Float64Array) ? joinNumbers(parts) : parts.flatMap((part) => Array.from<Exclude<Column, Float64Array>[number]>(part))]
  })
  return Object.fromEntries(columns)
}

function joinNumbers(parts: readonly Float64Array[]): Float64Array {
  if (parts.length === 1) return parts[0] as Float64Array
  const joined = new Float64Array(parts.reduce((length, part) => length + part.length, 0))
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}
