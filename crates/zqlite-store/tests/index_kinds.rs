//! The rules for indexes, each shown by every kind: one table, one column of addresses, asked in three ways.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use support::{Client, Transaction, code, fresh, text};
use zqlite_store::{Attached, BackupOptions, Cancel, ErrorCode, Flow, Maintenance, Nest, Options, Setup, Store, Work};

/// Behind `v` and `u` is what rules have besides.
const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, v TEXT, u TEXT UNIQUE, g INTEGER REFERENCES groups ON DELETE CASCADE,
   d TEXT DEFAULT '*', p, o, r INTEGER DEFAULT 0, a TEXT DEFAULT 'allow', e INTEGER DEFAULT 1)";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Cidr,
    Bitmap,
    Acl,
}

const KINDS: [Kind; 3] = [Kind::Cidr, Kind::Bitmap, Kind::Acl];

impl Kind {
    fn index(self) -> &'static str {
        match self {
            Self::Cidr => "CREATE INDEX ic ON t USING cidr(v)",
            Self::Bitmap => "CREATE INDEX ib ON t USING bitmap(v)",
            Self::Acl => "CREATE INDEX ia ON t USING acl(v, d, p, o, r, a, e)",
        }
    }

    fn name(self) -> &'static str {
        self.index().split(' ').nth(2).unwrap()
    }

    /// The ids of the rows that hold a value, in order, as an expression of SQL.
    fn lookup(self, value: &str) -> String {
        match self {
            Self::Cidr => format!("(SELECT group_concat(id) FROM cidr_lookup('ic', {value}))"),
            Self::Bitmap => format!("(SELECT group_concat(id) FROM bitmap_rows('ib', 'v = ''' || {value} || ''''))"),
            Self::Acl => {
                format!("(SELECT group_concat(rule) FROM acl_explain('ia', {value}, '10.9.9.9', 6, 1, 0))")
            }
        }
    }

    /// All that the index holds.
    fn held(self) -> String {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 40),
               found AS (SELECT i, '10.0.0.' || i AS v, {} AS ids FROM n)
             SELECT group_concat(v || '=' || ids, ' ' ORDER BY i) FROM found WHERE ids IS NOT NULL",
            self.lookup("'10.0.0.' || i")
        )
    }

    /// What no index of the kind could hold; bitmaps take anything.
    fn takes_bad_rows(self) -> bool {
        self == Self::Bitmap
    }
}

/// All that the table holds, as [`Kind::held`] has it.
const PLAIN: &str = "SELECT group_concat(v || '=' || ids, ' ' ORDER BY CAST(substr(v, 8) AS INTEGER)) FROM
   (SELECT v, group_concat(id, ',' ORDER BY id) AS ids FROM t WHERE v LIKE '10.0.0.%' GROUP BY v)";

fn filled(kind: Kind) -> (tempfile::TempDir, Client) {
    let (folder, client) = fresh();
    fill(&client, kind);
    (folder, client)
}

fn fill(client: &Client, kind: Kind) {
    client.run("CREATE TABLE groups (g INTEGER PRIMARY KEY)");
    client.run("INSERT INTO groups VALUES (1), (2)");
    client.run(TABLE);
    client.run(
        "INSERT INTO t (id, v, u, g) VALUES (1, '10.0.0.1', 'a', 1), (2, '10.0.0.2', 'b', 2), (3, '10.0.0.1', 'c', 2)",
    );
    client.run(kind.index());
}

#[track_caller]
fn agrees(client: &Client, kind: Kind) -> String {
    let held = client.text(&kind.held());
    assert_eq!(held, client.text(PLAIN), "{kind:?}");
    held
}

#[track_caller]
fn agrees_within(transaction: &Transaction<'_>, kind: Kind) -> String {
    let held = transaction.text(&kind.held());
    assert_eq!(held, transaction.text(PLAIN), "{kind:?}");
    held
}

