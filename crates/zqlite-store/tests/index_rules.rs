//! The rules for index kinds, each shown by the kind `cidr`: exact with every commit, whatever happens to rows and tables.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use support::routes::{HELD, INDEX, TABLE, agrees, agrees_within, routes};
use support::{Client, code, fresh, text};
use zqlite_store::{ErrorCode, Maintenance, Nest, Work};

#[test]
fn an_index_answers_from_sql_and_from_outside() {
    let (_folder, client) = routes();
    assert_eq!(agrees(&client), "1=10.0.0.0/8 2=10.1.0.0/16 3=2001:db8::/32");
    assert_eq!(
        client.text("SELECT r.via FROM cidr_lookup('by_prefix', '10.1.2.3') l JOIN routes r ON r.id = l.id"),
        "b"
    );
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_matches('BY_PREFIX', '10.1.2.3')"), "1,2");
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_lookup('by_prefix', '11.1.2.3')"), "");
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_lookup('by_prefix', NULL)"), "");
    let index = client.store.indexes().cidr("by_prefix");
    assert_eq!(index.lookup("10.200.0.1").unwrap(), Some(("10.0.0.0/8".into(), vec![1])));
    assert_eq!(index.matches("2001:db8::1").unwrap().len(), 1);
    client.run("INSERT INTO routes VALUES (9, '10.1.0.0/16', 'twin'), (10, '10.1.2.3', 'host')");
    assert_eq!(index.lookup("10.1.9.9").unwrap(), Some(("10.1.0.0/16".into(), vec![2, 9])));
    assert_eq!(index.lookup("10.1.2.3").unwrap(), Some(("10.1.2.3/32".into(), vec![10])));
    // Each row of a table asks.
    client.run("CREATE TABLE flows (address TEXT)");
    client.run("INSERT INTO flows VALUES ('10.1.2.3'), ('10.9.9.9'), (NULL), ('9.9.9.9')");
    let join = "SELECT group_concat(address || '>' || coalesce(l.id, '-')) FROM flows LEFT JOIN cidr_lookup('by_prefix', address) l";
    assert_eq!(client.text(join), "10.1.2.3>10,10.9.9.9>1,9.9.9.9>-");
}

#[test]
fn functions_of_prefixes() {
    let (_folder, client) = fresh();
    let ask = |sql: &str| client.text(&format!("SELECT CAST({sql} AS TEXT)"));
    assert_eq!(ask("cidr_contains('10.0.0.0/8', '10.1.0.0/16')"), "1");
    assert_eq!(ask("cidr_contains('10.1.0.0/16', '10.0.0.0/8')"), "0");
    assert_eq!(ask("cidr_contains('10.0.0.0/8', '::ffff:10.1.2.3')"), "1");
    assert_eq!(ask("cidr_overlaps('10.1.0.0/16', '10.0.0.0/8')"), "1");
    assert_eq!(ask("cidr_overlaps('10.1.0.0/16', '10.2.0.0/16')"), "0");
    assert_eq!(ask("cidr_normalize('2001:DB8:0::1')"), "2001:db8::1/128");
    assert_eq!(ask("coalesce(cidr_contains(NULL, '10.0.0.0/8'), 'null')"), "null");
    assert_eq!(client.fails("SELECT cidr_normalize('10.0.0.1/8')").code, ErrorCode::CidrSyntax);
    assert_eq!(client.fails("SELECT cidr_contains(1, '::')").code, ErrorCode::Type);
    // They may stand in the schema.
    client.run("CREATE TABLE n (a TEXT CHECK (cidr_contains('10.0.0.0/8', a)), b TEXT AS (cidr_normalize(a)) STORED)");
    client.run("INSERT INTO n (a) VALUES ('10.0.0.1')");
    assert_eq!(client.text("SELECT b FROM n"), "10.0.0.1/32");
    assert_eq!(client.fails("INSERT INTO n (a) VALUES ('11.0.0.1')").code, ErrorCode::Constraint);
    assert_eq!(client.fails("INSERT INTO n (a) VALUES ('x')").code, ErrorCode::CidrSyntax);
}

