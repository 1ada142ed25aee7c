// `node scripts/publish.mjs --artifacts FOLDER [--repository URL] [--dry-run]`: publishes both packages and the binaries of
// every platform to npm's registry, with provenance. Refuses, before anything is sent, when a platform is missing or its binary is
// made for another one, needs a newer glibc than promised, or is too large. Run by .github/workflows/release.yml.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { stage } from './pack/packages.mjs'
import { run, say } from './setup.mjs'

const { values } = parseArgs({
  options: { artifacts: { type: 'string' }, repository: { type: 'string' }, 'dry-run': { type: 'boolean', default: false } },
})
const out = mkdtempSync(join(tmpdir(), 'zqlite-publish-'))
process.on('exit', () => rmSync(out, { recursive: true, force: true }))
try {
  for (const { name, folder } of stage(out, { artifacts: values.artifacts, repository: values.repository })) {
    if (values['dry-run']) say(`would publish ${name}`)
    else if (run('npm', ['publish', '--provenance', '--access=public'], { cwd: folder }) !== 0) throw new Error(`publishing ${name} failed; see above`)
  }
} catch (error) {
  say(`error: ${error.message}`)
  process.exitCode = 1
}
