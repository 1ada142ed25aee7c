//! SQL functions whose answer is a table: `cidr_lookup`, `cidr_matches`, `cidr_range`, `bitmap_rows`, `acl_explain`. Their arguments are
//! hidden columns, <https://sqlite.org/vtab.html#table_valued_functions>, named so that no column of a caller's has their name; each answer is found when the arguments are known,
//! and then walked.

use std::borrow::Cow;
use std::ffi::{CStr, c_int};
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::vtab::{
    Context, Filters, IndexConstraintOp, IndexInfo, Module, VTab, VTabConfig, VTabConnection, VTabCursor,
};
use rusqlite::{Connection, ffi};
use zqlite_acl::MatchingRule;
use zqlite_cidr::{AddressRange, Prefix};

use crate::index::acl::Question;
use crate::index::cidr::{Cidr, address, owned};
use crate::index::content::Content;
use crate::index::definition::KindName;
use crate::index::local::Local;
use crate::{Error, ErrorCode, Result};

/// A row of an answer.
enum Row {
    Id(i64),
    Prefix(i64, Prefix),
    Rule(MatchingRule),
}

/// What a function is.
struct Function {
    name: &'static str,
    /// Its columns, for SQLite.
    declaration: &'static CStr,
    kind: KindName,
    /// Columns that are no arguments.
    columns: c_int,
    arguments: &'static [&'static str],
    /// How many of them must be given.
    required: usize,
    /// About how many rows it has.
    rows: i64,
    answer: fn(&Content, &[Value]) -> Result<Vec<Row>>,
}

const FUNCTIONS: [Function; 5] = [
    Function {
        name: "cidr_lookup",
        declaration: c"CREATE TABLE x(id INTEGER, prefix TEXT, _index HIDDEN, _address HIDDEN)",
        kind: KindName::Cidr,
        columns: 2,
        arguments: &["index", "address"],
        required: 2,
        rows: 1,
        answer: |content, arguments| {
            let address = address(text(arguments, 0)?)?;
            let found = cidr(content)?.lookup(address);
            Ok(found.into_iter().flat_map(|(prefix, rows)| rows.into_iter().map(move |row| Row::Prefix(row, prefix))).collect())
        },
    },
    Function {
        name: "cidr_matches",
        declaration: c"CREATE TABLE x(id INTEGER, prefix TEXT, _index HIDDEN, _address HIDDEN)",
        kind: KindName::Cidr,
        columns: 2,
        arguments: &["index", "address"],
        required: 2,
        rows: 4,
        answer: |content, arguments| {
            let address = address(text(arguments, 0)?)?;
            Ok(cidr(content)?.matches(address).into_iter().map(|(prefix, row)| Row::Prefix(row, prefix)).collect())
        },
    },
    Function {
        name: "cidr_range",
        declaration: c"CREATE TABLE x(id INTEGER, prefix TEXT, _index HIDDEN, _first HIDDEN, _last HIDDEN)",
        kind: KindName::Cidr,
        columns: 2,
        arguments: &["index", "first", "last"],
        required: 3,
        rows: 100,
        answer: |content, arguments| {
            let (first, last) = (address(text(arguments, 0)?)?, address(text(arguments, 1)?)?);
            let range = AddressRange::new(first, last).map_err(|reason| {
                Error::new(ErrorCode::CidrSyntax, format!("not a range: {first} to {last}: {reason}"))
            })?;
            Ok(cidr(content)?.within(range).into_iter().map(|(prefix, row)| Row::Prefix(row, prefix)).collect())
        },
    },
    Function {
        name: "bitmap_rows",
        declaration: c"CREATE TABLE x(id INTEGER, _index HIDDEN, _filter HIDDEN)",
        kind: KindName::Bitmap,
        columns: 1,
        arguments: &["index", "filter"],
        required: 2,
        rows: 1000,
        answer: |content, arguments| match content {
            Content::Bitmap(index) => {
                Ok(index.ids(text(arguments, 0)?)?.into_iter().map(Row::Id).collect())
            }
            _ => Err(other_kind()),
        },
    },
    Function {
        name: "acl_explain",
        declaration: c"CREATE TABLE x(rule INTEGER, action TEXT, priority INTEGER, shadowed INTEGER, _index HIDDEN, _source HIDDEN, _destination HIDDEN, _protocol HIDDEN, _port HIDDEN, _at HIDDEN)",
        kind: KindName::Acl,
        columns: 4,
        arguments: &["index", "source", "destination", "protocol", "port", "at"],
        required: 5,
        rows: 4,
        answer: |content, arguments| match content {
            Content::Acl(index) => {
                Ok(index.explain(&Question::of(arguments)?)?.matching.into_iter().map(Row::Rule).collect())
            }
            _ => Err(other_kind()),
        },
    },
];

/// An argument that is a text.
fn text(arguments: &[Value], at: usize) -> Result<&str> {
    match arguments.get(at) {
        Some(Value::Text(text)) => Ok(text),
        _ => Err(Error::new(ErrorCode::Type, format!("argument {} must be a text", at + 2))),
    }
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
        if unusable {
            // Another order of the tables gives the arguments first.
            return Ok(false);
        }
        // SQLite gives arguments from the left, so none is missing before one that is there.
        let given = places.iter().take_while(|place| place.is_some()).count();
        if given < function.required {
            let message = format!("{} takes {}", function.name, function.arguments.join(", "));
            return Err(self.aux.local.error(Error::new(ErrorCode::Parameters, message)));
        }
        for (i, place) in places.iter().flatten().enumerate() {
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
        let arguments: Vec<Value> = filters.iter().map(owned).collect();
        // SQL's rule: of what is unknown nothing is known.
        if arguments.iter().take(function.required).any(|value| *value == Value::Null) {
            return Ok(());
        }
        let Some((name, arguments)) = arguments.split_first() else { return Ok(()) };
        let Value::Text(name) = name else {
            let message = format!("{}: the name of an index must be a text", function.name);
            return Err(local.error(Error::new(ErrorCode::Type, message)));
        };
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
        match (self.rows.get(self.at), column) {
            (Some(Row::Id(row) | Row::Prefix(row, _)), 0) => context.set_result(*row),
            (Some(Row::Prefix(_, prefix)), 1) => context.set_result(prefix.to_string()),
            (Some(Row::Rule(rule)), 0) => context.set_result(i64::try_from(rule.rule).unwrap_or(i64::MAX)),
            (Some(Row::Rule(rule)), 1) => context.set_result(rule.action.to_string()),
            (Some(Row::Rule(rule)), 2) => context.set_result(rule.priority),
            (Some(Row::Rule(rule)), 3) => context.set_result(rule.shadowed),
            _ => Ok(()),
        }
    }

    fn rowid(&self) -> rusqlite::Result<i64> {
        Ok(self.at as i64)
    }
}
