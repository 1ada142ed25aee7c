/** What the workflows say of benchmarks. */
import test from 'ava'
import { compare, history } from '../benchmark/report'

const line = (name: string, zqlite: number, min: number, max: number): string =>
  `${JSON.stringify({ suite: 's', case: `s/${name}`, unit: 'a second', zqlite, spread: { zqlite: [min, max] }, peers: {}, ratio: {}, runs: 3, context: {} })}\n`

test('a change stands out only where the runs do not overlap', (t) => {
  const table = compare(line('a', 100, 90, 110) + line('b', 100, 90, 110) + line('gone', 1, 1, 1), line('a', 105, 95, 115) + line('b', 150, 140, 160) + line('new', 7, 7, 7))
  const rows = table.split('\n').filter((row) => row.startsWith('| `'))
  t.deepEqual(rows, [
    '| `s/a` | 100 a second (90 – 110) | 105 a second (95 – 115) | +5.0 % |',
    '| `s/b` | 100 a second (90 – 110) | 150 a second (140 – 160) | **+50.0 %** |',
    '| `s/new` | – | 7 a second (7 – 7) | new |',
    '| `s/gone` | 1 a second (1 – 1) | – | gone |',
  ])
})

test('the history has every case with all of its points, and trusts no name', (t) => {
  const page = history([{ name: '1-aaa', text: line('a<b', 100, 90, 110) }, { name: '2-bbb', text: line('a<b', 50, 40, 60) + line('c', 1, 1, 1) }])
  t.is(page.match(/<circle/g)?.length, 3)
  t.true(page.includes('s/a&#60;b') && !page.includes('a<b'))
  t.true(page.includes('points="0,0 600,40"'), page)
})
