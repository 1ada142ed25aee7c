/**
 * DPDK's ACL library by `dpdk-test-acl`: its own time for lookups alone, in three passes over the questions, with the number
 * of questions a call that is best for it; for AVX-512 whichever of its two ways is faster.
 */
import { subject, Unable } from '../subject.js'
import { setOf, trace } from './sets.js'
import { type Path, time, write } from './dpdk-test-acl.js'

const paths: Record<string, Path[]> = { avx2: ['avx2'], avx512: ['avx512x16', 'avx512x32'] }

subject(async ({ case: name, quick, folder }, path = '') => {
  const rules = setOf(name.replace('-batch', ''))
  const files = write(folder, rules, trace(rules, quick ? 200_000 : 1_000_000))
  const times: number[] = []
  for (const way of paths[path] ?? []) {
    for (const step of [256, 1024, 4096]) {
      const found = time(folder, files, way, step)
      if (typeof found === 'string') throw new Unable(found)
      times.push(found)
    }
  }
  return Math.min(...times)
})
