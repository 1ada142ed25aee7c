//! What the fuzz targets in `fuzz/` reach of the inside. Not part of any other build.

use bytes::Bytes;
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::rows::Packer;
use crate::settings::Settings;
use crate::statement::{Statements, authorization, judge};
use crate::{Chunk, Options, Params};

thread_local! {
    static CONNECTION: Option<Connection> = Connection::open_in_memory().ok();
}

/// Rows of values from arbitrary bytes, all of one width.
pub fn values(data: &[u8]) -> Vec<Vec<Value>> {
    let mut data = data.iter().copied();
    let width = usize::from(data.next().unwrap_or(0) % 4) + 1;
    let mut rows = Vec::new();
    while data.len() > 0 && rows.len() < 64 {
        rows.push((0..width).map(|_| value(&mut data)).collect());
    }
    rows
}

fn value(data: &mut impl Iterator<Item = u8>) -> Value {
    let kind = data.next().unwrap_or(0);
    let mut number = [0; 8];
    match kind % 6 {
        1 => {
            number.fill_with(|| data.next().unwrap_or(0));
            Value::Integer(i64::from_le_bytes(number))
        }
        2 => {
            number.fill_with(|| data.next().unwrap_or(0));
            Value::Real(f64::from_le_bytes(number))
        }
        3 => {
            let bytes: Vec<u8> = data.take(usize::from(kind / 6)).collect();
            Value::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        4 => Value::Blob(data.take(usize::from(kind / 6)).collect()),
        5 => Value::Integer(kind.into()),
        _ => Value::Null,
    }
}

/// Packs rows as a lane does; `None` for no rows, which are not packed.
pub fn pack(rows: &[Vec<Value>]) -> Option<Chunk> {
    let width = rows.first()?.len();
    CONNECTION.with(|connection| {
        let connection = connection.as_ref()?;
        let sql = format!("SELECT {}", vec!["?"; width].join(","));
        let mut statement = connection.prepare_cached(&sql).ok()?;
        let mut packer = Packer::default();
        packer.start(width);
        for row in rows {
            Params::from_values(row).bind(&mut statement).ok()?;
            let mut found = statement.raw_query();
            packer.push(found.next().ok()??).ok()?;
        }
        Some(packer.finish())
    })
}

/// Binds arbitrary bytes as the parameters of a statement.
pub fn bind(data: &[u8]) {
    let [count, named, rest @ ..] = data else { return };
    CONNECTION.with(|connection| {
        let Some(connection) = connection else { return };
        let Ok(mut statement) = connection.prepare_cached("SELECT :a, @b, $c") else { return };
        let _ = Params::new(Bytes::copy_from_slice(rest), u32::from(count % 5), named % 2 == 1).bind(&mut statement);
    });
}

/// Lets a SQL text in.
pub fn enter(sql: &str) {
    let statement = Statements::default().intern(sql);
    let _ = statement.route();
    if let Some(pragma) = &statement.pragma {
        let _ = Settings::new(&Options::default()).and_then(|settings| settings.run(pragma));
        return;
    }
    let Ok(mut connection) = Connection::open_in_memory() else { return };
    let judged =
        connection.authorizer(Some(|context: rusqlite::hooks::AuthContext<'_>| authorization(judge(&context))));
    let bounded = connection.progress_handler(1_000, Some(|| true));
    if judged.and(bounded).is_err() {
        return;
    }
    let Ok(mut prepared) = connection.prepare(sql) else { return };
    if prepared.parameter_count() == 0 {
        let mut rows = prepared.raw_query();
        while let Ok(Some(_)) = rows.next() {}
    }
    drop(prepared);
    assert!(connection.is_autocommit(), "{sql:?} began a transaction");
}
