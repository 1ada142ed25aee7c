//! The statements that indexes take part in: `CREATE INDEX … USING`, which SQLite cannot parse, and those that change what
//! a definition names.

use crate::index::definition::{Definition, KindName};
use crate::index::token::Tokens;
use crate::{ErrorCode, Result};

/// A statement that changes the schema, as far as indexes care.
#[derive(Debug, Clone)]
pub(crate) enum SchemaChange {
    /// `CREATE INDEX … USING …`: ours alone.
    Create(Result<Create>),
    /// Of an index of ours, or of SQLite's.
    DropIndex { name: String },
    /// `ALTER TABLE … RENAME TO …`
    RenameTable { from: String, to: String },
    /// `ALTER TABLE … RENAME COLUMN … TO …`
    RenameColumn { table: String, from: String, to: String },
    /// Any other `ALTER TABLE`, and `DROP TABLE`: the rows may change without a word.
    Rewrite { table: String },
    /// Makes a name, or something in another file.
    Other,
}

/// An index to be made.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    pub(crate) definition: Definition,
    pub(crate) if_not_exists: bool,
}

impl SchemaChange {
    /// `None` when `sql` is anything else. Looks no further than it has to.
    pub(crate) fn parse(sql: &str) -> Option<Self> {
        let mut tokens = Tokens::new(sql, ErrorCode::Sql);
        if tokens.word("create") {
            return Some(create(tokens).map_or(Self::Other, Self::Create));
        }
        let drop = tokens.word("drop");
        if !drop && !tokens.word("alter") {
            return None;
        }
        let index = drop && tokens.word("index");
        if !index && !tokens.word("table") {
            return Some(Self::Other);
        }
        if tokens.word("if") {
            tokens.word("exists");
        }
        Some(name_in_main(&mut tokens).map_or(Self::Other, |name| match (index, drop) {
            (true, _) => Self::DropIndex { name },
            (false, true) => Self::Rewrite { table: name },
            (false, false) => alter(name, tokens),
        }))
    }
}

/// A name without schema, or of the main one.
fn name_in_main(tokens: &mut Tokens<'_>) -> Option<String> {
    let first = tokens.name()?;
    if !tokens.symbol(".") {
        return Some(first);
    }
    let name = tokens.name()?;
    first.eq_ignore_ascii_case("main").then_some(name)
}

fn alter(table: String, mut tokens: Tokens<'_>) -> SchemaChange {
    if !tokens.word("rename") {
        return SchemaChange::Rewrite { table };
    }
    let mut peeked = tokens.clone();
    if peeked.word("to")
        && let Some(to) = peeked.name()
        && peeked.expect_end().is_ok()
    {
        return SchemaChange::RenameTable { from: table, to };
    }
    // COLUMN may be left out, and a column may have its name.
    let mut peeked = tokens.clone();
    if peeked.word("column") && !peeked.peek().is("to") {
        tokens.word("column");
    }
    match (tokens.name(), tokens.word("to"), tokens.name()) {
        (Some(from), true, Some(to)) => SchemaChange::RenameColumn { table, from, to },
        _ => SchemaChange::Rewrite { table },
    }
}

