//! `CREATE INDEX … USING` and the filters of bitmap indexes, in a store: no text is more than an error, what is accepted
//! makes an index that is written down as a text which makes the same one, and a filter finds what WHERE finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rusqlite::types::Value;
use zqlite_store::ErrorCode;
use zqlite_torture::client::Client;

const ROWS: &str =
    "INSERT INTO mixed VALUES (1, 1, '10.0.0.0/8', 1.5), (2, 2, 'a', NULL), (3, NULL, 'B', x'01'), (4, -7, '', 'b '),
  (5, 9223372036854775807, 'a', 9e18), (6, 0, '10.1.0.0/16', '1')";

thread_local! {
    static DB: Client = {
        let db = Client::in_memory().expect("a database");
        for sql in [
            "CREATE TABLE mixed (id INTEGER PRIMARY KEY, number INTEGER, text TEXT COLLATE NOCASE, any)",
            ROWS,
            "CREATE TABLE routes (id INTEGER PRIMARY KEY, prefix TEXT)",
            "CREATE INDEX bits ON mixed USING bitmap(number, text, any)",
        ] {
            db.sql(sql, &[]).expect("tables");
        }
        db
    };
}

fn make(db: &Client, rest: &str) {
    let made = db.sql(&format!("CREATE INDEX fuzzed ON {rest}"), &[]);
    if let Err(error) = made {
        assert_ne!(error.code, ErrorCode::Internal, "{error}");
        return;
    }
    let definition =
        |db: &Client| db.sql("SELECT tbl_name, sql FROM zqlite_index WHERE name = 'fuzzed'", &[]).expect("its row");
    let before = definition(db);
    db.sql("DROP INDEX fuzzed", &[]).expect("what was made can be dropped");
    // One of SQLite's own has no row there.
    let [row] = before.as_slice() else { return };
    let Some(Value::Text(sql)) = row.get(1) else { panic!("no text: {row:?}") };
    db.sql(sql, &[]).expect("what is written down makes it again");
    assert_eq!(definition(db), before);
    db.sql("DROP INDEX fuzzed", &[]).expect("what was made can be dropped");
}

fn filter(db: &Client, filter: &str) {
    match db.sql("SELECT id FROM bitmap_rows('bits', ?) ORDER BY id", &[Value::Text(filter.to_owned())]) {
        Ok(found) => {
            let held = db.sql(&format!("SELECT id FROM mixed WHERE ({filter}\n) ORDER BY id"), &[]);
            assert_eq!(Ok(found), held.map_err(|e| e.to_string()), "{filter:?}");
        }
        Err(error) => assert_ne!(error.code, ErrorCode::Internal, "{error}"),
    }
}

fuzz_target!(|text: &str| {
    // A text that SQLite cannot take is no matter of ours.
    if text.contains('\0') {
        return;
    }
    DB.with(|db| match text.split_once('|') {
        Some((rest, condition)) => {
            make(db, rest);
            filter(db, condition);
        }
        None => make(db, text),
    });
});
