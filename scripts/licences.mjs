// Which licences the npm packages that are installed with ours have, from package-lock.json: those of deny.toml, or it fails.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, say } from './setup.mjs'

const [, list = ''] = /^allow = \[(.*?)\]/ms.exec(readFileSync(join(root, 'deny.toml'), 'utf8')) ?? []
const allowed = new Set([...list.matchAll(/"([^"]+)"/g)].map(([, licence]) => licence))
if (allowed.size === 0) throw new Error('deny.toml has no list of licences')

const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
const installed = Object.entries(packages).filter(([path, { dev, link }]) => path.includes('node_modules/') && !dev && !link)
// `A OR B` needs one that is allowed, `A AND B` all of them.
const fits = (licence = 'none') => licence.replace(/[()]/g, '').split(' OR ').some((choice) => choice.split(' AND ').every((one) => allowed.has(one.trim())))
const wrong = installed.filter(([, { license }]) => !fits(license))
for (const [path, { license }] of wrong) say(`${path.replace(/^.*node_modules\//, '')}: ${license ?? 'no licence'} is not one that deny.toml allows`)
say(`${installed.length - wrong.length} of ${installed.length} npm packages have a licence that is allowed`)
process.exitCode = wrong.length > 0 || installed.length === 0 ? 1 : 0
