//! Indexes of each kind under attack: the tables of `torture/indexes.sql`, which follow each write by a trigger, and the
//! queries that compare what an index answers with what its table holds.

use crate::client::Client;

/// Headings with the statement that follows each.
const STATEMENTS: &str = include_str!("../../../torture/indexes.sql");

/// The statements whose heading begins with a word.
fn statements(heading: &str) -> impl Iterator<Item = &'static str> {
    let parts = STATEMENTS.split("\n-- ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.filter(move |(title, _)| title.starts_with(heading)).map(|(_, sql)| sql.trim())
}

/// The statements that make the tables and their indexes; the table `log` stands already.
pub fn schema() -> impl Iterator<Item = &'static str> {
    statements("make").chain(statements("index"))
}

/// Compares every index with its table, each at one moment.
///
/// # Errors
/// Where they differ, or why it cannot be said.
pub fn check(db: &Client) -> Result<(), String> {
    for sql in statements("compare") {
        let differences = db.sql(sql, &[]).map_err(|e| e.to_string())?;
        if let Some(first) = differences.first() {
            return Err(format!("an index does not say what its table holds: {first:?}, by {sql}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_statements_are_found() {
        assert_eq!((schema().count(), statements("compare").count()), (8, 4));
    }
}
