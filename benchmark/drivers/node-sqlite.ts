/** node:sqlite of a newer Node, from the npm package `node`. */
import type { Open } from './driver.js'
import { type Connection, synchronous } from './synchronous.js'

export const open: Open = async (path, cache) => {
  const name = 'node:sqlite'
  const { DatabaseSync } = (await import(name)) as { DatabaseSync: new (path: string) => Connection }
  return synchronous(new DatabaseSync(path), cache)
}