#[test]
fn every_way_to_change_a_row_is_followed() {
    for kind in KINDS {
        let (_folder, client) = filled(kind);
        assert_eq!(agrees(&client, kind), "10.0.0.1=1,3 10.0.0.2=2");
        for (sql, expected) in [
            ("INSERT INTO t (id, v) VALUES (4, '10.0.0.4')", "10.0.0.1=1,3 10.0.0.2=2 10.0.0.4=4"),
            ("UPDATE t SET v = '10.0.0.5' WHERE id = 3", "10.0.0.1=1 10.0.0.2=2 10.0.0.4=4 10.0.0.5=3"),
            ("INSERT OR REPLACE INTO t (id, v) VALUES (4, '10.0.0.6')", "10.0.0.1=1 10.0.0.2=2 10.0.0.5=3 10.0.0.6=4"),
            // Replaced by another column than the id.
            (
                "INSERT OR REPLACE INTO t (id, v, u) VALUES (7, '10.0.0.7', 'b')",
                "10.0.0.1=1 10.0.0.5=3 10.0.0.6=4 10.0.0.7=7",
            ),
            ("UPDATE OR REPLACE t SET u = 'a' WHERE id = 7", "10.0.0.5=3 10.0.0.6=4 10.0.0.7=7"),
            ("UPDATE OR REPLACE t SET id = 4 WHERE id = 3", "10.0.0.5=4 10.0.0.7=7"),
            (
                "INSERT INTO t (id, v) VALUES (7, 'x') ON CONFLICT (id) DO UPDATE SET v = '10.0.0.8'",
                "10.0.0.5=4 10.0.0.8=7",
            ),
            ("UPDATE t SET id = id + 10", "10.0.0.5=14 10.0.0.8=17"),
            ("DELETE FROM t WHERE id = 14", "10.0.0.8=17"),
            ("DELETE FROM t", ""),
        ] {
            client.run(sql);
            assert_eq!(agrees(&client, kind), expected, "{kind:?}: {sql}");
        }
    }
}

#[test]
fn triggers_and_cascades_are_followed() {
    for kind in KINDS {
        let (_folder, client) = filled(kind);
        client.run("CREATE TABLE sites (id INTEGER PRIMARY KEY, v TEXT)");
        client.run(
            "CREATE TRIGGER add_one AFTER INSERT ON sites BEGIN INSERT INTO t (id, v) VALUES (new.id, new.v); END",
        );
        client.run(
            "CREATE TRIGGER move_one BEFORE DELETE ON sites BEGIN UPDATE t SET v = '10.0.0.9' WHERE id = old.id; END",
        );
        client.run("INSERT INTO sites VALUES (20, '10.0.0.20'), (21, '10.0.0.21')");
        client.run("DELETE FROM sites WHERE id = 20");
        assert_eq!(agrees(&client, kind), "10.0.0.1=1,3 10.0.0.2=2 10.0.0.9=20 10.0.0.21=21");
        client.run("DELETE FROM groups WHERE g = 2");
        assert_eq!(agrees(&client, kind), "10.0.0.1=1 10.0.0.9=20 10.0.0.21=21");
    }
}

#[test]
fn what_is_rolled_back_leaves_no_trace() {
    for kind in KINDS {
        let (_folder, client) = filled(kind);
        let before = agrees(&client, kind);
        let transaction = client.transaction();
        transaction.run("DELETE FROM t");
        transaction.run("INSERT INTO t (id, v) VALUES (7, '10.0.0.7')");
        assert_eq!(agrees_within(&transaction, kind), "10.0.0.7=7");
        assert_eq!(agrees(&client, kind), before, "others see what is committed");
        transaction.rollback();
        assert_eq!(agrees(&client, kind), before);
        for or in ["", "OR FAIL", "OR ROLLBACK"] {
            let sql = format!("INSERT {or} INTO t (id, v) VALUES (70, '10.0.0.30'), (1, '10.0.0.31')");
            let answers = client.all(vec![client.batch(&["UPDATE t SET p = 6 WHERE id = 1"]), client.member(&sql)]);
            assert_eq!(code(answers.into_iter().next_back().unwrap()), ErrorCode::Constraint, "{kind:?} {sql}");
            let held = client.text(&kind.held());
            assert_eq!(held, client.text(PLAIN), "{kind:?} {sql}");
            assert_eq!(held, before, "{kind:?} {sql}");
        }
    }
}

