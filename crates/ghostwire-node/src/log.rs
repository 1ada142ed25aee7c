//! Logs of the native part: JSON lines on standard error, filtered as `RUST_LOG` does.

use napi_derive::napi;
use tracing_subscriber::EnvFilter;

use crate::guard::{Code, bug, guard};

/// Starts logging with a filter such as `info,ghostwire_sync=debug`. The first call of a process counts; later ones do
/// nothing, as loggers cannot be replaced.
#[napi]
pub fn init_logging(filter: String) -> napi::Result<(), Code> {
    guard(|| {
        let filter =
            EnvFilter::try_new(&filter).map_err(|error| bug(format!("{filter:?} is not a log filter: {error}")))?;
        // Nobody listens to this error: it would say that the first call counts.
        let _ = tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_env_filter(filter).try_init();
        Ok(())
    })
}
