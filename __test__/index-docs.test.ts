/** The examples of the pages about indexes run as printed and print what they say. */
import { join } from 'node:path'
import test from 'ava'
import { printsWhatItSays } from './helpers'

for (const page of ['cidr', 'bitmap', 'acl']) test(`the example of ${page} prints what it says`, (t) => printsWhatItSays(t, join('docs', `${page}.md`)))
