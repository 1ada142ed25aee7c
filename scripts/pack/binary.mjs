// What a native binary is made for, read from the file itself: System V ABI (ELF-64, with the GNU version sections of the
// Linux Standard Base) and Mach-O. Needs no binutils, and reads binaries of other platforms as well.
import { readFileSync } from 'node:fs'

const ELF = 0x7f454c46
const MACH_O_64 = 0xfeedfacf
const SHT_GNU_VERNEED = 0x6ffffffe
/** e_machine and cputype. */
const ELF_ARCH = new Map([[62, 'x64'], [183, 'arm64']])
const MACH_ARCH = new Map([[0x0100000c, 'arm64'], [0x01000007, 'x64']])

/**
 * @param {string} path
 * @returns {{ platform: string, glibc: string | undefined }} such as `linux-x64-gnu` and the newest glibc that it asks for,
 * `2.34`; an ELF file that asks for no version of glibc counts as musl's
 */
export function readBinary(path) {
  const file = readFileSync(path)
  if (file.length >= 64 && file.readUInt32BE(0) === ELF && file[4] === 2 && file[5] === 1) {
    const arch = ELF_ARCH.get(file.readUInt16LE(18)) ?? 'unknown'
    const glibc = neededVersions(file).flatMap((name) => (name.startsWith('GLIBC_2.') ? [name.slice(6)] : [])).sort(byVersion).at(-1)
    return { platform: `linux-${arch}-${glibc === undefined ? 'musl' : 'gnu'}`, glibc }
  }
  if (file.length >= 8 && file.readUInt32LE(0) === MACH_O_64) return { platform: `darwin-${MACH_ARCH.get(file.readUInt32LE(4)) ?? 'unknown'}`, glibc: undefined }
  throw new Error(`${path} is neither ELF (64 bits, little-endian) nor Mach-O (64 bits)`)
}

/** Orders `2.9` before `2.34`. */
export function byVersion(a, b) {
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)]
  for (let i = 0; i < Math.max(left.length, right.length); i++) if ((left[i] ?? 0) !== (right[i] ?? 0)) return (left[i] ?? 0) - (right[i] ?? 0)
  return 0
}

/** The symbol versions that an ELF file asks of the libraries that it is linked to. */
function neededVersions(file) {
  const sections = { at: Number(file.readBigUInt64LE(40)), size: file.readUInt16LE(58), count: file.readUInt16LE(60) }
  const section = (i) => {
    const at = sections.at + i * sections.size
    return { type: file.readUInt32LE(at + 4), offset: Number(file.readBigUInt64LE(at + 24)), link: file.readUInt32LE(at + 40), count: file.readUInt32LE(at + 44) }
  }
  const names = []
  for (let i = 0; i < sections.count; i++) {
    const { type, offset, link, count } = section(i)
    if (type !== SHT_GNU_VERNEED) continue
    const strings = section(link).offset
    for (let need = offset, left = count; left > 0; left--) {
      for (let aux = need + file.readUInt32LE(need + 8), versions = file.readUInt16LE(need + 2); versions > 0; versions--) {
        const start = strings + file.readUInt32LE(aux + 8)
        names.push(file.toString('latin1', start, file.indexOf(0, start)))
        aux += file.readUInt32LE(aux + 12)
      }
      need += file.readUInt32LE(need + 12)
    }
  }
  return names
}
