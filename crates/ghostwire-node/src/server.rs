//! The sync server as a JavaScript object.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ghostwire_sync::{Certificate, Options, SyncError, SyncServer};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::batch::SyncBatch;
use crate::guard::{Code, from_sync, guard};
use crate::number::{count, handle};

/// What is absent has the default of `ghostwire_sync::Options`. Times are in milliseconds.
#[napi(object, object_to_js = false)]
pub struct NativeSyncOptions {
    pub host: String,
    pub port: f64,
    pub epoch: String,
    pub max_connections: Option<f64>,
    pub max_handshakes: Option<f64>,
    pub max_tokens: Option<f64>,
    pub max_hello_bytes: Option<f64>,
    pub hello_deadline_ms: Option<f64>,
    pub write_deadline_ms: Option<f64>,
    pub ping_every_ms: Option<f64>,
    pub dead_after_ms: Option<f64>,
    pub stop_deadline_ms: Option<f64>,
    pub threads: Option<f64>,
    pub certificate: Option<NativeCertificate>,
}

/// A certificate chain and its private key, both PEM.
#[napi(object)]
pub struct NativeCertificate {
    pub chain: String,
    pub key: String,
}

/// A certificate for these names and addresses that nobody but itself has signed.
#[napi]
pub fn self_signed_certificate(names: Vec<String>) -> napi::Result<NativeCertificate, Code> {
    guard(|| {
        let Certificate { chain, key } = Certificate::self_signed(names).map_err(from_sync)?;
        Ok(NativeCertificate { chain, key })
    })
}

/// A recipient that came or went; `at` is in milliseconds since 1970.
#[napi(object, object_from_js = false)]
pub struct SyncPresence {
    pub handle: u32,
    pub connected: bool,
    pub at: f64,
}

/// Defines the object and its conversion together, so that no metric is left out.
macro_rules! metrics {
    ($($name:ident),* $(,)?) => {
        /// Counters since the start, and gauges as they stand.
        #[napi(object, object_from_js = false)]
        pub struct SyncMetrics { $(pub $name: f64,)* }

        impl From<ghostwire_sync::Metrics> for SyncMetrics {
            fn from(metrics: ghostwire_sync::Metrics) -> Self {
                let ghostwire_sync::Metrics { $($name,)* } = metrics;
                Self { $($name: $name as f64,)* }
            }
        }
    };
}

metrics!(
    accepted,
    refused,
    hellos_failed,
    tokens_refused,
    tokens_issued,
    connected,
    replaced,
    revoked,
    too_slow,
    silent,
    violations,
    fulls,
    resumes,
    deltas,
    bytes_sent,
    publishes,
    flushes,
    connections,
    sockets,
    records,
    views,
    filters,
    filter_bytes,
    recipients,
    tokens,
    revision,
    tick_ms,
);

/// A running server. It does not keep the process alive.
#[napi]
pub struct NativeSync {
    server: Arc<SyncServer>,
}

