/** {@link CidrTable}: batches, relations of prefixes, pools, and tables as bytes. */
import test from 'ava'
import fc from 'fast-check'
import { CidrTable, ZqliteError } from 'zqlite'

const modes = ['compact', 'fast'] as const

const dotted = (bits: number): string => [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.')

/** A table and addresses around its prefixes, from the numbers of fast-check. */
const entry = fc.record({
  bits: fc.oneof(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.integer({ min: 0, max: 255 }).map((low) => 0x0a000000 + low)),
  length: fc.integer({ min: 0, max: 32 }),
  value: fc.oneof(fc.integer({ min: 0, max: 99 }), fc.constantFrom(2 ** 31 - 2, 2 ** 31 - 1, 2 ** 32 - 2)),
})

test('a batch answers as single calls do, in every form', (t) => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 60 }), fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { maxLength: 80 }), fc.constantFrom(...modes), (entries, others, mode) => {
      const table = new CidrTable({ mode, hostBits: 'mask' })
      for (const { bits, length, value } of entries) table.insert(`${dotted(bits)}/${length}`, value)
      const addresses = Uint32Array.from([...entries.map(({ bits }) => bits), ...others])
      const texts = Array.from(addresses, dotted)
      const singles = texts.map((text) => table.lookup(text)?.value)
      t.deepEqual(texts.map(table.lookupValue), singles)
      t.deepEqual(Array.from(addresses, (address) => table.lookupValue(address)), singles)
      const none = singles.map((value) => value ?? 2 ** 32 - 1)
      t.deepEqual(Array.from(table.lookupBatch(addresses)), none)
      t.deepEqual(Array.from(table.lookupBatch(texts)), none)
      const out = new Float64Array(addresses.length + 1).fill(7)
      t.is(table.lookupBatch(addresses, out), out)
      t.deepEqual(Array.from(out), [...singles.map((value) => value ?? -1), 7])
      // In 16 bytes an IPv4 address is a mapped one.
      const bytes = new Uint8Array(addresses.length * 16)
      const view = new DataView(bytes.buffer)
      for (const [i, address] of addresses.entries()) {
        view.setUint16(i * 16 + 10, 0xffff)
        view.setUint32(i * 16 + 12, address)
      }
      t.deepEqual(Array.from(table.lookupBatch(bytes)), none)
    }),
    { numRuns: 150 },
  )
})

test('IPv6 in batches', (t) => {
  for (const mode of modes) {
    const table = new CidrTable({ mode })
    table.insertAll(['2001:db8::/32', '2001:db8:1::/48', '2001:db8:1::1', '::/0'], Uint32Array.of(1, 2, 3, 4))
    const texts = ['2001:db8::', '2001:db8:1::', '2001:db8:1::1', '2001:db9::', '10.0.0.1']
    t.deepEqual(Array.from(table.lookupBatch(texts, new Float64Array(5))), [1, 2, 3, 4, -1])
    const bytes = Uint8Array.from([0x20, 1, 0x0d, 0xb8, 0, 1, ...Array<number>(9).fill(0), 1])
    t.deepEqual(Array.from(table.lookupBatch(bytes)), [3])
    // A view into the middle of a buffer.
    const wider = new Uint8Array(48)
    wider.set(bytes, 16)
    t.deepEqual(Array.from(table.lookupBatch(wider.subarray(16, 32))), [3])
  }
})

test('batches refuse arrays that they cannot use', (t) => {
  const table = new CidrTable()
  const addresses = new Uint32Array(4)
  const shared = new Uint32Array(new SharedArrayBuffer(16))
  const calls: [unknown, unknown, RegExp][] = [
    [addresses, new Uint32Array(3), /room for 3 values, 4 are needed/],
    [addresses, addresses, /share memory/],
    [addresses, new Float64Array(addresses.buffer), /room|share memory/],
    [addresses, new Int32Array(4), /out must be/],
    [shared, new Uint32Array(4), /SharedArrayBuffer/],
    [addresses, shared, /SharedArrayBuffer/],
    [new Uint8Array(17), undefined, /multiple of 16/],
    [[1], undefined, /./],
    [{ length: 0 }, undefined, /addresses must be/],
  ]
  for (const [input, out, message] of calls) {
    t.throws(() => table.lookupBatch(input as Uint32Array, out as Uint32Array), { instanceOf: ZqliteError, code: 'ERR_TYPE', message })
  }
  t.throws(() => table.lookupBatch(['10.0.0.1', '10.0.0.256']), { code: 'ERR_CIDR_SYNTAX', message: /addresses\[1\] is not an IP address: "10\.0\.0\.256", byte 7/ })
  t.deepEqual(table.lookupBatch(new Uint32Array(0)), new Uint32Array(0))
})

