/** The README's example runs as printed. */
import test from 'ava'
import { blocks, runProgram } from './helpers'

test('the example of the README prints what it says', (t) => {
  const [example = ''] = blocks('README.md', 'js')
  const { lines } = runProgram(t, example)
  t.is(lines[0], '10')
  t.regex(lines[1] ?? '', /^\{ item: 'lamp', left: 0 \} \{/)
  t.is(lines.at(-1), '{ allowed: true, rule: 7 }')
})