#[test]
fn every_way_to_change_a_row_is_followed() {
    let (_folder, client) = routes();
    for sql in [
        "INSERT INTO routes VALUES (5, '192.168.0.0/16', 'e')",
        "UPDATE routes SET prefix = '172.16.0.0/12' WHERE id = 1",
        "UPDATE routes SET prefix = NULL WHERE id = 2",
        "UPDATE routes SET prefix = '10.4.0.0/16' WHERE id = 4",
        "UPDATE routes SET id = 50 WHERE id = 5",
        "UPDATE routes SET id = id + 100",
        "UPDATE routes SET via = 'other'",
        "REPLACE INTO routes VALUES (101, '10.7.0.0/16', 'replaced')",
        "UPDATE OR REPLACE routes SET id = 102 WHERE id = 101",
        "INSERT INTO routes VALUES (102, '10.8.0.0/16', 'x') ON CONFLICT (id) DO UPDATE SET prefix = excluded.prefix",
        "INSERT INTO routes VALUES (102, '10.9.0.0/16', 'x') ON CONFLICT DO NOTHING",
        "INSERT INTO routes SELECT id + 1000, prefix, via FROM routes",
        "DELETE FROM routes WHERE id = 102",
        "WITH x AS (SELECT 103 AS id) DELETE FROM routes WHERE id IN (SELECT id FROM x)",
        "DELETE FROM routes",
    ] {
        client.run(sql);
        agrees(&client);
    }
    assert_eq!(agrees(&client), "");
    // Rows moved wholesale from a table of the same form.
    client.run("CREATE TABLE copy (id INTEGER PRIMARY KEY, prefix TEXT, via TEXT)");
    client.run("INSERT INTO copy VALUES (7, '10.7.0.0/16', 'x'), (8, '10.8.0.0/16', 'x')");
    client.run("INSERT INTO routes SELECT * FROM copy");
    assert_eq!(agrees(&client), "7=10.7.0.0/16 8=10.8.0.0/16");
}

#[test]
fn a_unique_constraint_that_replaces_other_rows_is_followed() {
    let (_folder, client) = fresh();
    client.run("CREATE TABLE routes (id INTEGER PRIMARY KEY, prefix TEXT, via TEXT UNIQUE)");
    client.run(INDEX);
    client.run("INSERT INTO routes VALUES (1, '10.0.0.0/8', 'a'), (2, '10.1.0.0/16', 'b')");
    client.run("INSERT OR REPLACE INTO routes VALUES (3, '10.2.0.0/16', 'a')");
    assert_eq!(agrees(&client), "2=10.1.0.0/16 3=10.2.0.0/16");
    client.run("UPDATE OR REPLACE routes SET via = 'b' WHERE id = 3");
    assert_eq!(agrees(&client), "3=10.2.0.0/16");
}

#[test]
fn triggers_and_cascades_are_followed() {
    let (_folder, client) = routes();
    client.run("CREATE TABLE sites (id INTEGER PRIMARY KEY, net TEXT)");
    client.run(
        "CREATE TRIGGER add_route AFTER INSERT ON sites BEGIN INSERT INTO routes VALUES (new.id, new.net, 't'); END",
    );
    client.run(
        "CREATE TRIGGER guard BEFORE DELETE ON sites BEGIN UPDATE routes SET prefix = NULL WHERE id = old.id; END",
    );
    client.run("INSERT INTO sites VALUES (20, '10.20.0.0/16'), (21, '10.21.0.0/16')");
    assert!(agrees(&client).contains("21=10.21.0.0/16"));
    client.run("DELETE FROM sites WHERE id = 20");
    assert!(!agrees(&client).contains("20="));
    client.run("CREATE TABLE owners (name TEXT PRIMARY KEY)");
    client.run("CREATE TABLE nets (id INTEGER PRIMARY KEY, net TEXT, owner TEXT REFERENCES owners ON DELETE CASCADE ON UPDATE SET NULL)");
    client.run("CREATE INDEX by_net ON nets USING cidr(net)");
    client.run("INSERT INTO owners VALUES ('ann'), ('bob')");
    client.run("INSERT INTO nets VALUES (1, '10.0.0.0/8', 'ann'), (2, '11.0.0.0/8', 'bob')");
    client.run("DELETE FROM owners WHERE name = 'ann'");
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_range('by_net', '0.0.0.0', '255.255.255.255')"), "2");
    // A lookup within a trigger sees what the statement has done so far.
    client.run("CREATE TABLE log (row INTEGER, hit TEXT)");
    client.run("CREATE TRIGGER look AFTER UPDATE ON routes BEGIN INSERT INTO log SELECT new.id, group_concat(id) FROM cidr_matches('by_prefix', '10.1.0.1'); END");
    client.run("UPDATE routes SET prefix = '10.0.0.0/9' WHERE id IN (1, 4)");
    assert_eq!(client.text("SELECT group_concat(row || ':' || hit, ' ') FROM log"), "1:1,2 4:1,4,2");
    agrees(&client);
}

