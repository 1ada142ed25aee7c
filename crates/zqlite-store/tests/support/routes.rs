//! A table of prefixes with its index, and the two held against each other.

#![allow(dead_code, unreachable_pub, reason = "not every test uses all of it")]

use super::{Client, Transaction, fresh};

pub const TABLE: &str = "CREATE TABLE routes (id INTEGER PRIMARY KEY, prefix TEXT, via TEXT)";
pub const INDEX: &str = "CREATE INDEX by_prefix ON routes USING cidr(prefix)";

/// All rows of the index, by way of its functions.
pub const HELD: &str = "SELECT group_concat(id || '=' || prefix, ' ') FROM (
   SELECT * FROM cidr_range('by_prefix', '0.0.0.0', '255.255.255.255') UNION ALL SELECT * FROM cidr_range('by_prefix', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff') ORDER BY id)";

pub fn routes() -> (tempfile::TempDir, Client) {
    let (folder, client) = fresh();
    client.run(TABLE);
    client.run("INSERT INTO routes VALUES (1, '10.0.0.0/8', 'a'), (2, '10.1.0.0/16', 'b'), (3, '2001:db8::/32', 'c'), (4, NULL, 'd')");
    client.run(INDEX);
    (folder, client)
}

/// What the index must hold: the table itself, in canonical texts.
fn table(of: impl Fn(&str) -> String, name: &str) -> String {
    of(&format!(
        "SELECT group_concat(id || '=' || cidr_normalize(prefix), ' ') FROM (SELECT * FROM {name} WHERE prefix IS NOT NULL ORDER BY id)"
    ))
}

#[track_caller]
pub fn agrees(client: &Client) -> String {
    let held = client.text(HELD);
    assert_eq!(held, table(|sql| client.text(sql), "routes"));
    held
}

#[track_caller]
pub fn agrees_within(transaction: &Transaction<'_>) -> String {
    let held = transaction.text(HELD);
    assert_eq!(held, table(|sql| transaction.text(sql), "routes"));
    held
}
