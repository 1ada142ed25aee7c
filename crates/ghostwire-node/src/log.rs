//! Logs of the native part: JSON lines on standard error, filtered as `RUST_LOG` does, of the shape that the TypeScript
//! part writes (`level`, `time`, `pid`, `target`, fields, `msg`), so that whoever reads them needs one parser.

use std::fmt::{self, Debug};

use napi_derive::napi;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::guard::{Code, bug, guard};

/// Starts logging with a filter such as `info,ghostwire_sync=debug`. The first call of a process counts; later ones do
/// nothing, as loggers cannot be replaced.
#[napi]
pub fn init_logging(filter: String) -> napi::Result<(), Code> {
    guard(|| {
        let filter =
            EnvFilter::try_new(&filter).map_err(|error| bug(format!("{filter:?} is not a log filter: {error}")))?;
        // Nobody listens to this error: it would say that the first call counts.
        let _ = tracing_subscriber::fmt()
            .event_format(Lines)
            .with_writer(std::io::stderr)
            .with_env_filter(filter)
            .try_init();
        Ok(())
    })
}

/// An event as one line of JSON.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let (pid, target) = (std::process::id(), Value::from(metadata.target()));
        write!(line, r#"{{"level":"{level}","time":"{time}","pid":{pid},"target":{target}"#)?;
        let mut fields = Fields { line: &mut line, message: None, outcome: Ok(()) };
        event.record(&mut fields);
        let Fields { message, outcome, .. } = fields;
        outcome?;
        if let Some(message) = message {
            write!(line, r#","msg":{}"#, Value::from(message))?;
        }
        line.write_str("}\n")
    }
}

/// Writes fields where they come; the message is kept for the end of the line.
struct Fields<'a, 'w> {
    line: &'a mut Writer<'w>,
    message: Option<String>,
    outcome: fmt::Result,
}

impl Fields<'_, '_> {
    fn put(&mut self, field: &Field, value: Value) {
        if self.outcome.is_ok() {
            self.outcome = write!(self.line, ",{}:{value}", Value::from(field.name()));
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = Some(text);
        } else {
            self.put(field, Value::from(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }
}
