//! SQL functions of one value: about addresses and prefixes, and counts.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use zqlite_cidr::{HostBits, Prefix};

use crate::index::acl::Question;
use crate::index::cidr::owned;
use crate::index::content::Content;
use crate::index::definition::KindName;
use crate::index::local::Local;
use crate::{Error, ErrorCode, Result};

/// Always the same answer, so that they may stand in CHECK, in generated columns and in indexes of SQLite's own.
const PURE: FunctionFlags =
    FunctionFlags::SQLITE_UTF8.union(FunctionFlags::SQLITE_DETERMINISTIC).union(FunctionFlags::SQLITE_INNOCUOUS);

pub(crate) fn register(connection: &Connection, local: &Arc<Local>) -> Result<()> {
    // SQL's rule: of what is unknown nothing is known.
    let of_two = |name: &str, f: fn(Prefix, Prefix) -> bool| {
        let own = local.own.clone();
        connection.create_scalar_function(name, 2, PURE, move |context| {
            let fail = |error| rusqlite::Error::ModuleError(own.fail(error));
            let (a, b) = (prefix(context, 0).map_err(&fail)?, prefix(context, 1).map_err(&fail)?);
            Ok(a.zip(b).map(|(a, b)| f(a, b)))
        })
    };
    of_two("cidr_contains", Prefix::covers)?;
    of_two("cidr_overlaps", |a, b| a.covers(b) || b.covers(a))?;
    let own = local.own.clone();
    connection.create_scalar_function("cidr_normalize", 1, PURE, move |context| {
        let prefix = prefix(context, 0).map_err(|error| rusqlite::Error::ModuleError(own.fail(error)))?;
        Ok(prefix.map(|prefix| prefix.to_string()))
    })?;
    let counting = local.clone();
    connection.create_scalar_function("bitmap_count", 2, FunctionFlags::SQLITE_UTF8, move |context| {
        let (name, filter) = (text(context, 0), text(context, 1));
        let (name, filter) = (name.map_err(|e| counting.error(e))?, filter.map_err(|e| counting.error(e))?);
        let (Some(name), Some(filter)) = (name, filter) else { return Ok(None) };
        counting.answer(name, KindName::Bitmap, |content| match content {
            Content::Bitmap(index) => index.count(filter).map(|count| Some(count as i64)),
            _ => Ok(None),
        })
    })?;
    let deciding = local.clone();
    connection.create_scalar_function("acl_decide", -1, FunctionFlags::SQLITE_UTF8, move |context| {
        decide(context, &deciding)
    })?;
    Ok(())
}

/// `acl_decide('index', source, destination, protocol, port [, at])`: 1 when it is allowed, 0 when not.
fn decide(context: &Context<'_>, local: &Local) -> rusqlite::Result<Option<bool>> {
    if !(5..=6).contains(&context.len()) {
        let message = "acl_decide takes index, source, destination, protocol, port, and if need be at";
        return Err(local.error(Error::new(ErrorCode::Parameters, message)));
    }
    let Some(name) = text(context, 0).map_err(|error| local.error(error))? else { return Ok(None) };
    let arguments: Vec<Value> = (1..context.len()).map(|i| owned(context.get_raw(i))).collect();
    if arguments.iter().take(4).any(|value| *value == Value::Null) {
        return Ok(None);
    }
    local.answer(name, KindName::Acl, |content| match content {
        Content::Acl(index) => index.decide(&Question::of(&arguments)?).map(|decision| Some(decision.allowed)),
        _ => Ok(None),
    })
}

/// A text; `None` is NULL.
fn text<'a>(context: &'a Context<'_>, at: usize) -> Result<Option<&'a str>> {
    match context.get_raw(at) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => Ok(std::str::from_utf8(text).ok()),
        _ => Err(Error::new(ErrorCode::Type, format!("argument {} must be a text", at + 1))),
    }
}

/// A prefix, or an address as the prefix of its full length. A function is asked, not told, so bits behind the length are
/// an error as they are everywhere.
fn prefix(context: &Context<'_>, at: usize) -> Result<Option<Prefix>> {
    match context.get_raw(at) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => Prefix::parse(text, HostBits::Reject)
            .map(Some)
            .map_err(|error| Error::new(ErrorCode::CidrSyntax, error.to_string())),
        _ => Err(Error::new(ErrorCode::Type, format!("argument {} must be a text", at + 1))),
    }
}
