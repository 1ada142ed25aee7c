/** Logs of the native part. */
import * as native from '../native'
import { fromNative } from './errors'

/**
 * Starts JSON-line logs of the native part on standard error. The first call of a process counts.
 *
 * @param filter as `RUST_LOG` takes it, such as `info,zqlite_store=debug`
 * @throws {ZqliteError} `ERR_TYPE` when the filter cannot be read
 */
export function initLogging(filter: string): void {
  try {
    native.initLogging(filter)
  } catch (error) {
    throw fromNative(error)
  }
}
