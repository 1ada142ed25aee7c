/** zqlite's front door: re-exports `lib/`, holds no logic. */
export { AclEngine } from './lib/acl'
export type { AclAddressBatch, AclAddressQuery, AclBatch, AclChange, AclConflict, AclDecision, AclDecisions, AclDifference, AclDifferenceRow } from './lib/acl'
export type { AclEngineOptions, AclExplanation, AclFilterRule, AclMatch, AclPairCounts, AclParty, AclPassage, AclPeer, AclQuery, AclRule, AclUnusedRule, AclVisibility } from './lib/acl'
export { CidrTable } from './lib/cidr'
export type { CidrAddresses, CidrMatch, CidrTableOptions } from './lib/cidr'
export type { Columns } from './lib/calls'
export type { DatabaseOptions, Duration, Limits, PoolOptions, Size, TransactionLimits, WalLimits } from './lib/config'
export { Database } from './lib/database'
export type {
  BackupOptions,
  BatchResult,
  BatchStatement,
  CallOptions,
  CheckpointMode,
  CheckpointResult,
  DatabaseStats,
  ExecuteResult,
  Health,
  QueryPlanStep,
  SyncCallOptions,
} from './lib/database'
export { errorCatalogue, ZqliteError } from './lib/errors'
export type { ErrorCode, ErrorDetails } from './lib/errors'
export { NO_ROW } from './lib/indexes'
export type { AclIndex, AclIndexQuery, AclReasons, BitmapIndex, CidrHit, CidrIndex, CidrRow, RowId } from './lib/indexes'
export { initLogging } from './lib/log'
export type { DurationHistogram, Histogram, Metrics, WaitHistogram } from './lib/metrics'
export { MigrationError } from './lib/migrate'
export type { MigrateOptions, Migration, MigrationDatabase, MigrationProgress, MigrationResult, MigrationStep, MigrationTransaction } from './lib/migrate'
export type { Params, Value } from './lib/params'
export { OPENMETRICS_CONTENT_TYPE, PROMETHEUS_CONTENT_TYPE } from './lib/prometheus'
export type { PromClientRegistry } from './lib/prometheus'
export type { Column } from './lib/rows'
export type { Statement } from './lib/statement'
export type { RowStream } from './lib/stream'
export type { Logger, SlowQuery, SlowQueryOptions, TraceContext } from './lib/tracing'
export type { Transaction, TransactionOptions } from './lib/transaction'