test('single values refuse what is no address', (t) => {
  const { lookupValue } = new CidrTable()
  for (const number of [-1, 0.5, 2 ** 32, NaN]) t.throws(() => lookupValue(number), { instanceOf: ZqliteError, code: 'ERR_TYPE' })
  for (const other of [undefined, null, {}, 1n]) t.throws(() => lookupValue(other as string), { code: 'ERR_TYPE' })
  // The low byte of each of these characters is that of a digit.
  for (const text of ['1.2.3.\u0134', '\u0131.2.3.4', '1.2.3.4'.padEnd(200, ' '), '1'.repeat(1 << 20)]) {
    t.throws(() => lookupValue(text), { code: 'ERR_CIDR_SYNTAX' })
  }
})

test('prefixes within and around prefixes', (t) => {
  const table = new CidrTable()
  table.insertAll(['10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24', '11.0.0.0/8', '2001:db8::/32'], Uint32Array.of(0, 1, 2, 3, 4))
  const names = (found: { prefix: string }[]): string[] => found.map(({ prefix }) => prefix)
  t.deepEqual(names(table.covered('10.1.0.0/16')), ['10.1.0.0/16', '10.1.2.0/24'])
  t.deepEqual(names(table.covering('10.1.0.0/16')), ['10.0.0.0/8', '10.1.0.0/16'])
  t.deepEqual(names(table.within('10.0.0.1-11.255.255.255')), ['10.1.0.0/16', '10.1.2.0/24', '11.0.0.0/8'])
  t.deepEqual(names(table.entries()), ['10.0.0.0/8', '10.1.0.0/16', '10.1.2.0/24', '11.0.0.0/8', '2001:db8::/32'])
  t.deepEqual(table.ranges(), ['10.0.0.0-11.255.255.255', '2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff'])
  t.true(table.overlaps('10.1.2.3'))
  t.true(table.overlaps('0.0.0.0/0'))
  t.false(table.overlaps('12.0.0.0/8'))
  const other = new CidrTable()
  other.insertRange('11.255.255.255-12.0.0.1', 1)
  t.deepEqual(names(other.entries()), ['11.255.255.255/32', '12.0.0.0/31'])
  t.true(table.overlaps(other))
  other.remove('11.255.255.255/32')
  t.false(table.overlaps(other))
  t.deepEqual(CidrTable.rangeToPrefixes('10.0.0.1-10.0.0.4'), ['10.0.0.1/32', '10.0.0.2/31', '10.0.0.4/32'])
  t.throws(() => CidrTable.rangeToPrefixes('10.0.0.4-10.0.0.1'), { code: 'ERR_CIDR_SYNTAX', message: /byte 9/ })
})

test('the next free address and prefix of a pool', (t) => {
  const table = new CidrTable()
  const pool = '100.64.0.0/29'
  table.insert(pool, 0)
  table.insert('100.64.0.1', 1)
  t.is(table.nextFree(pool), '100.64.0.0/32')
  t.is(table.nextFree(pool, 31), '100.64.0.2/31')
  t.is(table.nextFree(pool, 30), '100.64.0.4/30')
  t.is(table.nextFree(pool, 29), undefined)
  for (let free = table.nextFree(pool); free !== undefined; free = table.nextFree(pool)) table.insert(free, 2)
  t.is(table.size, 9)
  table.remove('100.64.0.5')
  t.is(table.nextFree(pool), '100.64.0.5/32')
  t.throws(() => table.nextFree(pool, 28), { code: 'ERR_TYPE', message: /length must be from 29 to 32/ })
})

