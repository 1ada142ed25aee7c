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
      case 'nearest-5-of-50000': {
        // Peers at random places; the nearest ones of a place, found in an R*Tree by a box around it.
        await driver.exec('CREATE VIRTUAL TABLE place USING rtree(id, lat_min, lat_max, lon_min, lon_max)')
        const point = (): [lat: number, lon: number] => [180 * next() - 90, 360 * next() - 180]
        const places = Array.from({ length: 50_000 }, (_, i) => {
          const [lat, lon] = point()
          return [i + 1, lat, lat, lon, lon]
        })
        await driver.transaction('INSERT INTO place VALUES (?, ?, ?, ?, ?)', places)
        const statement = await driver.prepare(`SELECT id FROM place WHERE lat_min BETWEEN ? AND ? AND lon_min BETWEEN ? AND ?
          ORDER BY (lat_min - ?) * (lat_min - ?) + (lon_min - ?) * (lon_min - ?) LIMIT 5`)
        const near = (): unknown[] => {
          const [lat, lon] = point()
          return [lat - 4, lat + 4, lon - 4, lon + 4, lat, lat, lon, lon]
        }
        return 1e6 / (await perSecond(effort, () => statement.all(...near())))
      }
      default:
        throw new Error(`no case ${effort.case}`)
    }
  } finally {
    await driver.close()
  }
})
