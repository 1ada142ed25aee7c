/**
 * Addresses that are asked about one by one are read by a way of their own: it must read what the plain way reads, refuse what that
 * refuses, with the same words, in whatever form the engine holds a text.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import fc from 'fast-check'
import { AclEngine, CidrTable, ZqliteError } from 'zqlite'

/** The same text, as V8 holds it after different beginnings. From 13 characters on it neither copies nor joins. */
const forms: Record<string, (text: string) => string> = {
  'as it is': (text) => text,
  joined: (text) => Array.from({ length: text.length }, (_, at) => text[at] ?? '').reduce((all, one) => all + one, ''),
  'joined from behind': (text) => Array.from({ length: text.length }, (_, at) => text[at] ?? '').reduceRight((all, one) => one + all, ''),
  'cut out': (text) => `before, long enough to be shared ${text} and behind`.slice(33, 33 + text.length),
  'cut out of two bytes a character': (text) => `before, long enough to be shared€${text} and behind`.slice(33, 33 + text.length),
  'a key': (text) => Object.keys({ [`x${text}`]: 0 })[0]?.slice(1) ?? '',
  parsed: (text) => JSON.parse(JSON.stringify(text)) as string,
}

const octet = fc.oneof(fc.integer({ min: 0, max: 255 }).map(String), fc.constantFrom('0', '00', '01', '010', '256', '999', '1000', '', ' 1', '+1', '1e1', '0x1', '１', '٣'))
const dotted = fc.array(octet, { minLength: 3, maxLength: 5 }).map((octets) => octets.join('.'))
const around = fc.constantFrom('', '', '', '', ' ', '\t', '\n', '\0', '.', ':', '/8', '%1', '-', '\u0130', '\u2028', '\ud800', '\udc00', 'é', '1'.repeat(90), ' '.repeat(200))
const texts = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  fc.ipV4().map((address) => `::ffff:${address}`),
  fc.tuple(around, fc.oneof(fc.ipV4(), fc.ipV6(), dotted), around).map((parts) => parts.join('')),
  // One unit of an address in place of another, also such that have an ordinary character as one of their bytes.
  fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(), fc.oneof(fc.nat(0xffff), fc.constantFrom(0x12e, 0x130, 0x3031, 0x8031, 0xff10))).map(([address, at, unit]) => {
    const place = at % address.length
    return address.slice(0, place) + String.fromCharCode(unit) + address.slice(place + 1)
  }),
  fc.string({ unit: 'binary', maxLength: 120 }),
)

/** What a call answers, or how it fails. */
function outcome(call: () => unknown): unknown {
  try {
    return call()
  } catch (error) {
    return error instanceof ZqliteError ? `${error.code}: ${error.message}` : error
  }
}

function engine(): AclEngine {
  const made = new AclEngine()
  const any = ['*']
  made.setRules([
    { id: 1, priority: 0, action: 'allow', sources: ['0.0.0.0/1', '::/1'], destinations: any },
    { id: 2, priority: 0, action: 'allow', sources: any, destinations: ['128.0.0.0/1', '8000::/1'] },
    { id: 3, priority: 1, action: 'deny', sources: ['10.0.0.0/8'], destinations: ['10.0.0.0/8'] },
  ])
  return made
}

test('two addresses are read as by themselves', (t) => {
  const acl = engine()
  fc.assert(
    fc.property(texts, texts, fc.constantFrom(...Object.keys(forms)), fc.constantFrom(...Object.keys(forms)), (one, other, form, otherForm) => {
      const plain = outcome(() => {
        const { allowed, rule } = acl.explainAddresses({ source: one, destination: other, protocol: 6, port: 80, at: 0 })
        return { allowed, rule }
      })
      const [source, destination] = [forms[form]!(one), forms[otherForm]!(other)]
      t.is(source, one)
      t.is(destination, other)
      t.deepEqual(outcome(() => acl.decideAddresses({ source, destination, protocol: 6, port: 80, at: 0 })), plain)
    }),
    { numRuns: 20_000 },
  )
})

test('an address to look up is read as by the plain way', (t) => {
  const table = new CidrTable()
  for (let n = 0; n < 256; n++) {
    table.insert(`${n}.0.0.0/8`, n)
    table.insert(`${n.toString(16)}00::/8`, 1000 + n)
  }
  fc.assert(
    fc.property(texts, fc.constantFrom(...Object.keys(forms)), (text, form) => {
      const plain = outcome(() => table.lookup(text)?.value)
      t.deepEqual(outcome(() => table.lookupValue(forms[form]!(text))), plain)
    }),
    { numRuns: 20_000 },
  )
})

