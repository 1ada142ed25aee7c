/** Publishing refuses, before anything is sent, unless every platform's binary is there and is what it is called. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type ExecutionContext } from 'ava'
import { OLDEST_GLIBC, PLATFORMS } from '../lib/addon'
import { folder } from './helpers'

const EI_MACHINE = 18
const MACHINES: Record<string, number> = { x64: 62, arm64: 183 }
const gnu = readdirSync('dist').find((file) => /^zqlite\.linux-.*-gnu\.node$/.test(file))
/** On musl and darwin there is no file to make the others from. */
const test = gnu === undefined ? anyTest.skip : anyTest
const built = gnu === undefined ? Buffer.alloc(0) : readFileSync(join('dist', gnu))

/** A file that passes for a binary of this platform: for glibc the one that was built here, named for another processor. */
function binary(platform: string): Buffer {
  const [os, arch = '', libc] = platform.split('-')
  if (os === 'darwin') return Buffer.from([0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1])
  const file = libc === 'gnu' ? Buffer.from(built) : Buffer.alloc(64)
  if (libc === 'musl') file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  file.writeUInt16LE(MACHINES[arch] ?? 0, EI_MACHINE)
  return file
}

/** A folder with the binaries of both packages for all platforms. */
function artifacts(t: ExecutionContext): string {
  const path = folder(t)
  mkdirSync(path, { recursive: true })
  for (const name of ['zqlite', 'ghostwire']) for (const platform of PLATFORMS) writeFileSync(join(path, `${name}.${platform}.node`), binary(platform))
  return path
}

/** What would be published, and what is said against it. */
function publish(path: string): { code: number | null; published: string[]; stderr: string } {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/publish.mjs', '--dry-run', '--artifacts', path], { encoding: 'utf8' })
  return { code: status, published: [...stderr.matchAll(/^would publish (.*)$/gm)].map(([, name = '']) => name), stderr }
}

test('with all platforms, both packages are published after all of their binaries', (t) => {
  const { code, published, stderr } = publish(artifacts(t))
  t.is(code, 0, stderr)
  t.deepEqual(published.slice(-2), ['zqlite', 'ghostwire'])
  t.deepEqual(published.slice(0, -2).sort(), ['zqlite', 'ghostwire'].flatMap((name) => PLATFORMS.map((platform) => `${name}-${platform}`)).sort())
})

test('a platform that is missing, of another machine, for a newer glibc, too large or no binary stops it all', (t) => {
  const path = artifacts(t)
  const newer = Buffer.from(built.toString('latin1').replaceAll(`GLIBC_${OLDEST_GLIBC}`, 'GLIBC_2.99'), 'latin1')
  newer.writeUInt16LE(62, EI_MACHINE)
  rmSync(join(path, 'zqlite.darwin-arm64.node'))
  writeFileSync(join(path, 'ghostwire.linux-arm64-gnu.node'), binary('linux-x64-gnu'))
  writeFileSync(join(path, 'zqlite.linux-x64-gnu.node'), newer)
  writeFileSync(join(path, 'zqlite.linux-x64-musl.node'), Buffer.concat([binary('linux-x64-musl'), Buffer.alloc(8_000_000)]))
  writeFileSync(join(path, 'ghostwire.linux-arm64-musl.node'), 'not found')
  const { code, published, stderr } = publish(path)
  t.is(code, 1)
  t.deepEqual(published, [])
  for (const line of [
    'zqlite-darwin-arm64: the binary is missing',
    'ghostwire-linux-arm64-gnu: the binary is for linux-x64-gnu',
    `zqlite-linux-x64-gnu: the binary needs glibc 2.99, and ${OLDEST_GLIBC} is promised`,
    'zqlite-linux-x64-musl: the binary has 8000064 bytes, and 8000000 are allowed',
    'ghostwire-linux-arm64-musl: ',
  ]) t.true(stderr.includes(line), `${line}\n${stderr}`)
  t.is(stderr.match(/^ {2}(zqlite|ghostwire)-/gm)?.length, 5)
})

test('what is installed has its readme and its licences', async (t) => {
  const out = folder(t)
  const { stage } = (await import(join(process.cwd(), 'scripts', 'pack', 'packages.mjs'))) as { stage(out: string, options: object): { name: string; folder: string }[] }
  const staged = stage(out, { artifacts: artifacts(t), repository: 'https://example.com/mesh' })
  for (const name of ['zqlite', 'ghostwire', 'zqlite-linux-x64-gnu']) {
    const { stdout, stderr } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: staged.find((one) => one.name === name)!.folder, encoding: 'utf8' })
    const files = (JSON.parse(stdout) as { files: { path: string }[] }[])[0]!.files.map(({ path }) => path)
    for (const file of ['README.md', 'LICENSE-APACHE', 'LICENSE-MIT']) t.true(files.includes(file), `${file} of ${name}: ${files.join()} ${stderr}`)
  }
})
