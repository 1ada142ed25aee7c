// The readers of durations and sizes, zqlite's and Ghostwire's: no text is more than a typed error or a number in range,
// and what Ghostwire writes reads back. They are TypeScript, so this runs under Jazzer.js, libFuzzer for Node; see
// docs/reliability.md.
const assert = require('node:assert/strict')
const { ZqliteError } = require('../dist/index.js')
const { parseDuration, parseSize } = require('../dist/lib/config.js')
const units = import('../ghostwire/dist/units.js')

/** Put behind half of the texts, as a unit is too seldom hit upon. */
const UNITS = ['ms', 's', 'm', 'min', 'h', 'd', 'B', 'KB', 'KiB', 'MB', 'MiB', 'GB', 'GiB', ' s', ' MB', '']
/** Longer ones are refused. */
const LONGEST_DURATION = 30 * 86_400_000

function read(parse, text, most) {
  let value
  try {
    value = parse('option', text)
  } catch (error) {
    assert(error instanceof ZqliteError && error.code === 'ERR_TYPE', String(error))
    assert.match(error.message, /option/)
    return
  }
  assert(Number.isInteger(value) && value >= 0 && value <= most, `${JSON.stringify(text)} is ${value}`)
  // The number alone, which is in milliseconds or bytes, means the same.
  assert.equal(parse('option', value), value)
}

function readBack(parse, format, text) {
  const value = parse(text)
  if (value === undefined) return
  assert(Number.isSafeInteger(value) && value >= 0, `${JSON.stringify(text)} is ${value}`)
  assert.equal(parse(format(value)), value, `${value} is written as ${format(value)}`)
}

module.exports.fuzz = async (data) => {
  const [first = 0] = data
  const text = data.toString('utf8', 1) + (first % 2 === 0 ? UNITS[(first >> 1) % UNITS.length] : '')
  read(parseDuration, text, LONGEST_DURATION)
  read(parseSize, text, Number.MAX_SAFE_INTEGER)
  const ghostwire = await units
  readBack(ghostwire.parseDuration, ghostwire.formatDuration, text)
  readBack(ghostwire.parseSize, ghostwire.formatSize, text)
}