test('allocate finds what nextFree does, and takes it', (t) => {
  const prefix = fc.tuple(fc.nat({ max: 255 }), fc.integer({ min: 24, max: 32 })).map(([last, length]) => `100.64.0.${last & (256 - 2 ** (32 - length))}/${length}`)
  const lengths = fc.option(fc.integer({ min: 25, max: 32 }), { nil: undefined })
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 20 }), fc.array(fc.tuple(lengths, fc.boolean()), { maxLength: 60, size: 'max' }), (taken, wanted) => {
      const [plain, table] = [new CidrTable(), new CidrTable()]
      for (const one of taken) for (const each of [plain, table]) each.insert(one, 1)
      for (const [value, [length, mapped]] of wanted.entries()) {
        const pool = mapped && length === undefined ? '::ffff:100.64.0.0/120' : '100.64.0.0/25'
        const free = plain.nextFree(pool, length)
        if (free !== undefined) plain.insert(free, value)
        t.is(table.allocate(pool, value, length), free)
      }
      t.deepEqual(table.entries(), plain.entries())
    }),
    { numRuns: 200 },
  )
})

test('what allocate refuses changes nothing', (t) => {
  const table = new CidrTable()
  t.throws(() => table.allocate('10.0.0.1/8', 1), { code: 'ERR_CIDR_SYNTAX', instanceOf: ZqliteError })
  t.throws(() => table.allocate('10.0.0.0/24', 2 ** 32), { code: 'ERR_TYPE', message: /value must be an integer/ })
  t.throws(() => table.allocate('10.0.0.0/24', 1, 23), { code: 'ERR_TYPE', message: /length must be from 24 to 32/ })
  t.throws(() => table.allocate(5 as unknown as string, 1), { instanceOf: ZqliteError })
  t.is(table.size, 0)
  t.is(new CidrTable({ hostBits: 'mask' }).allocate('10.0.0.1/24', 1), '10.0.0.0/32')
  t.is(table.allocate('2001:db8::/126', 7), '2001:db8::/128')
  t.is(table.get('2001:db8::'), 7)
})

test('insertAll changes nothing when one prefix is not valid', (t) => {
  const table = new CidrTable()
  t.throws(() => table.insertAll(['10.0.0.0/8', '10.0.0.1/8'], Uint32Array.of(1, 2)), { code: 'ERR_CIDR_SYNTAX', message: /prefixes\[1\] is not an IP prefix/ })
  t.throws(() => table.insertAll(['10.0.0.0/8'], Uint32Array.of(1, 2)), { code: 'ERR_TYPE' })
  t.is(table.size, 0)
})

test('host bits are refused or masked', (t) => {
  t.throws(() => new CidrTable().insert('10.0.0.1/8', 1), { code: 'ERR_CIDR_SYNTAX' })
  const table = new CidrTable({ hostBits: 'mask' })
  table.insert('10.0.0.1/8', 1)
  t.deepEqual(table.entries(), [{ prefix: '10.0.0.0/8', value: 1 }])
  t.throws(() => new CidrTable({ mode: 'quick' as 'fast' }), { code: 'ERR_TYPE', message: /mode must be 'compact' or 'fast', not quick/ })
  t.throws(() => new CidrTable({ hostBits: 'keep' as 'mask' }), { code: 'ERR_TYPE' })
})

test('a table comes back from its bytes, and other bytes are an error', (t) => {
  const table = new CidrTable()
  table.insertAll(['10.0.0.0/8', '10.1.2.3', '2001:db8::/32', '::/0'], Uint32Array.of(1, 2, 3, 2 ** 32 - 1))
  const bytes = table.save()
  for (const mode of modes) {
    const loaded = CidrTable.load(bytes, { mode })
    t.deepEqual(loaded.entries(), table.entries())
    t.is(loaded.lookupValue('10.1.2.3'), 2)
  }
  t.deepEqual(table.save(), bytes)
  for (let i = 0; i < bytes.length; i++) {
    const damaged = Uint8Array.from(bytes)
    damaged[i] = (damaged[i] ?? 0) ^ 0x10
    t.throws(() => CidrTable.load(damaged), { instanceOf: ZqliteError, code: 'ERR_CORRUPT' }, `byte ${i}`)
    t.throws(() => CidrTable.load(bytes.subarray(0, i)), { code: 'ERR_CORRUPT' }, `cut at ${i}`)
  }
  t.throws(() => CidrTable.load('10.0.0.0/8' as unknown as Uint8Array), { code: 'ERR_TYPE' })
})
