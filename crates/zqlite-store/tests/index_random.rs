//! Random statements in random transactions: after each the indexes hold what the tables hold, which plain SQL says.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use proptest::prelude::*;
use support::{Client, Transaction, fresh};
use zqlite_store::Nest;

const FILTERS: &[&str] =
    &["a = 'x'", "a IS NULL OR n > 2", "NOT (n BETWEEN 1 AND 3) AND a != 'y'", "a IN ('x', 'z') AND n >= 0"];

#[derive(Debug, Clone)]
enum Step {
    Sql(String),
    Batch(Vec<String>),
    Transaction(Vec<Inner>, bool),
}

#[derive(Debug, Clone)]
enum Inner {
    Sql(String),
    Begin,
    Release,
    Undo,
    Look,
}

fn statement() -> impl Strategy<Value = String> {
    let id = || 1i64..12;
    let prefix = || {
        prop_oneof![
            8 => (0u8..4, 8u8..=24).prop_map(|(octet, length)| format!("cidr_range_of({octet},{length})")),
            1 => Just("NULL".to_owned()),
            1 => Just("'bad'".to_owned()),
        ]
    };
    // A prefix without host bits, spelled out.
    let prefix = move || {
        prefix().prop_map(|text| match text.strip_prefix("cidr_range_of(").and_then(|rest| rest.strip_suffix(')')) {
            Some(rest) => {
                let (octet, length) = rest.split_once(',').unwrap();
                let (octet, length): (u32, u32) = (octet.parse().unwrap(), length.parse().unwrap());
                let bits = ((10 << 24) | (octet << 16) | (octet << 8)) & (u32::MAX << (32 - length));
                format!("'{}/{length}'", std::net::Ipv4Addr::from(bits))
            }
            None => text,
        })
    };
    let text = || prop::sample::select(&["'x'", "'y'", "'z'", "NULL", "1"][..]);
    prop_oneof![
        4 => (id(), prefix(), text(), id()).prop_map(|(id, p, a, n)| format!("INSERT INTO t VALUES ({id}, {p}, {a}, {n})")),
        2 => (id(), prefix(), text(), id()).prop_map(|(id, p, a, n)| format!("INSERT OR REPLACE INTO t VALUES ({id}, {p}, {a}, {n})")),
        1 => (id(), prefix(), text(), id()).prop_map(|(id, p, a, n)| format!("INSERT OR ROLLBACK INTO t VALUES ({id}, {p}, {a}, {n})")),
        1 => (id(), prefix(), id()).prop_map(|(id, p, n)| format!("INSERT OR FAIL INTO t VALUES ({id}, {p}, 'x', {n}), ({n}, {p}, 'y', 0)")),
        2 => (id(), prefix(), text()).prop_map(|(id, p, a)| {
            format!("INSERT INTO t VALUES ({id}, {p}, {a}, 1) ON CONFLICT (id) DO UPDATE SET p = excluded.p, n = n + 1")
        }),
        3 => (id(), prefix()).prop_map(|(id, p)| format!("UPDATE t SET p = {p} WHERE id = {id}")),
        2 => (id(), text()).prop_map(|(n, a)| format!("UPDATE t SET a = {a}, n = n + 1 WHERE n < {n}")),
        2 => (id(), id()).prop_map(|(a, b)| format!("UPDATE OR REPLACE t SET id = {b} WHERE id = {a}")),
        1 => Just("UPDATE t SET id = id + 1".to_owned()),
        2 => id().prop_map(|id| format!("DELETE FROM t WHERE id = {id}")),
        1 => Just("DELETE FROM t".to_owned()),
        1 => id().prop_map(|id| format!("DELETE FROM parent WHERE id = {id}")),
        1 => id().prop_map(|id| format!("INSERT OR IGNORE INTO parent VALUES ({id})")),
        2 => (id(), prefix()).prop_map(|(id, p)| format!("INSERT OR REPLACE INTO child VALUES ({id}, {p}, {id})")),
        1 => Just("DROP INDEX IF EXISTS tp".to_owned()),
        2 => Just("CREATE INDEX IF NOT EXISTS tp ON t USING cidr(p)".to_owned()),
        1 => Just("DROP INDEX IF EXISTS tb".to_owned()),
        2 => Just("CREATE INDEX IF NOT EXISTS tb ON t USING bitmap(a, n)".to_owned()),
        1 => Just("ALTER TABLE t RENAME COLUMN p TO q".to_owned()),
        2 => Just("ALTER TABLE t RENAME COLUMN q TO p".to_owned()),
        1 => Just("ALTER TABLE t ADD COLUMN p TEXT".to_owned()),
        1 => Just("ALTER TABLE t RENAME TO t2".to_owned()),
        2 => Just("ALTER TABLE t2 RENAME TO t".to_owned()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let inner = prop_oneof![
        6 => statement().prop_map(Inner::Sql),
        2 => Just(Inner::Begin),
        1 => Just(Inner::Release),
        2 => Just(Inner::Undo),
        3 => Just(Inner::Look),
    ];
    prop_oneof![
        6 => statement().prop_map(Step::Sql),
        2 => prop::collection::vec(statement(), 1..4).prop_map(Step::Batch),
        3 => (prop::collection::vec(inner, 1..12), any::<bool>()).prop_map(|(inner, commit)| Step::Transaction(inner, commit)),
    ]
}

/// Compares each index that there is with its table.
fn agrees(within: bool, ask: &dyn Fn(&str) -> Result<String, zqlite_store::Error>) {
    // A row of the open transaction that does not parse, in any table, keeps every index from answering until it is gone.
    if within
        && ask("SELECT * FROM cidr_lookup('cp', '::')")
            .is_err_and(|error| error.code == zqlite_store::ErrorCode::IndexRow)
    {
        let table = ask("SELECT name FROM sqlite_schema WHERE name IN ('t', 't2')").unwrap();
        let column =
            ask(&format!("SELECT name FROM pragma_table_info('{table}') WHERE name IN ('p', 'q') LIMIT 1")).unwrap();
        let bad = format!(
            "SELECT 'yes' WHERE EXISTS (SELECT 1 FROM child WHERE p = 'bad') OR EXISTS (SELECT 1 FROM {table} WHERE {column} = 'bad')"
        );
        assert_eq!(ask(&bad).unwrap(), "yes");
        return;
    }
    let text = |sql: &str| ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    for (index, columns) in [("tp", "p q"), ("cp", "p")] {
        let tables = text(&format!("SELECT tbl_name FROM zqlite_index WHERE name = '{index}'"));
        if tables.is_empty() {
            continue;
        }
        let names = text(&format!("SELECT group_concat(name, ' ') FROM pragma_table_info('{tables}')"));
        let definition = text(&format!("SELECT sql FROM zqlite_index WHERE name = '{index}'"));
        let column = columns.split(' ').find(|column| definition.contains(&format!("(\"{column}\")"))).unwrap();
        let held = ask(&format!(
            "SELECT group_concat(id || '=' || prefix) FROM (SELECT * FROM cidr_range('{index}', '0.0.0.0', '255.255.255.255') ORDER BY id)"
        ));
        if !names.split(' ').any(|name| name == column) {
            assert!(held.is_err());
            continue;
        }
        let plain = format!(
            "SELECT group_concat(id || '=' || cidr_normalize({column})) FROM (SELECT * FROM {tables} WHERE {column} IS NOT NULL ORDER BY id)"
        );
        assert_eq!(held.unwrap(), text(&plain));
    }
    let table = text("SELECT tbl_name FROM zqlite_index WHERE name = 'tb'");
    for filter in FILTERS.iter().filter(|_| !table.is_empty()) {
        let held = ask(&format!("SELECT group_concat(id) FROM bitmap_rows('tb', '{}')", filter.replace('\'', "''")));
        let plain = text(&format!("SELECT group_concat(id) FROM (SELECT id FROM {table} WHERE {filter} ORDER BY id)"));
        assert_eq!(held.unwrap(), plain, "{filter}");
    }
}

fn run_inner(transaction: &Transaction<'_>, steps: &[Inner]) -> bool {
    let mut depth = 0;
    for step in steps {
        match step {
            Inner::Sql(sql) => {
                // OR ROLLBACK takes the transaction down.
                if transaction.try_run(sql).is_err() && transaction.try_run("SELECT 1").is_err() {
                    return false;
                }
            }
            Inner::Begin => {
                transaction.nest(Nest::Begin);
                depth += 1;
            }
            Inner::Release | Inner::Undo if depth == 0 => {}
            Inner::Release => {
                transaction.nest(Nest::Release);
                depth -= 1;
            }
            Inner::Undo => {
                transaction.nest(Nest::Undo);
                depth -= 1;
            }
            Inner::Look => agrees(true, &|sql| support::text(transaction.try_run(sql))),
        }
    }
    for _ in 0..depth {
        transaction.nest(Nest::Release);
    }
    true
}

fn check(client: &Client, steps: &[Step]) {
    for sql in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, p TEXT, a, n INTEGER)",
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE child (id INTEGER PRIMARY KEY, p TEXT, parent INTEGER REFERENCES parent ON DELETE CASCADE)",
        "CREATE TRIGGER copy AFTER INSERT ON child BEGIN INSERT OR IGNORE INTO t (id, a, n) VALUES (new.id + 100, 'x', new.id); END",
        "CREATE INDEX tp ON t USING cidr(p)",
        "CREATE INDEX tb ON t USING bitmap(a, n)",
        "CREATE INDEX cp ON child USING cidr(p)",
    ] {
        client.run(sql);
    }
    for step in steps {
        match step {
            Step::Sql(sql) => {
                let _ = client.try_run(sql);
            }
            Step::Batch(statements) => {
                // Each also as members that share a commit.
                let members = statements.iter().map(|sql| client.batch(&[sql])).collect();
                let _ = client.one(client.batch(&statements.iter().map(String::as_str).collect::<Vec<_>>()));
                client.all(members);
            }
            Step::Transaction(inner, commit) => {
                let transaction = client.transaction();
                if run_inner(&transaction, inner) {
                    if *commit {
                        let _ = transaction.commit();
                    } else {
                        transaction.rollback();
                    }
                }
            }
        }
        agrees(false, &|sql| support::text(client.try_run(sql)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn indexes_hold_what_tables_hold(steps in prop::collection::vec(step(), 1..25)) {
        check(&Client::memory(), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 15, ..ProptestConfig::default() })]

    #[test]
    fn and_so_they_do_for_readers_and_after_opening_again(steps in prop::collection::vec(step(), 1..12)) {
        let (folder, client) = fresh();
        check(&client, &steps);
        drop(client);
        let client = Client::open(&folder.path().join("test.db"));
        agrees(false, &|sql| support::text(client.try_run(sql)));
    }
}
