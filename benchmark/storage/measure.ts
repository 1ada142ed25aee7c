/** `measure.ts DRIVER EFFORT`: one case of the suite with one driver. */
import { subject } from '../subject.js'
import type { Open } from '../drivers/driver.js'
import { BYTES, filled, INSERT, perSecond, random, ROWS, values } from '../drivers/table.js'

subject(async (effort, name) => {
  const { open } = (await import(`../drivers/${name}.ts`)) as { open: Open }
  const [what = '', beyond] = effort.case.split('/')
  const driver = await filled(open, effort, beyond === undefined ? 4 * BYTES : BYTES / 4)
  const next = random(2)
  const id = (): number => 1 + Math.floor(next() * ROWS)
  try {
    switch (what) {
      case 'get': {
        const statement = await driver.prepare('SELECT * FROM person WHERE id = ?')
        return await perSecond(effort, () => statement.get(id()))
      }
      case 'all-100': {
        const statement = await driver.prepare('SELECT * FROM person WHERE id >= ? LIMIT 100')
        return await perSecond(effort, () => statement.all(id()))
      }
      case 'iterate-100': {
        const statement = await driver.prepare('SELECT * FROM person WHERE id >= ? LIMIT 100')
        let sum = 0
        return await perSecond(effort, () => statement.each((row) => (sum += row['age'] as number), id()))
      }
      case 'insert': {
        const statement = await driver.prepare(INSERT)
        return await perSecond(effort, () => statement.run(...values(next)))
      }
      case 'tx-100':
        return await perSecond(effort, () => driver.transaction(INSERT, Array.from({ length: 100 }, () => values(next))))
      default:
        throw new Error(`no case ${effort.case}`)
    }
  } finally {
    await driver.close()
  }
})
