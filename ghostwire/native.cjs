// The addon, as its generated loader (`binding.cjs`) finds it; a failure is explained.
'use strict'

require('zqlite/addon').loadAddon(require, './binding.cjs', 'ghostwire')
module.exports = require('./binding.cjs')