#[test]
fn savepoints_are_followed() {
    for kind in KINDS {
        let (_folder, client) = filled(kind);
        let transaction = client.transaction();
        transaction.run("UPDATE t SET v = '10.0.0.11' WHERE id = 1");
        agrees_within(&transaction, kind);
        transaction.nest(Nest::Begin);
        transaction.run("UPDATE t SET v = '10.0.0.12' WHERE id = 1");
        transaction.run("DELETE FROM t WHERE id = 2");
        agrees_within(&transaction, kind);
        transaction.nest(Nest::Begin);
        transaction.run("DELETE FROM t");
        assert_eq!(agrees_within(&transaction, kind), "");
        transaction.nest(Nest::Undo);
        assert_eq!(agrees_within(&transaction, kind), "10.0.0.1=3 10.0.0.12=1");
        transaction.nest(Nest::Undo);
        assert_eq!(agrees_within(&transaction, kind), "10.0.0.1=3 10.0.0.2=2 10.0.0.11=1");
        transaction.nest(Nest::Begin);
        transaction.run("UPDATE t SET v = '10.0.0.13' WHERE id = 1");
        transaction.nest(Nest::Release);
        transaction.commit().unwrap();
        assert_eq!(agrees(&client, kind), "10.0.0.1=3 10.0.0.2=2 10.0.0.13=1");
    }
}

#[test]
fn a_row_that_does_not_parse_fails_its_transaction_alone() {
    for kind in KINDS {
        let (_folder, client) = filled(kind);
        let members = vec![
            client.member("INSERT INTO t (id, v) VALUES (5, '10.0.0.5')"),
            client.batch(&["DELETE FROM t WHERE id = 1", "INSERT INTO t (id, v) VALUES (6, 'bad')"]),
            client.member("INSERT INTO t (id, v) VALUES (7, '10.0.0.7')"),
        ];
        let mut answers = client.all(members);
        assert!(answers.remove(0).is_ok() && answers.pop().unwrap().is_ok());
        let held = agrees(&client, kind);
        if kind.takes_bad_rows() {
            assert!(answers.remove(0).is_ok());
            assert_eq!(client.text(&format!("SELECT {}", kind.lookup("'bad'"))), "6");
        } else {
            let error = answers.remove(0).unwrap_err();
            assert_eq!(error.code, ErrorCode::IndexRow);
            for part in ["table t", "row 6", "column v", "bad"] {
                assert!(error.message.contains(part), "{error}");
            }
            assert_eq!(held, "10.0.0.1=1,3 10.0.0.2=2 10.0.0.5=5 10.0.0.7=7");
        }
    }
}

#[test]
fn vacuum_changes_nothing() {
    for kind in KINDS {
        let (_folder, client) = filled(kind);
        client.run("DELETE FROM t WHERE id = 1");
        client.one(Work::Maintain(Maintenance::Vacuum)).unwrap();
        assert_eq!(agrees(&client, kind), "10.0.0.1=3 10.0.0.2=2");
        client.run("INSERT INTO t (id, v) VALUES (1, '10.0.0.3')");
        assert_eq!(agrees(&client, kind), "10.0.0.1=3 10.0.0.2=2 10.0.0.3=1");
    }
}

#[test]
fn alter_and_drop_are_followed() {
    for kind in KINDS {
        let (folder, client) = filled(kind);
        let path = folder.path().join("test.db");
        client.run("ALTER TABLE t RENAME TO s");
        client.run("INSERT INTO s (id, v) VALUES (4, '10.0.0.4')");
        client.run("ALTER TABLE s RENAME TO t");
        assert!(agrees(&client, kind).ends_with("10.0.0.4=4"));
        client.run("ALTER TABLE t ADD COLUMN more TEXT DEFAULT 'x'");
        client.run("UPDATE t SET v = '10.0.0.5', more = 'y' WHERE id = 4");
        assert!(agrees(&client, kind).ends_with("10.0.0.5=4"));
        // A column goes whose place was before those of the index.
        client.run("ALTER TABLE t DROP COLUMN x");
        client.run("UPDATE t SET v = '10.0.0.6' WHERE id = 4");
        assert!(agrees(&client, kind).ends_with("10.0.0.6=4"));
        // A bitmap's filters name columns as they are called now.
        client.run("ALTER TABLE t RENAME COLUMN v TO w");
        client.run("UPDATE t SET w = '10.0.0.7' WHERE id = 4");
        let renamed = client.text(&format!("SELECT {}", kind.lookup("'10.0.0.7'").replace("'v = ", "'w = ")));
        assert_eq!(renamed, "4", "{kind:?}");
        // A definition that no longer fits its table never answers, and does again when it does.
        client.run("ALTER TABLE t DROP COLUMN w");
        assert_eq!(client.fails(&kind.held()).code, ErrorCode::IndexUnusable, "{kind:?}");
        client.run("DELETE FROM t");
        client.run("ALTER TABLE t ADD COLUMN w TEXT");
        client.run("ALTER TABLE t RENAME COLUMN w TO v");
        client.run("INSERT INTO t (id, v) VALUES (8, '10.0.0.8')");
        assert_eq!(agrees(&client, kind), "10.0.0.8=8");
        drop(client);
        let client = Client::open(&path);
        assert_eq!(agrees(&client, kind), "10.0.0.8=8", "{kind:?}: after opening again");
        client.run("DROP TABLE t");
        assert_eq!(client.fails(&kind.held()).code, ErrorCode::IndexUnknown);
        client.run(TABLE);
        client.run("INSERT INTO t (id, v) VALUES (1, 'bad')");
        assert_eq!(client.fails(&kind.held()).code, ErrorCode::IndexUnknown);
        client.run("DELETE FROM t");
        client.run(kind.index());
        assert_eq!(agrees(&client, kind), "");
        client.run(&format!("DROP INDEX {}", kind.name()));
        assert_eq!(client.fails(&kind.held()).code, ErrorCode::IndexUnknown);
    }
}

