//! SQL functions whose answer is a table: `cidr_lookup`, `cidr_matches`, `cidr_range`, `bitmap_rows`. Their arguments are
//! hidden columns, <https://sqlite.org/vtab.html#table_valued_functions>, named so that no column of a caller's has their name; each answer is found when the arguments are known,
//! and then walked.

use std::borrow::Cow;
use std::ffi::{CStr, c_int};
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::vtab::{
    Context, Filters, IndexConstraintOp, IndexInfo, Module, VTab, VTabConfig, VTabConnection, VTabCursor,
};
use rusqlite::{Connection, ffi};
use zqlite_cidr::{AddressRange, Prefix};

use crate::index::cidr::{Cidr, address};
use crate::index::content::Content;
use crate::index::definition::KindName;
use crate::index::local::Local;
use crate::{Error, ErrorCode, Result};

/// A row of an answer.
type Row = (i64, Option<Prefix>);

/// What a function is.
struct Function {
    name: &'static str,
    /// Its columns, for SQLite.
    declaration: &'static CStr,
    kind: KindName,
    /// Columns that are no arguments.
    columns: c_int,
    arguments: &'static [&'static str],
    /// About how many rows it has.
    rows: i64,
    answer: fn(&Content, &[&str]) -> Result<Vec<Row>>,
}

const FUNCTIONS: [Function; 4] = [
    Function {
        name: "cidr_lookup",
        declaration: c"CREATE TABLE x(id INTEGER, prefix TEXT, _index HIDDEN, _address HIDDEN)",
        kind: KindName::Cidr,
        columns: 2,
        arguments: &["index", "address"],
        rows: 1,
        answer: |content, arguments| {
            let address = address(argument(arguments, 0))?;
            let found = cidr(content)?.lookup(address);
            Ok(found
                .into_iter()
                .flat_map(|(prefix, rows)| rows.into_iter().map(move |row| (row, Some(prefix))))
                .collect())
        },
    },
    Function {
        name: "cidr_matches",
        declaration: c"CREATE TABLE x(id INTEGER, prefix TEXT, _index HIDDEN, _address HIDDEN)",
        kind: KindName::Cidr,
        columns: 2,
        arguments: &["index", "address"],
        rows: 4,
        answer: |content, arguments| {
            let address = address(argument(arguments, 0))?;
            Ok(cidr(content)?.matches(address).into_iter().map(|(prefix, row)| (row, Some(prefix))).collect())
        },
    },
    Function {
        name: "cidr_range",
        declaration: c"CREATE TABLE x(id INTEGER, prefix TEXT, _index HIDDEN, _first HIDDEN, _last HIDDEN)",
        kind: KindName::Cidr,
        columns: 2,
        arguments: &["index", "first", "last"],
        rows: 100,
        answer: |content, arguments| {
            let (first, last) = (address(argument(arguments, 0))?, address(argument(arguments, 1))?);
            let range = AddressRange::new(first, last).map_err(|reason| {
                Error::new(ErrorCode::CidrSyntax, format!("not a range: {first} to {last}: {reason}"))
            })?;
            Ok(cidr(content)?.within(range).into_iter().map(|(prefix, row)| (row, Some(prefix))).collect())
        },
    },
    Function {
        name: "bitmap_rows",
        declaration: c"CREATE TABLE x(id INTEGER, _index HIDDEN, _filter HIDDEN)",
        kind: KindName::Bitmap,
        columns: 1,
        arguments: &["index", "filter"],
        rows: 1000,
        answer: |content, arguments| match content {
            Content::Bitmap(index) => {
                Ok(index.ids(argument(arguments, 0))?.into_iter().map(|row| (row, None)).collect())
            }
            _ => Err(other_kind()),
        },
    },
];

fn argument<'a>(arguments: &[&'a str], at: usize) -> &'a str {
    arguments.get(at).copied().unwrap_or_default()
}

fn cidr(content: &Content) -> Result<&Cidr> {
    match content {
        Content::Cidr(index) => Ok(index),
        _ => Err(other_kind()),
    }
}

fn other_kind() -> Error {
    Error::new(ErrorCode::Internal, "an index of another kind was asked")
}

pub(crate) fn register(connection: &Connection, local: &Arc<Local>) -> Result<()> {
    const MODULE: &Module<'_, Answers> = &Module::eponymous_only_module();
    for function in &FUNCTIONS {
        connection.create_module(function.name, MODULE, Some(Aux { function, local: local.clone() }))?;
    }
    Ok(())
}

#[derive(Clone)]
struct Aux {
    function: &'static Function,
    local: Arc<Local>,
}

