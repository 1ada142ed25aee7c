/** The addon, as its generated loader (`binding`) finds it. */
import type * as Binding from './binding'
import { loadAddon } from './lib/addon'
import { callNative } from './lib/errors'

// Before the last line requires the loader itself: a failure is explained, and a misspelled ZQLITE_SIMD is one.
const { instructions } = loadAddon(require, './binding', 'zqlite') as typeof Binding
callNative(instructions)

export * from './binding'