#[test]
fn tables_of_attached_files_are_others_and_have_none() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let attach = vec![Attached { name: "aux".into(), path: folder.path().join("aux.db"), readonly: false }];
        let path = Some(folder.path().join("test.db"));
        let options = Options { path, setup: Setup { attach, ..Setup::default() }, ..Options::default() };
        let client = Client::of(Store::open(options).unwrap());
        fill(&client, kind);
        let before = agrees(&client, kind);
        client.run(&TABLE.replace("TABLE t", "TABLE aux.t").replace(" REFERENCES groups ON DELETE CASCADE", ""));
        client.run("INSERT INTO aux.t (id, v) VALUES (1, 'bad'), (9, '10.0.0.9')");
        client.run("UPDATE aux.t SET v = '10.0.0.8'");
        client.run("DELETE FROM aux.t WHERE id = 1");
        assert_eq!(client.text(&kind.held()), before, "{kind:?}");
        client.run("ALTER TABLE aux.t RENAME TO only");
        for sql in [
            kind.index().replace("INDEX i", "INDEX aux.j").replace("ON t", "ON only"),
            kind.index().replace("INDEX i", "INDEX j").replace("ON t", "ON only"),
        ] {
            let error = client.fails(&sql);
            assert_eq!(error.code, ErrorCode::IndexDefinition, "{sql}");
            assert!(error.message.contains("main file"), "{error}");
        }
        client.run("DROP TABLE aux.only");
        assert_eq!(agrees(&client, kind), before);
    }
}

#[test]
fn only_a_table_with_an_integer_primary_key_can_have_one() {
    for kind in KINDS {
        let (_folder, client) = fresh();
        let columns = "v TEXT, d TEXT, p, o, r INTEGER, a TEXT, e INTEGER";
        for (make, expected) in [
            (format!("CREATE TABLE t ({columns})"), "INTEGER PRIMARY KEY"),
            (format!("CREATE TABLE t (id TEXT PRIMARY KEY, {columns})"), "INTEGER PRIMARY KEY"),
            (format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {columns}) WITHOUT ROWID"), "WITHOUT ROWID"),
            (format!("CREATE TABLE t (id INTEGER PRIMARY KEY DESC, {columns})"), "INTEGER PRIMARY KEY"),
            ("CREATE VIRTUAL TABLE t USING fts5(v, d, p, o, r, a, e)".to_owned(), "virtual table"),
            (
                "CREATE TABLE t (id INTEGER PRIMARY KEY, w TEXT, v TEXT AS (w), d TEXT, p, o, r, a, e)".to_owned(),
                "generated",
            ),
        ] {
            client.run(&make);
            let error = client.fails(kind.index());
            assert_eq!(error.code, ErrorCode::IndexDefinition, "{kind:?}: {make}");
            assert!(error.message.contains(expected), "{make}: {error}");
            client.run("DROP TABLE t");
        }
        client.run("CREATE VIEW t AS SELECT 1 AS id, '10.0.0.1' AS v");
        assert_eq!(client.fails(kind.index()).code, ErrorCode::IndexDefinition);
    }
}

