//! The kind `bitmap`: a filter finds what SQLite finds behind WHERE.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use std::cell::Cell;

use proptest::prelude::*;
use support::{Client, code, fresh};
use zqlite_store::ErrorCode;

const TABLE: &str = "CREATE TABLE rules (id INTEGER PRIMARY KEY, priority INTEGER, action TEXT, enabled INTEGER, note)";
const INDEX: &str = "CREATE INDEX by_bits ON rules USING bitmap(priority, action, enabled)";

fn rules() -> (tempfile::TempDir, Client) {
    let (folder, client) = fresh();
    client.run(TABLE);
    client.run(INDEX);
    client.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO rules SELECT i, i % 300, CASE i % 3 WHEN 0 THEN 'deny' WHEN 1 THEN 'allow' END, i % 2, i FROM n",
    );
    (folder, client)
}

#[test]
fn a_filter_finds_rows_and_counts_them() {
    let (_folder, client) = rules();
    let filter = "action = 'deny' AND enabled = 1 AND priority >= 100";
    let quoted = filter.replace('\'', "''");
    let plain = client.text(&format!("SELECT group_concat(id) FROM (SELECT id FROM rules WHERE {filter} ORDER BY id)"));
    assert!(plain.len() > 1000);
    assert_eq!(client.text(&format!("SELECT group_concat(id) FROM bitmap_rows('by_bits', '{quoted}')")), plain);
    let index = client.store.indexes().bitmap("by_bits");
    let ids = index.rows(filter).unwrap();
    assert_eq!(ids.iter().map(i64::to_string).collect::<Vec<_>>().join(","), plain);
    assert_eq!(index.count(filter).unwrap(), ids.len() as u64);
    assert_eq!(
        client.text(&format!("SELECT CAST(bitmap_count('by_bits', '{quoted}') AS TEXT)")),
        ids.len().to_string()
    );
    let plan = client.text(&format!("EXPLAIN QUERY PLAN SELECT bitmap_count('by_bits', '{quoted}')"));
    assert!(plan.contains("CONSTANT") && !plan.contains("rules"), "the table is not touched: {plan}");
    let joined =
        format!("SELECT CAST(sum(note) AS TEXT) FROM bitmap_rows('by_bits', '{quoted}') b JOIN rules r ON r.id = b.id");
    assert_eq!(client.text(&joined), ids.iter().sum::<i64>().to_string());
    assert_eq!(client.text("SELECT coalesce(bitmap_count('by_bits', NULL), 'null')"), "null");
    client.run("UPDATE rules SET action = 'allow'");
    assert_eq!(index.count("action IS NOT 'allow'").unwrap(), 0);
    client.run("DELETE FROM rules");
    assert_eq!(index.count("NOT action = 'x' OR action IS NULL").unwrap(), 0);
}

#[test]
fn what_is_no_filter_is_told_with_its_place() {
    let (_folder, client) = rules();
    let index = client.store.indexes().bitmap("by_bits");
    let deep = format!("{}enabled = 1{}", "(".repeat(5000), ")".repeat(5000));
    for (filter, place) in [
        ("", "byte 0"),
        ("enabled", "byte 7"),
        ("enabled = ", "byte 10"),
        ("enabled = 1 AND", "byte 15"),
        ("enabled = 1 enabled = 1", "byte 12"),
        ("(enabled = 1", "byte 12"),
        ("enabled = 1)", "byte 11"),
        ("enabled = action", "byte 10"),
        ("enabled + 1 = 2", "byte 8"),
        ("note = 1", "byte 0"),
        ("enabled IN (1, 2", "byte 16"),
        ("enabled IN 1", "byte 11"),
        ("enabled BETWEEN 1 OR 2", "byte 18"),
        ("enabled = 'open", "byte 10"),
        ("enabled = -'1'", "byte 11"),
        ("enabled LIKE 1", "byte 8"),
        ("enabled IS TRUE", "byte 11"),
        ("enabled = 1; DROP TABLE rules", "byte 11"),
        ("action = 1.5", "byte 9"),
        ("enabled = 0x", "byte 10"),
        (deep.as_str(), "byte 200"),
    ] {
        let error = index.rows(filter).expect_err(filter);
        assert_eq!(error.code, ErrorCode::FilterSyntax, "{filter}");
        assert!(error.message.contains(place), "{filter}: {error}");
        assert!(error.message.len() < 400);
    }
    assert_eq!(code(index.rows(&"x".repeat(2 << 20))), ErrorCode::FilterSyntax);
    assert_eq!(client.fails("SELECT * FROM bitmap_rows('by_bits', 'nonsense')").code, ErrorCode::FilterSyntax);
    assert_eq!(code(client.store.indexes().bitmap("none").rows("a = 1")), ErrorCode::IndexUnknown);
    assert_eq!(code(client.store.indexes().cidr("by_bits").lookup("::")), ErrorCode::IndexUnknown);
}

