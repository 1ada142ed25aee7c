// The programs that the checks of the packages use, in a folder of their own: nobody else needs to install them.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { root, run, say } from '../setup.mjs'

const FOLDER = join(root, 'scripts', 'pack')

/** A file of one of the tools. */
export const tool = (path) => join(FOLDER, 'node_modules', path)
export const PNPM = tool('pnpm/bin/pnpm.cjs')
export const VERDACCIO = tool('verdaccio/bin/verdaccio')
export const YARN = tool('@yarnpkg/cli-dist/bin/yarn.js')

export function installTools() {
  if ([PNPM, VERDACCIO, YARN].every((path) => existsSync(path))) return
  say('installing the tools of the check …')
  const status = run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'], { cwd: FOLDER })
  if (status !== 0) throw new Error('the tools of the check could not be installed; see above')
}
