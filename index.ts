/** zqlite's front door: re-exports `lib/`, holds no logic. */
export { AclEngine } from './lib/acl'
export type { AclAddressQuery, AclDecision, AclExplanation, AclMatch, AclPeer, AclQuery, AclRule, AclVisibility } from './lib/acl'
export { CidrTable } from './lib/cidr'
export type { CidrMatch } from './lib/cidr'
export type { Columns } from './lib/calls'
export type { DatabaseOptions, Duration, Limits, PoolOptions, Size, TransactionLimits } from './lib/config'
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
} from './lib/database'
export { errorCatalogue, ZqliteError } from './lib/errors'
export type { ErrorCode, ErrorDetails } from './lib/errors'
export { initLogging } from './lib/log'
export type { DurationHistogram, Metrics } from './lib/metrics'
export type { Params, Value } from './lib/params'
export type { Column } from './lib/rows'
export type { Statement } from './lib/statement'
export type { RowStream } from './lib/stream'
export type { Transaction, TransactionOptions } from './lib/transaction'