test('where one text ends and the other begins is not lost', (t) => {
  const acl = engine()
  const ask = (source: string, destination: string): unknown => outcome(() => acl.decideAddresses({ source, destination, protocol: 6, port: 1, at: 0 }))
  t.deepEqual(ask('1.1.1.1', '11.1.1.1'), { allowed: true, rule: 1 })
  t.regex(String(ask('1.1.1.', '111.1.1.1')), /ERR_CIDR_SYNTAX.*"1\.1\.1\."/)
  t.regex(String(ask('1.1.1.11', '.1.1.1')), /ERR_CIDR_SYNTAX.*"\.1\.1\.1"/)
  t.regex(String(ask('1.1.1.11.1.1.1', '')), /ERR_CIDR_SYNTAX/)
  t.regex(String(ask('', '1.1.1.11.1.1.1')), /ERR_CIDR_SYNTAX/)
  // Two halves of one character do not become one.
  t.regex(String(ask('1.1.1.1\ud83d', '\ude001.1.1.1')), /"1\.1\.1\.1\ufffd"/)
  t.regex(String(ask('1.1.1.1', '\ude001.1.1.1')), /"\ufffd1\.1\.1\.1"/)
  // Texts that joined are longer than any may be.
  const longest = '1'.repeat(2 ** 29 - 24)
  t.regex(String(ask(longest, longest)), /ERR_CIDR_SYNTAX: not an IP address: "1{64}"…, byte 0/)
  t.regex(String(ask('1.1.1.1', longest)), /ERR_CIDR_SYNTAX: not an IP address: "1{64}"…, byte 0/)
})

const noText = [undefined, null, 1, 16843009, true, Symbol('1.1.1.1'), 1n, ['1.1.1.1'], { toString: () => '1.1.1.1' }, new String('1.1.1.1'), () => '1.1.1.1']

test('what is no text is an error and is never asked for one', (t) => {
  const acl = engine()
  const table = new CidrTable()
  const wrong = (call: () => unknown): void => void t.throws(call, { instanceOf: ZqliteError, code: 'ERR_TYPE' })
  for (const value of noText as never[]) {
    wrong(() => acl.decideAddresses({ source: value, destination: '1.1.1.1', protocol: 6, port: 1 }))
    wrong(() => acl.decideAddresses({ source: '1.1.1.1', destination: value, protocol: 6, port: 1 }))
    if (typeof value !== 'number') wrong(() => table.lookupValue(value))
    wrong(() => table.insert(value, 1))
    wrong(() => table.remove(value))
  }
  t.is(table.size, 0)
  wrong(() => (table.lookupValue as () => unknown)())
  wrong(() => (table.insert as (prefix: string) => void)('10.0.0.0/8'))
  t.is(table.size, 0)
})

test('questions that ask questions of their own get their own answers', (t) => {
  const [outer, inner] = [engine(), new AclEngine()]
  const question = { source: '1.1.1.1', destination: '2.2.2.2', protocol: 6, port: 1, at: 0 }
  inner.setRules([{ id: 9, priority: 0, action: 'deny', sources: ['*'], destinations: ['*'] }])
  for (const field of ['source', 'destination', 'protocol', 'port', 'at'] as const) {
    const nested = Object.defineProperty({ ...question }, field, {
      get: () => {
        t.deepEqual(inner.decideAddresses({ ...question, source: 'fd00::1' }), { allowed: false, rule: 9 })
        t.throws(() => inner.decide({ source: 1, destination: 2, protocol: 6, port: 1 }), { code: 'ERR_ACL_UNKNOWN' })
        return question[field]
      },
    })
    t.deepEqual(outer.decideAddresses(nested), { allowed: true, rule: 1 }, field)
    const failing = Object.defineProperty({ ...question }, field, { get: () => { throw new RangeError(field) } })
    t.throws(() => outer.decideAddresses(failing), { instanceOf: RangeError, message: field })
    t.deepEqual(outer.decideAddresses(question), { allowed: true, rule: 1 }, field)
  }
})

const asking = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { AclEngine, CidrTable } = require('zqlite')
  const [acl, table] = [new AclEngine(), new CidrTable()]
  acl.setRules([{ id: workerData, priority: 0, action: 'allow', sources: [workerData + '.0.0.0/8'], destinations: ['*'] }])
  table.insert(workerData + '.0.0.0/8', workerData)
  let wrong = 0
  for (let n = 0; n < 50000; n++) {
    const source = workerData + '.' + (n & 255) + '.' + (n >> 8) + '.' + workerData
    if (acl.decideAddresses({ source, destination: '10.20.30.' + (n & 255), protocol: 6, port: 1, at: 0 }).rule !== workerData) wrong++
    if (table.lookupValue(source) !== workerData) wrong++
  }
  parentPort.postMessage(wrong)
`

test('threads ask beside each other', async (t) => {
  const asked = async (thread: number): Promise<void> => {
    const worker = new Worker(asking, { eval: true, workerData: thread })
    const [wrong] = (await once(worker, 'message')) as [number]
    t.is(wrong, 0, `thread ${thread}`)
    await worker.terminate()
  }
  await Promise.all([1, 2, 3, 4].map((thread) => asked(thread)))
})
