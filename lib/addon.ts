/** Loads an addon through its generated loader and, when that finds none, says what is missing and what to do. */
import { ZqliteError } from './errors'

/** Oldest glibc that the prebuilt binaries run with; `npm run pack:check` holds the binaries to it. */
export const OLDEST_GLIBC = '2.34'

/** What there are prebuilt packages for, `<name>-<platform>` each; the same as `npm/` has folders. */
export const PLATFORMS: readonly string[] = ['linux-x64-gnu', 'linux-arm64-gnu', 'linux-x64-musl', 'linux-arm64-musl', 'darwin-arm64']

/** A machine as far as a binary cares. */
export interface Machine {
  platform: string
  arch: string
  /** Linux only. */
  libc?: { name: 'glibc' | 'musl'; version?: string }
  node: string
}

/**
 * Loads the generated loader `file` of the package `name`.
 * @throws {ZqliteError} `ERR_ADDON` naming the machine, what was tried and what to do
 */
export function loadAddon(require: NodeJS.Require, file: string, name: string): unknown {
  try {
    return require(file) as unknown
  } catch (error) {
    // Without the error as its cause: all that it knows is told here, and its sixty lines would hide what to do.
    throw new ZqliteError('ERR_ADDON', explain(error, name, thisMachine()))
  }
}

/** Why the addon of `name` did not load, from the error of its generated loader. */
export function explain(error: unknown, name: string, machine: Machine): string {
  const { platform, arch, libc, node } = machine
  const where = `${platform} ${arch}${libc ? ` (${libc.name}${libc.version ? ` ${libc.version}` : ''})` : ''}, Node ${node}`
  const tried = attempts(error)
  const lines = tried.map((reason) => `\n  - ${reason}`).join('')
  return `the addon of ${name} does not load on ${where}.\nTried:${lines}\nWhat to do: ${advice(tried, name, machine)}`
}

/**
 * What was tried, in order. The generated loader chains one error for each place that it looked in, the last one first;
 * those of WebAssembly, which there is none of, are left out.
 */
function attempts(error: unknown): string[] {
  const reasons: string[] = []
  const seen = new Set<unknown>()
  for (let at = causeOf(error) ?? error; at != null && !seen.has(at); at = causeOf(at)) {
    seen.add(at)
    const [first = ''] = (at instanceof Error ? at.message : (JSON.stringify(at) ?? '')).split('\n')
    if (!first.includes('wasi')) reasons.unshift(first)
  }
  return reasons
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined
}

function advice(tried: readonly string[], name: string, { platform, arch, libc }: Machine): string {
  const forced = process.env['NAPI_RS_NATIVE_LIBRARY_PATH']
  if (forced !== undefined) return `NAPI_RS_NATIVE_LIBRARY_PATH is set, so only ${forced} was tried; unset it or point it at a binary for this machine.`
  const wanted = platform === 'linux' ? `linux-${arch}-${libc?.name === 'musl' ? 'musl' : 'gnu'}` : `${platform}-${arch}`
  if (!PLATFORMS.includes(wanted)) {
    return `there is no prebuilt binary for ${wanted}, only for ${PLATFORMS.join(', ')}. Build it from source with a stable Rust toolchain: \`npm run build\` in a checkout.`
  }
  if (tried.some((reason) => /GLIBC_[\d.]+' not found/.test(reason))) {
    return `the C library of this machine is too old: the binaries need glibc ${OLDEST_GLIBC} or newer (Debian 12, Ubuntu 22.04, RHEL 9). Use a newer system, or build from source on this one: \`npm run build\` in a checkout.`
  }
  if (!tried.every((reason) => reason.startsWith('Cannot find module'))) {
    return `a binary is there, but the system refuses it (see above): it is damaged, made for another machine, or lies on a volume mounted noexec. Remove node_modules and install again on this machine.`
  }
  const flags = `--os=${platform} --cpu=${arch}${libc ? ` --libc=${libc.name}` : ''}`
  return (
    `install the package ${name}-${wanted}, an optional dependency of ${name}. It is left out by --omit=optional and --no-optional, and is missing when node_modules comes from another machine: ` +
    `remove node_modules and install again on this one, or install there with \`npm install ${flags}\`. A bundler must leave ${name} external.`
  )
}

function thisMachine(): Machine {
  const { platform, arch } = process
  return { platform, arch, node: process.versions.node, ...(platform === 'linux' && { libc: cLibrary() }) }
}

/** The C library that Node itself runs with. */
function cLibrary(): NonNullable<Machine['libc']> {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
  const version = header?.glibcVersionRuntime
  return version === undefined ? { name: 'musl' } : { name: 'glibc', version }
}
