//! Logs of the native part: JSON lines on standard error, filtered as `RUST_LOG` does.

use napi_derive::napi;
use tracing_subscriber::EnvFilter;
use zqlite_store::{Error, ErrorCode};

use crate::guard::guard;

/// Starts logging with a filter such as `info,zqlite_store=debug`. The first call of a process counts; later ones do
/// nothing, as loggers cannot be replaced.
#[napi]
pub fn init_logging(filter: String) -> napi::Result<()> {
    guard(|| {
        let filter = EnvFilter::try_new(&filter)
            .map_err(|e| Error::new(ErrorCode::Type, format!("{filter:?} is not a log filter: {e}")))?;
        let _ = tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_env_filter(filter).try_init();
        Ok(())
    })
}
