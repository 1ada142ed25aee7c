/** {@link CidrTable}. */
import { CidrTable } from 'zqlite'
import { subject } from '../subject.js'
import { type Rival, run } from './load.js'

subject(async (effort) =>
  run(effort, (prefixes, mode) => {
    const table = new CidrTable({ mode })
    table.insertAll(prefixes, Uint32Array.from(prefixes, (_, i) => i))
    const bytes = effort.case === 'snapshot-load' ? table.save() : new Uint8Array()
    return { ...rival(table), reload: () => rival(CidrTable.load(bytes, { mode })) }
  }),
)

function rival(table: CidrTable): Rival {
  const out = new Uint32Array(4096)
  return {
    lookup: table.lookupValue,
    lookupNumber: table.lookupValue,
    insert: (prefix, value) => table.insert(prefix, value),
    remove: (prefix) => table.remove(prefix),
    batchV4: (addresses) => table.lookupBatch(addresses, out),
    batchV6: (addresses) => table.lookupBatch(addresses, out),
  }
}
