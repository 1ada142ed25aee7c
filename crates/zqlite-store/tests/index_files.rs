//! The rules for index kinds where files come from elsewhere: attached, written by other programs, hostile, put back, read only.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use rusqlite::Connection;
use support::Client;
use support::routes::{HELD, INDEX, TABLE, agrees, agrees_within, routes};
use zqlite_store::{Attached, BackupOptions, Cancel, ErrorCode, Options, Setup, Store};

#[test]
fn attached_tables_are_others() {
    let folder = tempfile::tempdir().unwrap();
    let attach = vec![Attached { name: "aux".into(), path: folder.path().join("aux.db"), readonly: false }];
    let options = Options {
        path: Some(folder.path().join("test.db")),
        setup: Setup { attach, ..Setup::default() },
        ..Options::default()
    };
    let client = Client::of(Store::open(options).unwrap());
    client.run(TABLE);
    client.run("CREATE TABLE aux.routes (id INTEGER PRIMARY KEY, prefix TEXT, via TEXT)");
    client.run("CREATE TABLE aux.only (id INTEGER PRIMARY KEY, prefix TEXT)");
    client.run(INDEX);
    client.run("INSERT INTO main.routes VALUES (1, '10.0.0.0/8', 'a')");
    client.run("INSERT INTO aux.routes VALUES (1, 'no prefix', 'a'), (2, '10.2.0.0/16', 'b')");
    client.run("DELETE FROM aux.routes");
    client.run("ALTER TABLE aux.routes RENAME TO roads");
    client.run("DROP TABLE aux.roads");
    assert_eq!(agrees(&client), "1=10.0.0.0/8");
    assert_eq!(client.fails("CREATE INDEX aux.i ON only USING cidr(prefix)").code, ErrorCode::IndexDefinition);
    assert_eq!(client.fails("CREATE INDEX i ON only USING cidr(prefix)").code, ErrorCode::IndexDefinition);
}

#[test]
fn a_stock_sqlite_sees_plain_tables_and_its_changes_are_found() {
    let (folder, client) = routes();
    let path = folder.path().join("test.db");
    drop(client);
    let stock = Connection::open(&path).unwrap();
    let tables: String = stock
        .query_row(
            "SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name)",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(tables, "routes,zqlite_index,zqlite_index_commit");
    assert_eq!(stock.query_row("PRAGMA integrity_check", [], |r| r.get::<_, String>(0)).unwrap(), "ok");
    stock
        .execute_batch("INSERT INTO routes VALUES (8, '10.8.0.0/16', 'stock'); DELETE FROM routes WHERE id = 1; VACUUM")
        .unwrap();
    drop(stock);
    let client = Client::open(&path);
    assert_eq!(agrees(&client), "2=10.1.0.0/16 3=2001:db8::/32 8=10.8.0.0/16");
    drop(client);
    // A row that does not parse: the file opens, the index does not answer until the row is made good.
    let stock = Connection::open(&path).unwrap();
    stock.execute_batch("INSERT INTO routes VALUES (9, 'nonsense', 'stock')").unwrap();
    drop(stock);
    let client = Client::open(&path);
    let error = client.fails(HELD);
    assert_eq!(error.code, ErrorCode::IndexUnusable);
    assert!(error.message.contains("row 9") && error.message.contains("nonsense"), "{error}");
    client.run("INSERT INTO routes VALUES (10, '10.10.0.0/16', 'x')");
    assert_eq!(client.fails(HELD).code, ErrorCode::IndexUnusable);
    client.run("UPDATE routes SET prefix = '10.9.0.0/16' WHERE id = 9");
    assert!(agrees(&client).contains("9=10.9.0.0/16 10=10.10.0.0/16"));
    drop(client);
    // A table that was renamed or dropped.
    let stock = Connection::open(&path).unwrap();
    stock.execute_batch("ALTER TABLE routes RENAME TO gone").unwrap();
    drop(stock);
    let client = Client::open(&path);
    assert_eq!(client.fails(HELD).code, ErrorCode::IndexUnusable);
    client.run("ALTER TABLE gone RENAME TO routes");
    agrees(&client);
}

#[test]
fn a_hostile_file_opens_and_its_indexes_do_not_answer() {
    for (made, expected) in [
        ("CREATE TABLE zqlite_index (x)", ErrorCode::IndexUnknown),
        (
            "CREATE TABLE zqlite_index (name, tbl_name, sql); INSERT INTO zqlite_index VALUES ('i', x'00ff', x'00ff')",
            ErrorCode::IndexUnusable,
        ),
        (
            "CREATE TABLE zqlite_index (name, tbl_name, sql); INSERT INTO zqlite_index VALUES ('i', NULL, NULL), (NULL, 1, 2), (7, 7, 7)",
            ErrorCode::IndexUnusable,
        ),
        (
            "CREATE TABLE zqlite_index (name, tbl_name, sql); INSERT INTO zqlite_index VALUES ('i', 't', 'DROP TABLE t')",
            ErrorCode::IndexUnusable,
        ),
        (
            "CREATE TABLE zqlite_index (name, tbl_name, sql); INSERT INTO zqlite_index VALUES ('i', 't', 'CREATE INDEX other ON t USING cidr(p)')",
            ErrorCode::IndexUnusable,
        ),
        (
            "CREATE TABLE zqlite_index_commit (one, number); INSERT INTO zqlite_index_commit VALUES (1, 'many')",
            ErrorCode::IndexUnknown,
        ),
        ("CREATE TABLE zqlite_index_commit (x); CREATE VIEW zqlite_index AS SELECT 1 AS name", ErrorCode::IndexUnknown),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, p TEXT); {made}"))
            .unwrap();
        let client = Client::open(&path);
        assert_eq!(client.fails("SELECT * FROM cidr_lookup('i', '::')").code, expected, "{made}");
        client.run("INSERT INTO t VALUES (1, 'anything')");
        assert_eq!(client.text("SELECT p FROM t"), "anything");
    }
}