#[test]
fn a_row_that_does_not_parse_fails_its_transaction_alone() {
    let (_folder, client) = routes();
    let error = client.fails("INSERT INTO routes VALUES (5, '10.0.0.0/33', 'bad')");
    assert_eq!(error.code, ErrorCode::IndexRow);
    for part in ["table routes", "row 5", "column prefix", "10.0.0.0/33", "by_prefix"] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    for bad in ["''", "'10.0.0.1/8'", "x'0a'", "'010.0.0.1'", "'10.1'", "'fe80::1%eth0'"] {
        assert_eq!(
            client.fails(&format!("INSERT INTO routes VALUES (6, {bad}, 'bad')")).code,
            ErrorCode::IndexRow,
            "{bad}"
        );
    }
    // The others of its group stand.
    let before = client.store.metrics().group_sizes.count();
    let answers = client.all(vec![
        client.batch(&["INSERT INTO routes VALUES (10, '10.10.0.0/16', 'x')"]),
        client.batch(&[
            "INSERT INTO routes VALUES (11, '10.11.0.0/16', 'x')",
            "INSERT INTO routes VALUES (12, 'bad', 'x')",
        ]),
        client.batch(&["UPDATE routes SET prefix = '10.13.0.0/16' WHERE id = 10"]),
        client.member("INSERT INTO routes VALUES (14, 'also bad', 'x')"),
        client.member("INSERT INTO routes VALUES (15, '10.15.0.0/16', 'x')"),
    ]);
    let codes: Vec<_> = answers.into_iter().map(|answer| answer.err().map(|error| error.code)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::IndexRow), None, Some(ErrorCode::IndexRow), None]);
    assert!(client.store.metrics().group_sizes.count() - before <= 3);
    assert_eq!(agrees(&client), "1=10.0.0.0/8 2=10.1.0.0/16 3=2001:db8::/32 10=10.13.0.0/16 15=10.15.0.0/16");
    // A callback transaction fails when it commits, and not when it has made good.
    let transaction = client.transaction();
    transaction.run("INSERT INTO routes VALUES (30, 'bad', 'x')");
    assert_eq!(code(transaction.try_run(HELD)), ErrorCode::IndexRow);
    transaction.run("UPDATE routes SET prefix = '10.30.0.0/16' WHERE id = 30");
    agrees_within(&transaction);
    transaction.commit().unwrap();
    let transaction = client.transaction();
    transaction.run("INSERT INTO routes VALUES (31, 'bad', 'x')");
    assert_eq!(code(transaction.commit()), ErrorCode::IndexRow);
    assert!(agrees(&client).ends_with("30=10.30.0.0/16"));
}

