//! What an index is: its name, table, kind, columns and options. It is kept as the statement that makes it, in a row of
//! the ordinary table `zqlite_index`.

use std::fmt;

use crate::index::token::{TokenKind, Tokens};
use crate::{Error, ErrorCode, Result};

/// The kinds of indexes that SQLite lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindName {
    /// Prefixes by address.
    Cidr,
    /// Rows by what their columns hold.
    Bitmap,
    /// Access rules.
    Acl,
}

impl KindName {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Cidr => "cidr",
            Self::Bitmap => "bitmap",
            Self::Acl => "acl",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let kinds = [Self::Cidr, Self::Bitmap, Self::Acl];
        kinds.into_iter().find(|kind| kind.text().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::new(
                ErrorCode::IndexDefinition,
                format!("there is no index kind {text:?}; it is cidr, bitmap or acl"),
            )
        })
    }

    /// What is wrong with a definition of this kind.
    pub(crate) fn wrong(self, name: &str, why: &str) -> Error {
        Error::new(ErrorCode::IndexDefinition, format!("{} index {name}: {why}", self.text()))
    }

    /// The options that it takes.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Cidr => &["host_bits"],
            Self::Bitmap => &[],
            Self::Acl => &["labels", "owners", "peers", "routes"],
        }
    }
}

/// A definition. Names are as they were written; they are compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) table: String,
    pub(crate) kind: KindName,
    pub(crate) columns: Vec<String>,
    pub(crate) options: Vec<(String, String)>,
}

/// The most columns of an index.
const MOST_COLUMNS: usize = 64;

impl Definition {
    /// What stands behind the kind: `(columns) [WITH (key = value, …)]`.
    pub(crate) fn parse_rest(name: String, table: String, kind: KindName, tokens: &mut Tokens<'_>) -> Result<Self> {
        tokens.expect_symbol("(")?;
        let mut columns = vec![tokens.expect_name("a column")?];
        while tokens.symbol(",") {
            columns.push(tokens.expect_name("a column")?);
        }
        tokens.expect_symbol(")")?;
        let mut options = Vec::new();
        if tokens.word("with") {
            tokens.expect_symbol("(")?;
            loop {
                let key = tokens.expect_name("an option")?;
                tokens.expect_symbol("=")?;
                let value = tokens.peek();
                if !matches!(value.kind, TokenKind::Word | TokenKind::Quoted | TokenKind::Text | TokenKind::Number) {
                    return Err(tokens.wrong("a value"));
                }
                options.push((key.to_ascii_lowercase(), tokens.next().content().into_owned()));
                if !tokens.symbol(",") {
                    break;
                }
            }
            tokens.expect_symbol(")")?;
        }
        tokens.expect_end()?;
        let definition = Self { name, table, kind, columns, options };
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(self.kind.wrong(&self.name, &why));
        if self.name.to_ascii_lowercase().starts_with("sqlite_")
            || self.name.to_ascii_lowercase().starts_with("zqlite_")
        {
            return wrong("names that begin with sqlite_ or zqlite_ are kept for internal use".into());
        }
        if self.kind == KindName::Cidr && self.columns.len() != 1 {
            return wrong(format!("it has one column, not {}", self.columns.len()));
        }
        if self.columns.len() > MOST_COLUMNS {
            return wrong(format!("it has at most {MOST_COLUMNS} columns, not {}", self.columns.len()));
        }
        for (i, column) in self.columns.iter().enumerate() {
            if self.columns[..i].iter().any(|other| other.eq_ignore_ascii_case(column)) {
                return wrong(format!("column {column} is named twice"));
            }
        }
        for (i, (key, value)) in self.options.iter().enumerate() {
            let known = self.kind.options();
            if !known.contains(&key.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return wrong(format!("there is no option {key}; those there are: {known}"));
            }
            if self.options[..i].iter().any(|(other, _)| other == key) {
                return wrong(format!("option {key} is given twice"));
            }
            if key == "host_bits" && !["reject", "mask"].contains(&value.as_str()) {
                return wrong(format!("host_bits is reject or mask, not {value:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Follows a table to its new name; whether there was anything to follow.
    pub(crate) fn rename_table(&mut self, from: &str, to: &str) -> bool {
        let mut changed = false;
        let acl = self.kind == KindName::Acl;
        // Each of its options names a table.
        let tables = self.options.iter_mut().filter(|_| acl).map(|(_, table)| table);
        for table in tables.chain([&mut self.table]).filter(|table| table.eq_ignore_ascii_case(from)) {
            to.clone_into(table);
            changed = true;
        }
        changed
    }

    /// Follows a column to its new name; whether there was anything to follow.
    pub(crate) fn rename_column(&mut self, table: &str, from: &str, to: &str) -> bool {
        if !self.table.eq_ignore_ascii_case(table) {
            return false;
        }
        let mut changed = false;
        for column in self.columns.iter_mut().filter(|column| column.eq_ignore_ascii_case(from)) {
            to.clone_into(column);
            changed = true;
        }
        changed
    }
}

/// A name in double quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.columns.iter().map(|column| quote(column)).collect();
        let (name, table, kind) = (quote(&self.name), quote(&self.table), self.kind.text());
        write!(f, "CREATE INDEX {name} ON {table} USING {kind}({})", columns.join(", "))?;
        if !self.options.is_empty() {
            let options: Vec<_> = self.options.iter().map(|(k, v)| format!("{} = {}", quote(k), quote(v))).collect();
            write!(f, " WITH ({})", options.join(", "))?;
        }
        Ok(())
    }
}