/// What stands behind CREATE, if it makes an index with USING.
fn create(mut tokens: Tokens<'_>) -> Option<Result<Create>> {
    let unique = tokens.word("unique");
    if !tokens.word("index") {
        return None;
    }
    let mut if_not_exists = false;
    if tokens.word("if") {
        tokens.word("not");
        tokens.word("exists");
        if_not_exists = true;
    }
    let mut name = tokens.name()?;
    let mut schema = None;
    if tokens.symbol(".") {
        schema = Some(std::mem::replace(&mut name, tokens.name()?));
    }
    if !tokens.word("on") {
        return None;
    }
    let table = tokens.name()?;
    if !tokens.word("using") {
        return None;
    }
    let rest = || {
        let kind = tokens.expect_name("cidr, bitmap or acl")?;
        let kind = KindName::parse(&kind)?;
        if unique {
            return Err(kind.wrong(&name, "it cannot be UNIQUE"));
        }
        if schema.is_some_and(|schema| !schema.eq_ignore_ascii_case("main")) {
            return Err(kind.wrong(&name, "only tables of the main file can have one, not those of attached files"));
        }
        let definition = Definition::parse_rest(name, table, kind, &mut tokens)?;
        Ok(Create { definition, if_not_exists })
    };
    Some(rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> String {
        match SchemaChange::parse(sql) {
            Some(SchemaChange::Create(Ok(create))) => create.definition.to_string(),
            Some(SchemaChange::Create(Err(error))) => error.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_is_ours_is_taken() {
        for (sql, expected) in [
            ("create index if not exists a on b using CIDR(c);", r#"CREATE INDEX "a" ON "b" USING cidr("c")"#),
            (
                "CREATE /* x */ INDEX main.[a b] ON \"t\"\"t\" USING bitmap(c, `d e`) -- end",
                r#"CREATE INDEX "a b" ON "t""t" USING bitmap("c", "d e")"#,
            ),
            (
                "CREATE INDEX a ON b USING cidr(c) WITH (host_bits = 'mask')",
                r#"CREATE INDEX "a" ON "b" USING cidr("c") WITH ("host_bits" = "mask")"#,
            ),
        ] {
            assert_eq!(parsed(sql), expected, "{sql}");
            assert_eq!(parsed(expected), expected, "a definition reads as it is written");
        }
        for (sql, expected) in [
            ("CREATE UNIQUE INDEX a ON b USING cidr(c)", "UNIQUE"),
            ("CREATE INDEX aux.a ON b USING cidr(c)", "attached"),
            ("CREATE INDEX a ON b USING hash(c)", "cidr, bitmap or acl"),
            ("CREATE INDEX a ON b USING cidr()", "at byte 31"),
            ("CREATE INDEX a ON b USING cidr(c) WHERE c", "at byte 34"),
            ("CREATE INDEX a ON b USING cidr(c, d)", "one column"),
            ("CREATE INDEX a ON b USING cidr(c) WITH (bits = 1)", "host_bits"),
            ("CREATE INDEX a ON b USING bitmap(c, C)", "twice"),
        ] {
            let found = parsed(sql);
            assert!(found.contains("ERR_") && found.contains(expected), "{sql}: {found}");
        }
    }

    #[test]
    fn what_is_sqlites_is_left_to_it() {
        for (sql, expected) in [
            ("SELECT 1", "None"),
            ("EXPLAIN CREATE INDEX a ON b USING cidr(c)", "None"),
            ("CREATE INDEX a ON b (using)", "Some(Other)"),
            ("CREATE TABLE t (a)", "Some(Other)"),
            ("ALTER TABLE t RENAME TO u", r#"Some(RenameTable { from: "t", to: "u" })"#),
            ("ALTER TABLE main.t RENAME COLUMN a TO b", r#"Some(RenameColumn { table: "t", from: "a", to: "b" })"#),
            ("ALTER TABLE t RENAME a TO b;", r#"Some(RenameColumn { table: "t", from: "a", to: "b" })"#),
            ("ALTER TABLE t RENAME column TO b", r#"Some(RenameColumn { table: "t", from: "column", to: "b" })"#),
            ("ALTER TABLE t RENAME to TO b", r#"Some(RenameColumn { table: "t", from: "to", to: "b" })"#),
            ("ALTER TABLE t DROP COLUMN a", r#"Some(Rewrite { table: "t" })"#),
            ("ALTER TABLE aux.t RENAME TO u", "Some(Other)"),
            ("DROP TABLE IF EXISTS t", r#"Some(Rewrite { table: "t" })"#),
            ("DROP INDEX t", r#"Some(DropIndex { name: "t" })"#),
            ("DROP VIEW v", "Some(Other)"),
        ] {
            assert_eq!(parsed(sql), expected, "{sql}");
        }
    }
}