#[test]
fn what_is_rolled_back_leaves_no_trace() {
    let (_folder, client) = routes();
    let before = agrees(&client);
    let transaction = client.transaction();
    transaction.run("DELETE FROM routes");
    transaction.run("INSERT INTO routes VALUES (7, '10.7.0.0/16', 'x')");
    assert_eq!(agrees_within(&transaction), "7=10.7.0.0/16");
    assert_eq!(agrees(&client), before, "others see what is committed");
    transaction.rollback();
    assert_eq!(agrees(&client), before);
    // Statements that undo themselves, in part or whole.
    for (sql, expected) in [
        ("INSERT INTO routes VALUES (70, '10.70.0.0/16', 'x'), (1, '10.0.0.0/8', 'taken')", ErrorCode::Constraint),
        (
            "INSERT OR FAIL INTO routes VALUES (71, '10.71.0.0/16', 'x'), (1, '10.0.0.0/8', 'taken')",
            ErrorCode::Constraint,
        ),
        (
            "INSERT OR ROLLBACK INTO routes VALUES (72, '10.72.0.0/16', 'x'), (1, '10.0.0.0/8', 'taken')",
            ErrorCode::Constraint,
        ),
    ] {
        let answers = client.all(vec![client.batch(&["UPDATE routes SET via = 'z' WHERE id = 1"]), client.member(sql)]);
        assert_eq!(code(answers.into_iter().next_back().unwrap()), expected, "{sql}");
        assert_eq!(agrees(&client), before, "{sql}");
    }
    let transaction = client.transaction();
    transaction.run("INSERT INTO routes VALUES (80, '10.80.0.0/16', 'x')");
    assert!(agrees_within(&transaction).contains("80="));
    assert_eq!(code(transaction.try_run("INSERT INTO routes SELECT 81, '10.81.0.0/16', id FROM cidr_lookup('by_prefix', '10.80.0.1') UNION ALL SELECT 1, '10.82.0.0/16', ''")), ErrorCode::Constraint);
    assert!(!agrees_within(&transaction).contains("81="));
    // OR FAIL keeps what came before, also after somebody has looked.
    assert!(
        transaction.try_run("INSERT OR FAIL INTO routes VALUES (83, '10.83.0.0/16', 'x'), (1, '::', 'x')").is_err()
    );
    assert!(agrees_within(&transaction).contains("83="));
    transaction.commit().unwrap();
    assert!(agrees(&client).contains("83="));
}

#[test]
fn what_a_failing_statement_has_shown_is_undone_with_it() {
    let (_folder, client) = routes();
    client.run("CREATE TABLE seen (hits TEXT)");
    client.run("CREATE TRIGGER look AFTER INSERT ON routes BEGIN INSERT INTO seen SELECT group_concat(id) FROM cidr_matches('by_prefix', new.prefix); END");
    let transaction = client.transaction();
    let rows = "INSERT INTO routes VALUES (5, '10.5.0.0', 'x'), (6, '10.6.0.0', 'x'), (7, '10.7.0.0', 'x'), (1, '10.8.0.0', 'x')";
    assert_eq!(code(transaction.try_run(rows)), ErrorCode::Constraint);
    assert_eq!(agrees_within(&transaction), "1=10.0.0.0/8 2=10.1.0.0/16 3=2001:db8::/32");
    transaction.run(&rows.replace("(1, '10.8.0.0', 'x')", "(8, '10.8.0.0', 'x')"));
    assert_eq!(transaction.text("SELECT group_concat(hits, ' ') FROM seen"), "1,5 1,6 1,7 1,8");
    transaction.commit().unwrap();
    agrees(&client);
}

#[test]
fn statements_prepared_before_the_first_index_tell_of_their_rows_too() {
    let (folder, client) = routes();
    client.run("DROP INDEX by_prefix");
    drop(client);
    let client = Client::open(&folder.path().join("test.db"));
    // Prepared without an index, this empties the table page by page and tells nobody.
    let empty = client.store.statement("DELETE FROM routes");
    client.run(empty.sql());
    client.run("INSERT INTO routes VALUES (1, '10.0.0.0/8', 'a')");
    client.run(INDEX);
    agrees(&client);
    client.run(empty.sql());
    assert_eq!(agrees(&client), "");
}

