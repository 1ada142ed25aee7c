// The front door for `import`: the names of the CommonJS build, so that both module kinds share one set of classes.
export {
  AclEngine,
  CidrTable,
  Database,
  errorCatalogue,
  initLogging,
  MigrationError,
  NO_ROW,
  OPENMETRICS_CONTENT_TYPE,
  PROMETHEUS_CONTENT_TYPE,
  ZqliteError,
} from './dist/index.js'