#[test]
fn another_process_that_writes_meanwhile_is_noticed() {
    for kind in KINDS {
        let (folder, client) = filled(kind);
        let path = folder.path().join("test.db");
        let stock = Connection::open(&path).unwrap();
        stock.execute_batch("UPDATE t SET v = '10.0.0.9' WHERE id = 1; DELETE FROM t WHERE id = 2").unwrap();
        let transaction = client.transaction();
        assert_eq!(agrees_within(&transaction, kind), "10.0.0.1=3 10.0.0.9=1");
        transaction.rollback();
        client.run("INSERT INTO t (id, v) VALUES (7, '10.0.0.7')");
        assert_eq!(agrees(&client, kind), "10.0.0.1=3 10.0.0.7=7 10.0.0.9=1");
        // And what it wrote while this one was closed.
        drop(client);
        stock.execute_batch("UPDATE t SET v = '10.0.0.8' WHERE id = 7; VACUUM").unwrap();
        let client = Client::open(&path);
        assert_eq!(agrees(&client, kind), "10.0.0.1=3 10.0.0.8=7 10.0.0.9=1");
        drop(client);
        // A row that does not parse keeps the index from answering until it is made good.
        stock.execute_batch("INSERT INTO t (id, v) VALUES (9, 'bad')").unwrap();
        let client = Client::open(&path);
        if !kind.takes_bad_rows() {
            let error = client.fails(&kind.held());
            assert_eq!(error.code, ErrorCode::IndexUnusable);
            assert!(error.message.contains("row 9"), "{error}");
        }
        client.run("UPDATE t SET v = '10.0.0.3' WHERE id = 9");
        assert_eq!(agrees(&client, kind), "10.0.0.1=3 10.0.0.3=9 10.0.0.8=7 10.0.0.9=1");
    }
}

#[test]
fn a_backup_put_back_is_another_file() {
    for kind in KINDS {
        let (folder, client) = filled(kind);
        let (path, copy) = (folder.path().join("test.db"), folder.path().join("copy.db"));
        let options = BackupOptions {
            path: copy.clone(),
            overwrite: false,
            pages: 100,
            pause: Duration::ZERO,
            cancel: Cancel::default(),
            deadline: None,
        };
        client.store.backup(&options, &mut |_| {}).unwrap();
        let before = agrees(&client, kind);
        client.run("DELETE FROM t");
        client.run(&format!("DROP INDEX {}", kind.name()));
        drop(client);
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
        std::fs::rename(&copy, &path).unwrap();
        let client = Client::open(&path);
        assert_eq!(agrees(&client, kind), before);
        client.run("UPDATE t SET v = '10.0.0.7' WHERE id = 2");
        agrees(&client, kind);
    }
}

#[test]
fn readers_of_other_kinds_have_them_too() {
    for kind in KINDS {
        let memory = Client::memory();
        fill(&memory, kind);
        let before = agrees(&memory, kind);
        let (folder, writer) = filled(kind);
        let options = Options { path: Some(folder.path().join("test.db")), readonly: true, ..Options::default() };
        let reader = Client::of(Store::open(options).unwrap());
        assert_eq!(agrees(&reader, kind), before);
        let mut lane = writer.store.sync_lane().unwrap();
        writer.run("UPDATE t SET v = '10.0.0.7' WHERE id = 2");
        assert_eq!(agrees(&reader, kind), agrees(&writer, kind));
        let found = text(lane.run(writer.call(&kind.held(), &[]), std::time::Instant::now()));
        assert_eq!(found.unwrap(), agrees(&writer, kind));
    }
}