#[test]
fn savepoints_need_no_replay() {
    let (_folder, client) = routes();
    let transaction = client.transaction();
    transaction.run("UPDATE routes SET prefix = '10.128.0.0/9' WHERE id = 1");
    agrees_within(&transaction);
    transaction.nest(Nest::Begin);
    transaction.run("UPDATE routes SET prefix = '10.192.0.0/10' WHERE id = 1");
    transaction.run("DELETE FROM routes WHERE id = 2");
    transaction.run("INSERT INTO routes VALUES (5, '10.5.0.0/16', 'x')");
    assert!(agrees_within(&transaction).contains("1=10.192.0.0/10"));
    transaction.nest(Nest::Begin);
    transaction.run("DELETE FROM routes");
    assert_eq!(agrees_within(&transaction), "");
    transaction.nest(Nest::Undo);
    assert!(agrees_within(&transaction).contains("5=10.5.0.0/16"));
    transaction.nest(Nest::Undo);
    assert_eq!(agrees_within(&transaction), "1=10.128.0.0/9 2=10.1.0.0/16 3=2001:db8::/32");
    transaction.nest(Nest::Begin);
    transaction.run("UPDATE routes SET prefix = '10.64.0.0/10' WHERE id = 1");
    transaction.nest(Nest::Release);
    transaction.commit().unwrap();
    assert_eq!(agrees(&client), "1=10.64.0.0/10 2=10.1.0.0/16 3=2001:db8::/32");
}

#[test]
fn definitions_obey_transactions_too() {
    let (_folder, client) = fresh();
    client.run(TABLE);
    client.run("INSERT INTO routes VALUES (1, '10.0.0.0/8', 'a')");
    let transaction = client.transaction();
    transaction.nest(Nest::Begin);
    transaction.run(INDEX);
    transaction.run("INSERT INTO routes VALUES (2, '10.2.0.0/16', 'b')");
    assert_eq!(agrees_within(&transaction), "1=10.0.0.0/8 2=10.2.0.0/16");
    assert_eq!(client.fails(HELD).code, ErrorCode::IndexUnknown, "others do not see it yet");
    transaction.nest(Nest::Undo);
    assert_eq!(code(transaction.try_run(HELD)), ErrorCode::IndexUnknown);
    transaction.run(INDEX);
    transaction.nest(Nest::Begin);
    transaction.run("INSERT INTO routes VALUES (3, '10.3.0.0/16', 'c')");
    transaction.run("DROP INDEX by_prefix");
    assert_eq!(code(transaction.try_run(HELD)), ErrorCode::IndexUnknown);
    transaction.nest(Nest::Undo);
    assert_eq!(agrees_within(&transaction), "1=10.0.0.0/8");
    transaction.commit().unwrap();
    assert_eq!(agrees(&client), "1=10.0.0.0/8");
    let transaction = client.transaction();
    transaction.run("DROP TABLE routes");
    transaction.run(TABLE);
    transaction.run("INSERT INTO routes VALUES (9, '10.9.0.0/16', 'x')");
    assert_eq!(code(transaction.try_run(HELD)), ErrorCode::IndexUnknown);
    transaction.rollback();
    assert_eq!(agrees(&client), "1=10.0.0.0/8");
    // A batch of a migration makes table, rows and index at once.
    let made = client.batch(&[
        "CREATE TABLE n (id INTEGER PRIMARY KEY, net TEXT)",
        "INSERT INTO n VALUES (1, '10.0.0.0/8')",
        "CREATE INDEX n_net ON n USING cidr(net)",
        "INSERT INTO n VALUES (2, '11.0.0.0/8')",
    ]);
    client.one(made).unwrap();
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_range('n_net', '0.0.0.0', '255.255.255.255')"), "1,2");
}

#[test]
fn names_are_shared_with_tables_and_indexes() {
    let (_folder, client) = routes();
    client.run("CREATE INDEX plain ON routes (via)");
    for sql in [
        INDEX,
        "CREATE INDEX BY_PREFIX ON routes (via)",
        "CREATE INDEX plain ON routes USING cidr(prefix)",
        "CREATE INDEX routes ON routes USING cidr(prefix)",
        "CREATE TABLE by_prefix (x)",
        "CREATE VIEW by_prefix AS SELECT 1",
        "ALTER TABLE routes RENAME TO by_prefix",
        "CREATE INDEX zqlite_x ON routes USING cidr(prefix)",
    ] {
        assert_eq!(client.fails(sql).code, ErrorCode::IndexDefinition, "{sql}");
        agrees(&client);
    }
    assert_eq!(client.text("SELECT group_concat(name) FROM sqlite_schema WHERE name LIKE 'by_prefix'"), "");
    client.run("CREATE INDEX IF NOT EXISTS by_prefix ON routes USING cidr(prefix)");
    client.run("CREATE INDEX IF NOT EXISTS plain ON routes USING cidr(prefix)");
    client.run("DROP INDEX plain");
    client.run("DROP INDEX IF EXISTS plain");
    client.run("DROP INDEX IF EXISTS main.by_prefix");
    assert_eq!(client.fails("DROP INDEX by_prefix").code, ErrorCode::Sql);
    assert_eq!(client.fails(HELD).code, ErrorCode::IndexUnknown);
    // A failing step of a callback transaction leaves nothing behind either.
    client.run(INDEX);
    let transaction = client.transaction();
    assert_eq!(code(transaction.try_run("CREATE TABLE by_prefix (x)")), ErrorCode::IndexDefinition);
    transaction.commit().unwrap();
    assert_eq!(client.text("SELECT group_concat(name) FROM sqlite_schema WHERE name = 'by_prefix'"), "");
}

