//! Options and metrics as plain objects.

use std::time::Duration;

use napi_derive::napi;
use zqlite_store::{
    Attached, Histogram, Operation, Options, PoolOptions, Setup, Snapshot, TransactionLimits, Waiting, WalLimits,
};

/// All fields are there: `lib/config.ts` fills in the defaults. Times are in milliseconds.
#[napi(object)]
pub struct NativeOptions {
    pub path: Option<String>,
    pub readonly: bool,
    pub shared: bool,
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
    pub wal_limit: f64,
    pub max_read_age: f64,
    pub sync_steps: f64,
    pub attach: Vec<NativeAttached>,
    pub pragmas: Vec<NativeSetting>,
    pub limits: Vec<NativeLimit>,
    pub extensions: Vec<String>,
}

#[napi(object)]
pub struct NativeAttached {
    pub name: String,
    pub path: String,
    pub readonly: bool,
}

#[napi(object)]
pub struct NativeSetting {
    pub name: String,
    pub value: String,
}

#[napi(object)]
pub struct NativeLimit {
    pub name: String,
    pub value: i32,
}

pub(crate) fn millis(ms: f64) -> Duration {
    Duration::from_secs_f64((ms / 1000.0).clamp(0.0, 1e9))
}

impl From<NativeOptions> for Options {
    fn from(o: NativeOptions) -> Self {
        Self {
            path: o.path.map(Into::into),
            readonly: o.readonly,
            shared: o.shared,
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
            wal: WalLimits { limit: o.wal_limit as u64, max_read_age: millis(o.max_read_age) },
            sync_steps: o.sync_steps as u64,
            setup: Setup {
                attach: o
                    .attach
                    .into_iter()
                    .map(|a| Attached { name: a.name, path: a.path.into(), readonly: a.readonly })
                    .collect(),
                pragmas: o.pragmas.into_iter().map(|s| (s.name, s.value)).collect(),
                limits: o.limits.into_iter().map(|l| (l.name, l.value)).collect(),
                extensions: o.extensions.into_iter().map(Into::into).collect(),
            },
            transactions: TransactionLimits { total: millis(o.transaction_total), idle: millis(o.transaction_idle) },
        }
    }
}

/// How often values of one kind were how large; durations are in nanoseconds.
#[napi(object)]
pub struct NativeHistogram {
    /// What it is of: an operation, a lane, or nothing.
    pub of: String,
    pub bounds: Vec<f64>,
    /// By bucket; one more than there are bounds.
    pub counts: Vec<f64>,
    pub sum: f64,
}

impl NativeHistogram {
    fn new(of: &str, histogram: &Histogram) -> Self {
        let numbers = |values: &[u64]| values.iter().map(|n| *n as f64).collect();
        Self {
            of: of.to_owned(),
            bounds: numbers(histogram.bounds),
            counts: numbers(&histogram.counts),
            sum: histogram.sum as f64,
        }
    }
}

macro_rules! native_metrics {
    ($($name:ident)*) => {
        /// The counters at one moment; exact up to 2^53.
        #[napi(object)]
        pub struct NativeMetrics {
            $(pub $name: f64,)*
            pub connections: f64,
            pub waiting: f64,
            pub durations: Vec<NativeHistogram>,
            pub waits: Vec<NativeHistogram>,
            pub group_sizes: NativeHistogram,
            pub checkpoints: NativeHistogram,
            /// In the order of the catalogue.
            pub errors_by_code: Vec<f64>,
        }

        impl From<Snapshot> for NativeMetrics {
            fn from(s: Snapshot) -> Self {
                Self {
                    $($name: s.$name as f64,)*
                    connections: s.lanes.connections as f64,
                    waiting: s.lanes.waiting as f64,
                    durations: Operation::ALL.iter().zip(&s.durations).map(|((_, of), h)| NativeHistogram::new(of, h)).collect(),
                    waits: Waiting::ALL.iter().zip(&s.waits).map(|((_, of), h)| NativeHistogram::new(of, h)).collect(),
                    group_sizes: NativeHistogram::new("", &s.group_sizes),
                    checkpoints: NativeHistogram::new("", &s.checkpoints),
                    errors_by_code: s.errors_by_code.iter().map(|n| *n as f64).collect(),
                }
            }
        }
    };
}

native_metrics! {
    reads writes errors reruns transactions_started transactions_committed transactions_timed_out pool_timeouts expired
    refused busy_ns commit_ns wal_bytes active
}
