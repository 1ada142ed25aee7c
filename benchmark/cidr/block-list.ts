/** Node's own list; it only says whether some prefix holds the address. */
import { BlockList } from 'node:net'
import { subject } from '../subject.js'
import { run } from './load.js'

const family = (address: string): 'ipv4' | 'ipv6' => (address.includes(':') ? 'ipv6' : 'ipv4')

subject(async (effort) =>
  run(effort, (prefixes) => {
    const list = new BlockList()
    const insert = (prefix: string): void => {
      const [address = '', length] = prefix.split('/')
      list.addSubnet(address, Number(length), family(address))
    }
    for (const prefix of prefixes) insert(prefix)
    return { lookup: (address) => list.check(address, family(address)), insert }
  }),
)