#[test]
fn what_cannot_be_indexed_is_refused() {
    let (_folder, client) = fresh();
    for sql in [
        "CREATE TABLE no_key (a TEXT)",
        "CREATE TABLE text_key (a TEXT PRIMARY KEY)",
        "CREATE TABLE desc_key (id INTEGER PRIMARY KEY DESC, a TEXT)",
        "CREATE TABLE int_key (id INT PRIMARY KEY, a TEXT)",
        "CREATE TABLE two_keys (id INTEGER, b TEXT, a TEXT, PRIMARY KEY (id, b))",
        "CREATE TABLE without_rowid (id INTEGER PRIMARY KEY, a TEXT) WITHOUT ROWID",
        "CREATE VIRTUAL TABLE virtual USING fts5(a)",
        "CREATE VIEW view AS SELECT 1 AS id, '::' AS a",
        "CREATE TABLE generated (id INTEGER PRIMARY KEY, b TEXT, a TEXT AS (b))",
        "CREATE TABLE fine (id INTEGER PRIMARY KEY, b TEXT)",
    ] {
        client.run(sql);
    }
    for table in [
        "no_key",
        "text_key",
        "desc_key",
        "int_key",
        "two_keys",
        "without_rowid",
        "virtual",
        "view",
        "generated",
        "fine",
        "none",
        "sqlite_schema",
    ] {
        let error = client.fails(&format!("CREATE INDEX i ON {table} USING cidr(a)"));
        assert_eq!(error.code, ErrorCode::IndexDefinition, "{table}: {error}");
    }
    client.run("CREATE TABLE quoted (\"row id\" INTEGER, rowid TEXT, \"a\"\"b\" TEXT, c TEXT AS (rowid) STORED, PRIMARY KEY (\"row id\"))");
    client.run("CREATE INDEX \"i \"\"x\" ON quoted USING cidr(\"a\"\"b\")");
    client.run("CREATE INDEX i2 ON quoted USING cidr(c)");
    client.run("INSERT INTO quoted (rowid, \"a\"\"b\") VALUES ('10.0.0.0/8', '11.0.0.0/8')");
    client.run("UPDATE quoted SET rowid = '12.0.0.0/8'");
    assert_eq!(client.text("SELECT prefix FROM cidr_lookup('i \"x', '11.1.1.1')"), "11.0.0.0/8");
    assert_eq!(client.text("SELECT prefix FROM cidr_lookup('i2', '12.1.1.1')"), "12.0.0.0/8");
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_lookup('i2', '10.1.1.1')"), "");
}

#[test]
fn rows_that_change_under_a_name_that_does_not_last_are_noticed() {
    let (_folder, client) = routes();
    let transaction = client.transaction();
    transaction.run("ALTER TABLE routes RENAME TO roads");
    transaction.run("INSERT INTO roads VALUES (5, '10.5.0.0/16', 'e')");
    transaction.run("ALTER TABLE roads RENAME TO routes");
    transaction.commit().unwrap();
    assert!(client.text(HELD).contains("5=10.5.0.0/16"));
}

