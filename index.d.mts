// The types for `import`: those for `require`. Not by the name `./index.js`, which is the source where that stands beside it.
export * from '#types'