/// A function, as SQLite sees it: a table.
#[repr(C)]
struct Answers {
    /// Must be first: SQLite knows the table by it.
    base: ffi::sqlite3_vtab,
    aux: Aux,
}

// SAFETY: the type is `repr(C)` and begins with `sqlite3_vtab`, as the trait asks.
unsafe impl<'t> VTab<'t> for Answers {
    type Aux = Aux;
    type Cursor = Walk<'t>;

    fn connect(
        db: &mut VTabConnection,
        aux: Option<&Aux>,
        _module: &[u8],
        _database: &[u8],
        _table: &[u8],
        _arguments: &[&[u8]],
    ) -> rusqlite::Result<(Cow<'static, CStr>, Self)> {
        let aux = aux.cloned().ok_or_else(|| rusqlite::Error::ModuleError("a function without itself".into()))?;
        // It only reads what a SELECT can read, so views and triggers may use it.
        db.config(VTabConfig::Innocuous)?;
        Ok((Cow::Borrowed(aux.function.declaration), Self { base: ffi::sqlite3_vtab::default(), aux }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> rusqlite::Result<bool> {
        let function = self.aux.function;
        let mut places: Vec<Option<usize>> = vec![None; function.arguments.len()];
        let mut unusable = false;
        for (i, constraint) in info.constraints().enumerate() {
            let argument = usize::try_from(constraint.column() - function.columns).ok();
            let Some(place) = argument.and_then(|argument| places.get_mut(argument)) else { continue };
            if constraint.operator() != IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_EQ {
                continue;
            }
            if constraint.is_usable() {
                *place = Some(i);
            } else {
                unusable = true;
            }
        }
        if places.iter().any(Option::is_none) && unusable {
            // Another order of the tables gives the arguments first.
            return Ok(false);
        }
        for (i, place) in places.iter().enumerate() {
            let Some(place) = place else {
                let message = format!("{} takes {}", function.name, function.arguments.join(", "));
                return Err(self.aux.local.error(Error::new(ErrorCode::Parameters, message)));
            };
            let mut usage = info.constraint_usage(*place);
            usage.set_argv_index(i as c_int + 1);
            usage.set_omit(true);
        }
        info.set_estimated_cost(function.rows as f64);
        info.set_estimated_rows(function.rows);
        Ok(true)
    }

    fn open(&'t mut self) -> rusqlite::Result<Walk<'t>> {
        Ok(Walk { base: ffi::sqlite3_vtab_cursor::default(), aux: &self.aux, rows: Vec::new(), at: 0 })
    }
}

/// A walk over one answer.
#[repr(C)]
struct Walk<'t> {
    /// Must be first: SQLite knows the cursor by it.
    base: ffi::sqlite3_vtab_cursor,
    aux: &'t Aux,
    rows: Vec<Row>,
    at: usize,
}

// SAFETY: the type is `repr(C)` and begins with `sqlite3_vtab_cursor`, as the trait asks.
unsafe impl VTabCursor for Walk<'_> {
    fn filter(&mut self, _number: c_int, _text: Option<&str>, filters: &Filters<'_>) -> rusqlite::Result<()> {
        let Aux { function, local } = self.aux;
        (self.rows, self.at) = (Vec::new(), 0);
        let mut arguments = Vec::with_capacity(function.arguments.len());
        for (value, name) in filters.iter().zip(function.arguments) {
            match value {
                // SQL's rule: of what is unknown nothing is known.
                ValueRef::Null => return Ok(()),
                ValueRef::Text(text) => arguments.push(std::str::from_utf8(text).unwrap_or("\u{fffd}")),
                _ => {
                    let message = format!("{}: {name} must be a text", function.name);
                    return Err(local.error(Error::new(ErrorCode::Type, message)));
                }
            }
        }
        let Some((name, arguments)) = arguments.split_first() else { return Ok(()) };
        self.rows = local.answer(name, function.kind, |content| (function.answer)(content, arguments))?;
        Ok(())
    }

    fn next(&mut self) -> rusqlite::Result<()> {
        self.at += 1;
        Ok(())
    }

    fn eof(&self) -> bool {
        self.at >= self.rows.len()
    }

    fn column(&self, context: &mut Context, column: c_int) -> rusqlite::Result<()> {
        let Some((row, prefix)) = self.rows.get(self.at) else { return Ok(()) };
        match (column, prefix) {
            (0, _) => context.set_result(*row),
            (1, Some(prefix)) => context.set_result(prefix.to_string()),
            _ => Ok(()),
        }
    }

    fn rowid(&self) -> rusqlite::Result<i64> {
        Ok(self.at as i64)
    }
}
