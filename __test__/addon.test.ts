/** The addon's loader: which machines it serves, and what it says when it finds nothing. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { explain, loadAddon, type Machine, OLDEST_GLIBC, PLATFORMS } from '../lib/addon'

const machine: Machine = { platform: 'linux', arch: 'x64', libc: { name: 'glibc', version: '2.36' }, node: '22.1.0' }

/** As the generated loader fails: an error whose causes are the attempts, the last one first. */
function failure(...reasons: string[]): Error {
  const chain = reasons.reduce<Error | null>((cause, reason) => new Error(reason, { cause }), null)
  return new Error('Cannot find native binding.', { cause: chain })
}

const missing = failure("Cannot find module './zqlite.linux-x64-gnu.node'\nRequire stack:\n- /a", "Cannot find module 'zqlite-linux-x64-gnu'", "Cannot find module './zqlite.wasi.cjs'")

/** Runs a program in this folder with these variables, and returns what it says on standard error. */
function stderrOf(program: string, env: Record<string, string>): string {
  return spawnSync(process.execPath, ['-e', program], { env: { ...process.env, ...env }, encoding: 'utf8' }).stderr
}

test('a package that is not installed is named, with the places that were tried and how to install it', (t) => {
  const text = explain(missing, 'zqlite', machine)
  t.is(
    text.split('\nWhat')[0],
    "the addon of zqlite does not load on linux x64 (glibc 2.36), Node 22.1.0.\nTried:\n  - Cannot find module './zqlite.linux-x64-gnu.node'\n  - Cannot find module 'zqlite-linux-x64-gnu'",
  )
  t.regex(text, /install the package zqlite-linux-x64-gnu.*--omit=optional.*npm install --os=linux --cpu=x64 --libc=glibc/)
})

test('every machine is named for what it is', (t) => {
  t.regex(explain(missing, 'ghostwire', { ...machine, arch: 'arm64', libc: { name: 'musl' } }), /on linux arm64 \(musl\).*ghostwire-linux-arm64-musl/s)
  t.regex(explain(missing, 'zqlite', { platform: 'darwin', arch: 'arm64', node: '22.1.0' }), /on darwin arm64, Node.*zqlite-darwin-arm64.*--os=darwin --cpu=arm64`/s)
  t.regex(explain(missing, 'zqlite', { platform: 'win32', arch: 'x64', node: '22.1.0' }), /no prebuilt binary for win32-x64, only for linux-x64-gnu, .*npm run build/s)
  t.regex(explain(missing, 'zqlite', { ...machine, arch: 'riscv64' }), /no prebuilt binary for linux-riscv64-gnu/)
})

test('a binary that the system refuses is not called missing', (t) => {
  const old = explain(failure("/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by zqlite.node)"), 'zqlite', machine)
  t.true(old.includes(`glibc ${OLDEST_GLIBC} or newer`), old)
  t.regex(explain(failure("Cannot find module './a.node'", '/a.node: file too short'), 'zqlite', machine), /file too short.*the system refuses it/s)
})

test('an error of any kind is explained, also one that is its own cause', (t) => {
  t.regex(explain('no', 'zqlite', machine), /Tried:\n {2}- "no"\n/)
  const circular = new Error('round')
  circular.cause = circular
  t.regex(explain(circular, 'zqlite', machine), /Tried:\n {2}- round\n/)
})

test('a failure to load is an ERR_ADDON', (t) => {
  const fail = (() => {
    throw missing
  }) as unknown as NodeJS.Require
  t.throws(() => loadAddon(fail, './binding', 'zqlite'), { code: 'ERR_ADDON', message: /^the addon of zqlite does not load on / })
})

test('both packages say so in a real process', (t) => {
  const env = { NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere/a.node' }
  for (const [name, program] of [['zqlite', "require('zqlite')"], ['zqlite', "import('zqlite')"], ['ghostwire', "require('./ghostwire/native.cjs')"]] as const) {
    const text = stderrOf(program, env)
    t.regex(text, new RegExp(`the addon of ${name} does not load on ${process.platform} ${process.arch}.*/nowhere/a.node.*NAPI_RS_NATIVE_LIBRARY_PATH is set`, 's'), program)
    t.true(text.includes("code: 'ERR_ADDON'"), text)
  }
})

test('there is a package folder for every target, and the loader knows the same', (t) => {
  const targets: Record<string, string> = {
    'x86_64-unknown-linux-gnu': 'linux-x64-gnu',
    'aarch64-unknown-linux-gnu': 'linux-arm64-gnu',
    'x86_64-unknown-linux-musl': 'linux-x64-musl',
    'aarch64-unknown-linux-musl': 'linux-arm64-musl',
    'aarch64-apple-darwin': 'darwin-arm64',
  }
  for (const [folder, name] of [['.', 'zqlite'], ['ghostwire', 'ghostwire']] as const) {
    const main = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string; napi: { targets: string[] } }
    t.deepEqual(main.napi.targets.map((target) => targets[target]), [...PLATFORMS])
    t.deepEqual(readdirSync(join(folder, 'npm')).sort(), [...PLATFORMS].sort())
    for (const platform of PLATFORMS) {
      const { files, ...rest } = JSON.parse(readFileSync(join(folder, 'npm', platform, 'package.json'), 'utf8')) as Record<string, unknown>
      t.like(rest, { name: `${name}-${platform}`, version: main.version, main: `${name}.${platform}.node` })
      t.true((files as string[]).includes(`${name}.${platform}.node`))
    }
  }
})

test('ZQLITE_SIMD chooses the instructions, and a misspelled one is an error', (t) => {
  const instructions = (value: string): string =>
    execFileSync(process.execPath, ['-p', "require('./dist/native.js').instructions()"], { env: { ...process.env, ZQLITE_SIMD: value }, encoding: 'utf8' }).trim()
  t.is(instructions('scalar'), 'scalar')
  const flags = existsSync('/proc/cpuinfo') ? (/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '').split(' ') : undefined
  if (process.arch === 'x64' && flags !== undefined) {
    const has = (...wanted: string[]): boolean => wanted.every((flag) => flags.includes(flag))
    const counting = has('popcnt', 'abm', 'bmi1', 'bmi2') ? 'bit-counting' : 'scalar'
    t.is(instructions('bit-counting'), counting)
    t.is(instructions('auto'), counting !== 'scalar' && has('avx512f', 'avx512vl', 'avx512dq', 'avx512bw') ? 'avx-512' : counting)
  }
  t.regex(stderrOf("require('zqlite')", { ZQLITE_SIMD: 'avx9' }), /ZQLITE_SIMD is "avx9"; it may be "auto".*code: 'ERR_TYPE'/s)
})
