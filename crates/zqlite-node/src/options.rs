//! Options and metrics as plain objects.

use std::time::Duration;

use napi_derive::napi;
use zqlite_store::{Options, PoolOptions, Snapshot, TransactionLimits};

/// All fields are there: `lib/config.ts` fills in the defaults. Times are in milliseconds.
#[napi(object)]
pub struct NativeOptions {
    pub path: Option<String>,
    pub readonly: bool,
    pub cache_size: f64,
    pub parallel_writes: bool,
    pub min_connections: u32,
    pub max_connections: u32,
    pub connection_timeout: f64,
    pub idle_timeout: f64,
    pub max_lifetime: f64,
    pub health_check_interval: f64,
    pub queue_limit: u32,
    pub transaction_total: f64,
    pub transaction_idle: f64,
}

fn millis(ms: f64) -> Duration {
    Duration::from_secs_f64((ms / 1000.0).clamp(0.0, 1e9))
}

impl From<NativeOptions> for Options {
    fn from(o: NativeOptions) -> Self {
        Self {
            path: o.path.map(Into::into),
            readonly: o.readonly,
            cache_size: o.cache_size as u64,
            parallel_writes: o.parallel_writes,
            pool: PoolOptions {
                min_connections: o.min_connections,
                max_connections: o.max_connections,
                connection_timeout: millis(o.connection_timeout),
                idle_timeout: millis(o.idle_timeout),
                max_lifetime: millis(o.max_lifetime),
                health_check_interval: millis(o.health_check_interval),
                queue_limit: o.queue_limit as usize,
            },
            transactions: TransactionLimits { total: millis(o.transaction_total), idle: millis(o.transaction_idle) },
        }
    }
}

macro_rules! native_metrics {
    ($($name:ident)*) => {
        /// The counters at one moment; exact up to 2^53.
        #[napi(object)]
        pub struct NativeMetrics { $(pub $name: f64,)* pub connections: f64, pub waiting: f64 }

        impl From<Snapshot> for NativeMetrics {
            fn from(s: Snapshot) -> Self {
                Self { $($name: s.$name as f64,)* connections: s.lanes.connections as f64, waiting: s.lanes.waiting as f64 }
            }
        }
    };
}

native_metrics! {
    reads writes errors groups grouped_members reruns transactions_started transactions_committed transactions_timed_out
    expired refused queue_wait_ns busy_ns commit_ns checkpoints checkpoint_ns wal_bytes active
}
