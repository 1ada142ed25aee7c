/** The examples of the pages about indexes run as printed and print what they say. */
import { join } from 'node:path'
import test from 'ava'
import { printsWhatItSays } from './helpers'

for (const page of ['cidr', 'bitmap', 'acl']) test(`the examples of ${page} print what they say`, (t) => printsWhatItSays(t, join('docs', `${page}.md`)))