/// A stream that has begun reads on in its snapshot, and so does each of its questions to the index.
#[test]
fn old_rows_are_joined_to_the_old_index() {
    for kind in KINDS {
        let (_folder, client) = filled(kind);
        client.run("CREATE TABLE big (i INTEGER PRIMARY KEY, pad TEXT)");
        client.run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO big SELECT i, hex(zeroblob(40)) FROM n");
        let sql = format!(
            "SELECT (SELECT id || v || {} FROM t WHERE id < 100 AND i > 0 LIMIT 1) || ' ' || pad FROM big",
            kind.lookup("v")
        );
        let before = client.text(&format!("SELECT id || v || {} FROM t LIMIT 1", kind.lookup("v")));
        assert_eq!(before, "110.0.0.11,3");
        let flow = Arc::new(Flow::default());
        let token = client.start(vec![Work::Stream(client.call(&sql, &[]), flow.clone())]).remove(0);
        std::thread::sleep(Duration::from_millis(300));
        for i in 0..200 {
            client.run(&format!("UPDATE t SET v = '10.0.0.{}' WHERE id <> 2", i % 40));
        }
        agrees(&client, kind);
        let done = AtomicBool::new(false);
        let rows = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    flow.take();
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            let answer = client.wait(token);
            done.store(true, Ordering::Relaxed);
            text(answer).unwrap()
        });
        assert_eq!(rows.matches(&format!("{before} ")).count(), 20_000, "{kind:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Sql(String),
    Begin,
    Release,
    Undo,
}

fn step() -> impl Strategy<Value = Step> {
    let value = || {
        prop_oneof![
            12 => (0..12).prop_map(|octet| format!("'10.0.0.{octet}'")),
            1 => Just("'bad'".to_owned()),
        ]
    };
    let id = || 1..8;
    let sql = prop_oneof![
        3 => (id(), value()).prop_map(|(id, v)| format!("INSERT INTO t (id, v, u) VALUES ({id}, {v}, 'u{id}')")),
        3 => (id(), value(), id()).prop_map(|(id, v, u)| format!("INSERT OR REPLACE INTO t (id, v, u) VALUES ({id}, {v}, 'u{u}')")),
        2 => (id(), value()).prop_map(|(id, v)| format!("INSERT OR FAIL INTO t (id, v) VALUES (7, {v}), ({id}, {v})")),
        3 => (id(), value()).prop_map(|(id, v)| format!("UPDATE t SET v = {v} WHERE id = {id}")),
        1 => (id(), id()).prop_map(|(a, b)| format!("UPDATE OR REPLACE t SET id = {b} WHERE id = {a}")),
        1 => Just("UPDATE t SET e = 1 - e".to_owned()),
        1 => Just("UPDATE t SET e = 1".to_owned()),
        1 => id().prop_map(|id| format!("DELETE FROM t WHERE id = {id}")),
        1 => (1..3).prop_map(|g| format!("DELETE FROM groups WHERE g = {g}")),
        1 => Just("DELETE FROM t".to_owned()),
    ];
    prop_oneof![8 => sql.prop_map(Step::Sql), 2 => Just(Step::Begin), 1 => Just(Step::Release), 2 => Just(Step::Undo)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 1000, ..ProptestConfig::default() })]

    /// All kinds at once on one table, in transactions with savepoints that end in either way.
    #[test]
    fn indexes_hold_what_the_table_holds(transactions in prop::collection::vec((prop::collection::vec(step(), 1..10), any::<bool>()), 1..5)) {
        let client = Client::memory();
        fill(&client, Kind::Cidr);
        client.run(Kind::Bitmap.index());
        client.run(Kind::Acl.index());
        for (steps, commit) in transactions {
            let transaction = client.transaction();
            let mut depth = 0;
            for step in steps {
                match step {
                    Step::Sql(sql) => drop(transaction.try_run(&sql)),
                    Step::Begin => {
                        transaction.nest(Nest::Begin);
                        depth += 1;
                    }
                    Step::Release | Step::Undo if depth == 0 => {}
                    Step::Release => {
                        transaction.nest(Nest::Release);
                        depth -= 1;
                    }
                    Step::Undo => {
                        transaction.nest(Nest::Undo);
                        depth -= 1;
                    }
                }
            }
            (0..depth).for_each(|_| transaction.nest(Nest::Release));
            if commit {
                // Refused when a row does not parse.
                let _ = transaction.commit();
            } else {
                transaction.rollback();
            }
            // A rule that is disabled matches nothing.
            let enabled = PLAIN.replace("WHERE v", "WHERE e = 1 AND v");
            for (kind, plain) in [(Kind::Cidr, PLAIN), (Kind::Bitmap, PLAIN), (Kind::Acl, enabled.as_str())] {
                prop_assert_eq!(client.text(&kind.held()), client.text(plain), "{:?}", kind);
            }
        }
    }
}