#[test]
fn alter_is_followed() {
    let (folder, client) = routes();
    client.run("ALTER TABLE routes RENAME COLUMN prefix TO net");
    client.run("INSERT INTO routes VALUES (5, '10.5.0.0/16', 'e')");
    assert!(client.text(HELD).contains("5=10.5.0.0/16"));
    client.run("ALTER TABLE routes RENAME TO roads");
    client.run("DELETE FROM roads WHERE id = 5");
    assert_eq!(client.text(HELD), "1=10.0.0.0/8 2=10.1.0.0/16 3=2001:db8::/32");
    assert_eq!(
        client.text("SELECT tbl_name || ' ' || sql FROM zqlite_index"),
        "roads CREATE INDEX \"by_prefix\" ON \"roads\" USING cidr(\"net\")"
    );
    client.run("ALTER TABLE roads ADD COLUMN extra TEXT DEFAULT '10.77.0.0/16'");
    client.run("CREATE INDEX by_extra ON roads USING cidr(extra)");
    client.run("UPDATE roads SET extra = '10.78.0.0/16' WHERE id = 2");
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_lookup('by_extra', '10.77.0.1')"), "1,3,4");
    client.run("ALTER TABLE roads DROP COLUMN via");
    client.run("UPDATE roads SET net = '10.2.0.0/16' WHERE id = 2");
    client.run("UPDATE roads SET extra = '10.79.0.0/16' WHERE id = 3");
    assert_eq!(client.text("SELECT group_concat(id) FROM cidr_lookup('by_extra', '10.77.0.1')"), "1,4");
    assert_eq!(client.text(HELD), "1=10.0.0.0/8 2=10.2.0.0/16 3=2001:db8::/32");
    // A definition that no longer fits its table never answers, and does again when it does.
    client.run("ALTER TABLE roads DROP COLUMN net");
    let error = client.fails(HELD);
    assert_eq!(error.code, ErrorCode::IndexUnusable);
    assert!(error.message.contains("net"), "{error}");
    assert_eq!(code(client.store.indexes().cidr("by_prefix").lookup("10.0.0.1")), ErrorCode::IndexUnusable);
    client.run("INSERT INTO roads VALUES (40, '10.40.0.0/16')");
    client.run("ALTER TABLE roads ADD COLUMN net TEXT");
    client.run("UPDATE roads SET net = '10.41.0.0/16' WHERE id = 40");
    assert_eq!(client.text(HELD), "40=10.41.0.0/16");
    // And so it is after opening again.
    let path = folder.path().join("test.db");
    drop(client);
    assert_eq!(Client::open(&path).text(HELD), "40=10.41.0.0/16");
}

#[test]
fn a_table_that_is_made_again_within_a_transaction_is_another() {
    let (_folder, client) = routes();
    let made = client.batch(&["DROP TABLE routes", TABLE, INDEX, "INSERT INTO routes VALUES (9, '10.9.0.0/16', 'x')"]);
    client.one(made).unwrap();
    assert_eq!(agrees(&client), "9=10.9.0.0/16");
    let altered = client.batch(&["ALTER TABLE routes DROP COLUMN prefix", "ALTER TABLE routes ADD COLUMN prefix TEXT"]);
    client.one(altered).unwrap();
    assert_eq!(agrees(&client), "");
}

#[test]
fn drop_table_takes_its_indexes_along() {
    let (_folder, client) = routes();
    client.run("DROP TABLE routes");
    assert_eq!(client.fails(HELD).code, ErrorCode::IndexUnknown);
    client.run(TABLE);
    client.run("INSERT INTO routes VALUES (1, 'anything', 'x')");
    assert_eq!(client.fails(HELD).code, ErrorCode::IndexUnknown);
    assert_eq!(client.fails(INDEX).code, ErrorCode::IndexRow);
    client.run("DELETE FROM routes");
    client.run(INDEX);
    agrees(&client);
}

#[test]
fn vacuum_changes_nothing() {
    let (_folder, client) = routes();
    client.run("DELETE FROM routes WHERE id = 1");
    client.one(Work::Maintain(Maintenance::Vacuum)).unwrap();
    agrees(&client);
    client.run("INSERT INTO routes VALUES (1, '10.99.0.0/16', 'x')");
    assert!(agrees(&client).contains("1=10.99.0.0/16"));
}