/// Starts a server.
#[napi]
pub fn start_sync(options: NativeSyncOptions) -> napi::Result<NativeSync, Code> {
    guard(|| {
        let invalid = |option, reason| from_sync(SyncError::InvalidOption { option, reason });
        let host: IpAddr =
            options.host.parse().map_err(|_| invalid("host", format!("{:?} is no IP address", options.host)))?;
        let port = u16::try_from(count("port", options.port)?);
        let port = port.map_err(|_| invalid("port", format!("{} is not 0 to 65535", options.port)))?;
        let defaults = Options::new(SocketAddr::new(host, port), options.epoch);
        let size = |name, value: Option<f64>, default: usize| match value {
            Some(value) => count(name, value).map(|value| usize::try_from(value).unwrap_or(usize::MAX)),
            None => Ok(default),
        };
        let time = |name, value: Option<f64>, default| match value {
            Some(value) => count(name, value).map(Duration::from_millis),
            None => Ok(default),
        };
        let options = Options {
            max_connections: size("maxConnections", options.max_connections, defaults.max_connections)?,
            max_handshakes: size("maxHandshakes", options.max_handshakes, defaults.max_handshakes)?,
            max_tokens: size("maxTokens", options.max_tokens, defaults.max_tokens)?,
            max_hello_bytes: size("maxHelloBytes", options.max_hello_bytes, defaults.max_hello_bytes)?,
            hello_deadline: time("helloDeadlineMs", options.hello_deadline_ms, defaults.hello_deadline)?,
            write_deadline: time("writeDeadlineMs", options.write_deadline_ms, defaults.write_deadline)?,
            ping_every: time("pingEveryMs", options.ping_every_ms, defaults.ping_every)?,
            dead_after: time("deadAfterMs", options.dead_after_ms, defaults.dead_after)?,
            stop_deadline: time("stopDeadlineMs", options.stop_deadline_ms, defaults.stop_deadline)?,
            certificate: options.certificate.map(|NativeCertificate { chain, key }| Certificate { chain, key }),
            threads: size("threads", options.threads, defaults.threads)?,
            ..defaults
        };
        Ok(NativeSync { server: Arc::new(SyncServer::start(options).map_err(from_sync)?) })
    })
}

/// Every error code of the native part with whether it is retryable; a test compares them with the catalogue.
#[napi(ts_return_type = "Array<{ code: string, retryable: boolean }>")]
pub fn sync_error_codes() -> Vec<SyncErrorCode> {
    let codes = SyncError::CATALOGUE;
    codes.iter().map(|code| SyncErrorCode { code: code.name.into(), retryable: code.retryable }).collect()
}

#[napi(object, object_from_js = false)]
pub struct SyncErrorCode {
    pub code: String,
    pub retryable: bool,
}

#[napi]
impl NativeSync {
    #[napi(getter)]
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    #[napi]
    pub fn change_certificate(&self, certificate: NativeCertificate) -> napi::Result<(), Code> {
        let NativeCertificate { chain, key } = certificate;
        guard(|| self.server.change_certificate(&Certificate { chain, key }).map_err(from_sync))
    }

    #[napi]
    pub fn publish(&self, batch: SyncBatch<'_>) -> napi::Result<(), Code> {
        guard(|| self.server.publish(batch.convert()?).map_err(from_sync))
    }

    #[napi]
    pub fn issue_token(&self, recipient: f64, ttl_ms: f64) -> napi::Result<String, Code> {
        guard(|| {
            let lifetime = Duration::from_millis(count("ttlMs", ttl_ms)?);
            self.server.issue_token(handle("handle", recipient)?, lifetime).map_err(from_sync)
        })
    }

    #[napi]
    pub fn connections(&self) -> napi::Result<u32, Code> {
        guard(|| Ok(u32::try_from(self.server.connections()).unwrap_or(u32::MAX)))
    }

    #[napi]
    pub fn metrics(&self) -> napi::Result<SyncMetrics, Code> {
        guard(|| Ok(self.server.metrics().into()))
    }

    #[napi]
    pub fn take_events(&self) -> napi::Result<Vec<SyncPresence>, Code> {
        guard(|| {
            let events = self.server.take_presence().into_iter();
            Ok(events.map(|e| SyncPresence { handle: e.handle, connected: e.connected, at: e.at as f64 }).collect())
        })
    }

    /// Resolves when every connection is closed, or the stop deadline is over.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn stop(&self) -> AsyncTask<Stop> {
        AsyncTask::new(Stop(Arc::clone(&self.server)))
    }
}

/// Stops a server off the JavaScript thread.
pub struct Stop(Arc<SyncServer>);

impl Task for Stop {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        guard(|| {
            self.0.stop();
            Ok(())
        })
        .map_err(|error| napi::Error::from_reason(error.reason.clone()))
    }

    fn resolve(&mut self, _: Env, (): ()) -> napi::Result<()> {
        Ok(())
    }
}