#[test]
fn another_process_that_writes_meanwhile_is_noticed() {
    let (folder, client) = routes();
    let stock = Connection::open(folder.path().join("test.db")).unwrap();
    stock
        .execute_batch("UPDATE routes SET prefix = '10.3.0.0/16' WHERE id = 1; DELETE FROM routes WHERE id = 2")
        .unwrap();
    // Before anything else is published, also when the transaction that found it came to nothing.
    let transaction = client.transaction();
    assert_eq!(agrees_within(&transaction), "1=10.3.0.0/16 3=2001:db8::/32");
    transaction.rollback();
    assert_eq!(client.fails("INSERT INTO routes VALUES (1, '10.7.0.0/16', 'x')").code, ErrorCode::Constraint);
    client.run("INSERT INTO routes VALUES (7, '10.7.0.0/16', 'x')");
    assert_eq!(agrees(&client), "1=10.3.0.0/16 3=2001:db8::/32 7=10.7.0.0/16");
    // An index that another process declared.
    let sql = "INSERT INTO zqlite_index VALUES ('by_via', 'routes', 'CREATE INDEX by_via ON routes USING bitmap(via)')";
    stock.execute_batch(sql).unwrap();
    client.run("UPDATE routes SET via = 'y' WHERE id = 1");
    assert_eq!(client.text("SELECT group_concat(id) FROM bitmap_rows('by_via', 'via = ''y''')"), "1");
    stock.execute_batch("DROP TABLE zqlite_index").unwrap();
    client.run("UPDATE routes SET via = 'z' WHERE id = 1");
    assert_eq!(client.fails(HELD).code, ErrorCode::IndexUnknown);
}

#[test]
fn a_backup_put_back_is_another_file() {
    let (folder, client) = routes();
    let (path, copy) = (folder.path().join("test.db"), folder.path().join("copy.db"));
    let options = BackupOptions {
        path: copy.clone(),
        overwrite: false,
        pages: 100,
        pause: std::time::Duration::ZERO,
        cancel: Cancel::default(),
        deadline: None,
    };
    client.store.backup(&options, &mut |_| {}).unwrap();
    let before = agrees(&client);
    client.run("DELETE FROM routes");
    client.run("DROP INDEX by_prefix");
    drop(client);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    std::fs::rename(&copy, &path).unwrap();
    let client = Client::open(&path);
    assert_eq!(agrees(&client), before);
    client.run("INSERT INTO routes VALUES (7, '10.7.0.0/16', 'x')");
    agrees(&client);
}

#[test]
fn a_database_in_memory_has_indexes_too() {
    let client = Client::memory();
    client.run(TABLE);
    client.run(INDEX);
    client.run("INSERT INTO routes VALUES (1, '10.0.0.0/8', 'a')");
    assert_eq!(agrees(&client), "1=10.0.0.0/8");
    assert_eq!(client.store.indexes().cidr("by_prefix").lookup("10.0.0.1").unwrap().unwrap().1, [1]);
}

#[test]
fn a_read_only_database_follows_who_writes_it() {
    let (folder, writer) = routes();
    let path = folder.path().join("test.db");
    let reader = Client::of(Store::open(Options { path: Some(path), readonly: true, ..Options::default() }).unwrap());
    assert_eq!(agrees(&reader), agrees(&writer));
    writer.run("INSERT INTO routes VALUES (7, '10.7.0.0/16', 'x')");
    assert_eq!(agrees(&reader), agrees(&writer));
    assert_eq!(reader.fails("DROP INDEX by_prefix").code, ErrorCode::Readonly);
}