#[test]
fn collations_that_are_not_known_are_refused() {
    let (_folder, client) = fresh();
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE, b TEXT COLLATE RTRIM)");
    client.run("CREATE INDEX i ON t USING bitmap(a, b)");
    let utf16 = tempfile::tempdir().unwrap();
    let path = utf16.path().join("test.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA encoding = 'UTF-16'; CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        .unwrap();
    let client = Client::open(&path);
    assert_eq!(client.fails("CREATE INDEX i ON t USING bitmap(a)").code, ErrorCode::IndexDefinition);
    // Prefixes are read the same in any encoding.
    client.run("CREATE INDEX i ON t USING cidr(a)");
    client.run("INSERT INTO t VALUES (1, '10.0.0.0/8')");
    client.run("UPDATE t SET a = '11.0.0.0/8'");
    assert_eq!(client.text("SELECT prefix FROM cidr_lookup('i', '11.0.0.1')"), "11.0.0.0/8");
}

/// Values that are alike to some affinities and collations and not to others.
const VALUES: &[&str] = &[
    "NULL",
    "0",
    "1",
    "-1",
    "2",
    "1.0",
    "1.5",
    "-1.5",
    "2e0",
    "1e300",
    "-1e300",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "9007199254740993",
    "9007199254740992.0",
    "0x10",
    "''",
    "'1'",
    "'1.0'",
    "' 1 '",
    "'+1'",
    "'1x'",
    "'1e0'",
    "'0x10'",
    "'abc'",
    "'ABC'",
    "'abc  '",
    "'é'",
    "'É'",
    "'9223372036854775808'",
    "x''",
    "x'31'",
    "x'616263'",
    "TRUE",
    "'nan'",
    "'.5'",
    "'5.'",
];
const COLUMNS: &[&str] = &["i", "r", "n", "t", "b", "u", "c", "s"];
const MIXED: &str = "CREATE TABLE m (id INTEGER PRIMARY KEY, i INTEGER, r REAL, n NUMERIC, t TEXT, b BLOB, u, c TEXT COLLATE NOCASE, s TEXT COLLATE RTRIM)";

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(VALUES)
}

fn filter() -> impl Strategy<Value = String> {
    let column = || prop::sample::select(COLUMNS);
    let test = prop_oneof![
        4 => (column(), prop::sample::select(&["=", "==", "!=", "<>", "<", "<=", ">", ">="][..]), value())
            .prop_map(|(column, operator, value)| format!("{column} {operator} {value}")),
        1 => (column(), any::<bool>(), value()).prop_filter("no truth", |(.., value)| *value != "TRUE")
            .prop_map(|(column, not, value)| format!("{column} IS {}{value}", if not { "NOT " } else { "" })),
        1 => (column(), any::<bool>(), value(), value())
            .prop_map(|(column, not, a, b)| format!("{column} {}BETWEEN {a} AND {b}", if not { "NOT " } else { "" })),
        2 => (column(), any::<bool>(), prop::collection::vec(value(), 0..4))
            .prop_map(|(column, not, values)| format!("{column} {}IN ({})", if not { "NOT " } else { "" }, values.join(", "))),
        1 => (column(), prop::sample::select(&["ISNULL", "NOTNULL", "NOT NULL"][..]))
            .prop_map(|(column, what)| format!("{column} {what}")),
    ];
    test.prop_recursive(4, 20, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" AND "))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" OR "))),
            inner.prop_map(|part| format!("NOT ({part})")),
        ]
    })
}

#[test]
fn filters_find_what_sql_finds() {
    let client = Client::memory();
    client.run(MIXED);
    client.run("CREATE INDEX mixed ON m USING bitmap(i, r, n, t, b, u, c, s)");
    for (row, first) in VALUES.iter().enumerate() {
        // Each value in each column, and pairs of them in one row.
        let values: Vec<_> = (0..8)
            .map(|column| if column % 2 == 0 { first } else { &VALUES[(row * 7 + column) % VALUES.len()] })
            .copied()
            .collect();
        client.run(&format!(
            "INSERT INTO m VALUES ({}, {})",
            row as i64 * 1000 - 500_000 * (row as i64 % 2),
            values.join(", ")
        ));
        let values: Vec<_> = (0..8)
            .map(|column| if column % 2 == 1 { first } else { &VALUES[(row * 5 + column) % VALUES.len()] })
            .copied()
            .collect();
        client.run(&format!("INSERT INTO m VALUES ({}, {})", row as i64 - 100_000, values.join(", ")));
    }
    let index = client.store.indexes().bitmap("mixed");
    let (asked, refused) = (Cell::new(0), Cell::new(0));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 3000, ..ProptestConfig::default() });
    runner
        .run(&filter(), |filter| {
            asked.set(asked.get() + 1);
            let found = match index.rows(&filter) {
                // The one comparison that is not answered.
                Err(error) if error.message.contains("the column holds text") => {
                    refused.set(refused.get() + 1);
                    return Ok(());
                }
                found => found.unwrap_or_else(|error| panic!("{filter}: {error}")),
            };
            let sql =
                format!("SELECT coalesce(group_concat(id), '') FROM (SELECT id FROM m WHERE {filter} ORDER BY id)");
            let found_text = found.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
            prop_assert_eq!(&found_text, &client.text(&sql), "{}", filter);
            prop_assert_eq!(index.count(&filter).unwrap(), found.len() as u64);
            Ok(())
        })
        .unwrap();
    assert!(refused.get() * 2 < asked.get(), "{refused:?} of {asked:?} filters were refused");
}