#[test]
fn the_tables_of_definitions_are_not_for_callers() {
    let (_folder, client) = routes();
    for sql in [
        "DELETE FROM zqlite_index",
        "UPDATE zqlite_index_commit SET number = 7",
        "INSERT INTO zqlite_index VALUES ('a', 'b', 'c')",
        "DROP TABLE zqlite_index",
        "ALTER TABLE zqlite_index RENAME TO x",
        "CREATE TRIGGER t AFTER INSERT ON zqlite_index BEGIN SELECT 1; END",
    ] {
        assert_eq!(client.fails(sql).code, ErrorCode::NotAllowed, "{sql}");
    }
    assert_eq!(client.text("SELECT name FROM zqlite_index"), "by_prefix");
}

#[test]
fn functions_tell_what_is_wrong() {
    let (_folder, client) = routes();
    for (sql, expected) in [
        ("SELECT * FROM cidr_lookup('none', '10.0.0.1')", ErrorCode::IndexUnknown),
        ("SELECT * FROM cidr_lookup('by_prefix', '10.0.0.256')", ErrorCode::CidrSyntax),
        ("SELECT * FROM cidr_lookup('by_prefix', 7)", ErrorCode::Type),
        ("SELECT * FROM cidr_lookup('by_prefix')", ErrorCode::Parameters),
        ("SELECT * FROM cidr_range('by_prefix', '10.0.0.9', '10.0.0.1')", ErrorCode::CidrSyntax),
        ("SELECT * FROM cidr_range('by_prefix', '10.0.0.9', '::1')", ErrorCode::CidrSyntax),
        ("SELECT * FROM bitmap_rows('by_prefix', 'id = 1')", ErrorCode::IndexUnknown),
        ("SELECT bitmap_count('by_prefix', 'id = 1')", ErrorCode::IndexUnknown),
        ("CREATE INDEX i ON routes USING cidr(nothing)", ErrorCode::IndexDefinition),
        ("CREATE INDEX i ON routes USING cidr(prefix) WITH (host_bits = 7)", ErrorCode::IndexDefinition),
        ("CREATE INDEX i ON routes USING btree(prefix)", ErrorCode::IndexDefinition),
    ] {
        let error = client.fails(sql);
        assert_eq!(error.code, expected, "{sql}: {error}");
    }
    let masked = client.batch(&[
        "INSERT INTO routes VALUES (60, '10.60.1.1', 'x')",
        "CREATE INDEX masked ON routes USING cidr(via) WITH (host_bits = mask)",
    ]);
    assert_eq!(code(client.one(masked)), ErrorCode::IndexRow);
    client.run("UPDATE routes SET via = '10.60.1.1/16'");
    client.run("CREATE INDEX masked ON routes USING cidr(via) WITH (host_bits = mask)");
    assert_eq!(client.text("SELECT DISTINCT prefix FROM cidr_lookup('masked', '10.60.0.0')"), "10.60.0.0/16");
}

#[test]
fn the_synchronous_connection_has_them_too() {
    let (_folder, client) = routes();
    let mut lane = client.store.sync_lane().unwrap();
    let mut ask = |sql: &str| text(lane.run(client.call(sql, &[]), std::time::Instant::now()));
    assert_eq!(ask(HELD).unwrap(), client.text(HELD));
    client.run("INSERT INTO routes VALUES (7, '10.7.0.0/16', 'x')");
    assert_eq!(ask(HELD).unwrap(), client.text(HELD));
    assert_eq!(code(ask(INDEX)), ErrorCode::NotAllowed);
}

#[test]
fn commits_with_many_rows_are_followed() {
    let (_folder, client) = routes();
    let rows = "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 300100)
       INSERT INTO routes SELECT i, format('%d.%d.%d.0/24', 20 + i / 65536, i / 256 % 256, i % 256), 'x' FROM n";
    client.run(rows);
    let count = |client: &Client| {
        client.text("SELECT CAST(count(*) AS TEXT) FROM cidr_range('by_prefix', '0.0.0.0', '255.255.255.255')")
    };
    assert_eq!(count(&client), "300003");
    client.run("DELETE FROM routes WHERE id >= 100");
    agrees(&client);
}
