/** Prefix tables: {@link CidrTable}. */
import { isIP } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { type CidrMatch, CidrTable, ZqliteError } from 'zqlite'

test('a value by prefix', (t) => {
  const table = new CidrTable()
  t.is(table.size, 0)
  table.insert('10.0.0.0/8', 1)
  table.insert('10.1.0.0/16', 2 ** 32 - 1)
  table.insert('2001:DB8:0::/32', 3)
  t.is(table.size, 3)
  t.is(table.get('10.0.0.0/8'), 1)
  t.is(table.get('10.1.0.0/16'), 2 ** 32 - 1)
  t.is(table.get('2001:db8::/32'), 3)
  t.is(table.get('10.0.0.0/9'), undefined)
  table.insert('10.0.0.0/8', 4)
  t.is(table.get('10.0.0.0/8'), 4)
  t.is(table.size, 3)
  t.true(table.remove('10.0.0.0/8'))
  t.false(table.remove('10.0.0.0/8'))
  t.is(table.get('10.0.0.0/8'), undefined)
  t.is(table.get('10.1.0.0/16'), 2 ** 32 - 1)
  t.is(table.size, 2)
})

test('the longest match, and all matches from shortest to longest', (t) => {
  const table = new CidrTable()
  for (const [value, prefix] of ['10.1.2.0/24', '0.0.0.0/0', '::/0', '10.0.0.0/8', '10.1.2.3'].entries()) table.insert(prefix, value)
  t.deepEqual(table.lookup('10.1.2.3'), { prefix: '10.1.2.3/32', value: 4 })
  t.deepEqual(table.lookup('10.1.2.4'), { prefix: '10.1.2.0/24', value: 0 })
  t.deepEqual(table.lookup('11.0.0.0'), { prefix: '0.0.0.0/0', value: 1 })
  t.deepEqual(table.lookup('::1'), { prefix: '::/0', value: 2 })
  t.deepEqual(
    table.matches('10.1.2.4').map((match) => match.prefix),
    ['0.0.0.0/0', '10.0.0.0/8', '10.1.2.0/24'],
  )
  table.remove('::/0')
  t.is(table.lookup('::1'), undefined)
  t.deepEqual(table.matches('::1'), [])
})

test('IPv4-mapped IPv6 is IPv4', (t) => {
  const table = new CidrTable()
  table.insert('::ffff:10.0.0.0/104', 1)
  table.insert('::/0', 2)
  t.deepEqual(table.lookup('10.9.9.9'), { prefix: '10.0.0.0/8', value: 1 })
  t.deepEqual(table.matches('::ffff:a09:909'), [{ prefix: '10.0.0.0/8', value: 1 }])
})

const host = (bits: number): string => `192.0.2.${bits}`

test('answers like a filter over all prefixes', (t) => {
  const bits = fc.integer({ min: 0, max: 63 })
  const prefix = fc.record({ address: bits, length: fc.integer({ min: 26, max: 32 }) })
  fc.assert(
    fc.property(fc.array(prefix), bits, (prefixes, asked) => {
      const table = new CidrTable()
      const byLength = new Map<number, CidrMatch>()
      for (const [value, { address, length }] of prefixes.entries()) {
        const hostBits = 32 - length
        const name = `${host((address >>> hostBits) << hostBits)}/${length}`
        table.insert(name, value)
        if (asked >>> hostBits === address >>> hostBits) byLength.set(length, { prefix: name, value })
      }
      const matches = [...byLength].toSorted(([a], [b]) => a - b).map(([, match]) => match)
      t.deepEqual(table.matches(host(asked)), matches)
      t.deepEqual(table.lookup(host(asked)), matches.at(-1))
    }),
  )
})

const syntaxError = (t: ExecutionContext, call: () => unknown): ZqliteError => {
  const error = t.throws(call, { instanceOf: ZqliteError, code: 'ERR_CIDR_SYNTAX' }) as ZqliteError
  t.false(error.retryable)
  return error
}

test('texts that are no prefix are refused with place and reason', (t) => {
  const table = new CidrTable()
  for (const [text, place] of [
    ['', 'byte 0: the text is empty'],
    ['10.0.0.0/33', 'byte 9: a prefix length is at most 32'],
    ['10.0.0.1/8', 'byte 9: bits are set behind the prefix length'],
    ['010.0.0.0/8', 'byte 0: a number must not begin with 0'],
    ['0x0a.0.0.0/8', 'byte 1: unexpected character'],
    ['10.0/16', 'byte 4: unexpected character'],
    ['10.0.0.0/', 'byte 9: the text ends too early'],
    ['fe80::1%eth0', 'byte 7: zone ids are not accepted'],
    ['::/129', 'byte 3: a prefix length is at most 128'],
    ['1::2::3', 'byte 4: only one :: is allowed'],
    ['10.0.0.0/8\0', 'byte 10: unexpected character'],
  ] as const) {
    for (const call of [() => table.insert(text, 1), () => table.remove(text), () => table.get(text)]) {
      t.true(syntaxError(t, call).message.includes(place), text)
    }
  }
  t.is(table.size, 0)
  t.regex(syntaxError(t, () => table.lookup('10.0.0.0/8')).message, /not an IP address: "10\.0\.0\.0\/8", byte 8/)
  t.regex(syntaxError(t, () => table.matches('nowhere')).message, /byte 0/)
})

test('a long text makes a short error', (t) => {
  const table = new CidrTable()
  for (const text of ['1'.repeat(1 << 20), `::${'0'.repeat(1 << 20)}`, '\u{1f600}'.repeat(1 << 18)]) {
    t.true(syntaxError(t, () => table.lookup(text)).message.length < 500)
  }
})

test('wrong types and values are errors, not conversions', (t) => {
  const table = new CidrTable()
  for (const value of [-1, 1.5, 2 ** 32, NaN, Infinity, '1', undefined, null, 1n]) {
    t.throws(() => table.insert('10.0.0.0/8', value as number), { instanceOf: ZqliteError, code: 'ERR_TYPE' }, String(value))
  }
  for (const text of [undefined, null, 10, {}, Symbol('10.0.0.0/8')]) {
    t.throws(() => table.lookup(text as string), { instanceOf: ZqliteError, code: 'ERR_TYPE' }, typeof text)
  }
  t.is(table.size, 0)
})

test('accepts the addresses that Node accepts', (t) => {
  const piece = fc.constantFrom('0', '1', '10', '255', '256', '01', 'ffff', 'fffff', ':', '::', '.', '.', ':', '%', '/')
  const texts = fc.oneof(fc.ipV4(), fc.ipV6(), fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join('')))
  const table = new CidrTable()
  fc.assert(
    fc.property(texts, (text) => {
      // Node takes zone ids, this does not.
      const valid = isIP(text) !== 0 && !text.includes('%')
      if (valid) t.notThrows(() => table.lookup(text), text)
      else syntaxError(t, () => table.lookup(text))
    }),
    { numRuns: 1000 },
  )
})

test('a misspelled option is refused', (t) => {
  const error = t.throws(() => new CidrTable({ hostbits: 'mask' } as never), { instanceOf: ZqliteError })
  t.is(error.code, 'ERR_TYPE')
  t.regex(error.message, /unknown option hostbits; did you mean hostBits\?/)
})
