#!/usr/bin/env node
// The program `ghostwire`.

import { run } from './cli/program.js';

process.exitCode = await run(process.argv.slice(2));
