//! The kind `acl`: rows of rules, addresses and labels decide as the engine does that they are handed to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use proptest::prelude::*;
use rusqlite::types::Value;
use support::{Client, code, fresh};
use zqlite_store::{AclQuestion, ErrorCode};

const TABLES: [&str; 6] = [
    "CREATE TABLE acl_rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol, ports, priority INTEGER, action TEXT, enabled INTEGER, expires_at INTEGER, same_owner INTEGER, through TEXT, family INTEGER)",
    "CREATE TABLE peer_addresses (id INTEGER PRIMARY KEY, peer INTEGER, address TEXT)",
    "CREATE TABLE peer_labels (id INTEGER PRIMARY KEY, peer INTEGER, label TEXT)",
    "CREATE TABLE peer_owners (id INTEGER PRIMARY KEY, peer INTEGER, owner TEXT)",
    "CREATE TABLE peer_routes (id INTEGER PRIMARY KEY, peer INTEGER, prefix TEXT)",
    "CREATE INDEX access ON acl_rules USING acl(source, destination, protocol, ports, priority, action, enabled, expires_at, same_owner, through, family)
       WITH (labels = peer_labels, peers = peer_addresses, owners = peer_owners, routes = peer_routes)",
];

fn network(client: &Client) {
    TABLES.iter().for_each(|sql| client.run(sql));
    client.run("INSERT INTO peer_addresses VALUES (1, 1, '100.64.0.1'), (2, 2, '100.64.0.2'), (3, 2, 'fd00::2'), (4, 3, '100.64.0.3')");
    client.run("INSERT INTO peer_labels VALUES (1, 1, 'tag:web'), (2, 2, 'tag:db'), (3, 3, 'tag:web')");
    client.run("INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (7, 'tag:web', 'tag:db', 'tcp', '5432, 6000-6010', 1, 'allow', 1, NULL), (8, '100.64.0.3', '*', NULL, NULL, 1, 'deny', 1, 5000)");
}

fn ask(client: &Client, arguments: &str) -> String {
    client.text(&format!("SELECT CAST(acl_decide('access', {arguments}) AS TEXT)"))
}

#[test]
fn rules_decide_from_sql_and_from_outside() {
    let (_folder, client) = fresh();
    network(&client);
    for (arguments, expected) in [
        ("1, 2, 6, 5432", "1"),
        ("1, 2, 'TCP', 6005", "1"),
        ("1, 2, 'udp', 5432", "0"),
        ("2, 1, 6, 5432", "0"),
        ("3, 2, 6, 5432, 4999", "0"),
        ("3, 2, 6, 5432, 5000", "1"),
        ("'100.64.0.1', 'fd00::2', 6, 5432", "1"),
        ("'9.9.9.9', '100.64.0.2', 6, 5432", "0"),
    ] {
        assert_eq!(ask(&client, arguments), expected, "{arguments}");
    }
    assert_eq!(client.text("SELECT coalesce(acl_decide('access', NULL, 2, 6, 5432), 'null')"), "null");
    let explain = "SELECT group_concat(rule || action || shadowed, ' ') FROM acl_explain('access', 3, 2, 6, 5432, 0)";
    assert_eq!(client.text(explain), "8deny0 7allow1");
    let index = client.store.indexes().acl("access");
    let question = AclQuestion::of(&[1, 2, 6, 5432].map(Value::Integer)).unwrap();
    assert_eq!(index.decide(&question).unwrap().rule, Some(7));
    client.run("UPDATE acl_rules SET enabled = 0 WHERE id = 7");
    assert!(!index.decide(&question).unwrap().allowed);
    client.run("UPDATE acl_rules SET enabled = 1, ports = '80' WHERE id = 7");
    assert!(!index.decide(&question).unwrap().allowed);
    client.run("UPDATE acl_rules SET ports = NULL WHERE id = 7");
    assert!(index.decide(&question).unwrap().allowed);
    client.run("DELETE FROM peer_labels WHERE id = 1");
    assert!(!index.decide(&question).unwrap().allowed);
    // Addresses change hands within a transaction.
    client
        .one(client.batch(&[
            "UPDATE peer_addresses SET peer = 3 WHERE id = 1",
            "UPDATE peer_addresses SET peer = 1 WHERE id = 4",
            "INSERT INTO peer_labels VALUES (9, 1, 'tag:web')",
        ]))
        .unwrap();
    assert_eq!(ask(&client, "'100.64.0.3', '100.64.0.2', 6, 5432, 9999"), "1");
    client.run("DELETE FROM peer_addresses WHERE peer = 1");
    client.run("DELETE FROM peer_labels WHERE peer = 1");
    assert_eq!(code(index.decide(&question)), ErrorCode::AclUnknown);
    client.run("DELETE FROM acl_rules");
    assert_eq!(ask(&client, "3, 2, 6, 5432"), "0");
}

#[test]
fn a_row_that_does_not_parse_fails_its_transaction() {
    let (_folder, client) = fresh();
    network(&client);
    for (sql, column) in [
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, 'tag:', '*', 6, 1, 1, 'allow', 1, NULL)",
            "column source",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '', 6, 1, 1, 'allow', 1, NULL)",
            "column destination",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '10.0.0.1/8', 6, 1, 1, 'allow', 1, NULL)",
            "column destination",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 'tpc', 1, 1, 'allow', 1, NULL)",
            "column protocol",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 256, 1, 1, 'allow', 1, NULL)",
            "column protocol",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 6, '9-1', 1, 'allow', 1, NULL)",
            "column ports",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 6, '080', 1, 'allow', 1, NULL)",
            "column ports",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 6, '', 1, 'allow', 1, NULL)",
            "column ports",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 6, 1, 'high', 'allow', 1, NULL)",
            "column priority",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 6, 1, 1, 'Allow', 1, NULL)",
            "column action",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 6, 1, 1, 'allow', NULL, NULL)",
            "column enabled",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (20, '*', '*', 6, 1, 1, 'allow', 1, 'soon')",
            "column expires_at",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (-1, '*', '*', 6, 1, 1, 'allow', 1, NULL)",
            "row -1: the id of a rule",
        ),
        (
            "INSERT INTO acl_rules (id, source, destination, protocol, ports, priority, action, enabled, expires_at) VALUES (9007199254740992, '*', '*', 6, 1, 1, 'allow', 1, NULL)",
            "row 9007199254740992: the id of a rule",
        ),
        ("UPDATE acl_rules SET id = 9223372036854775807 WHERE id = 7", "row 9223372036854775807: the id of a rule"),
        ("UPDATE acl_rules SET through = '' WHERE id = 7", "column through"),
        ("UPDATE acl_rules SET through = '*' WHERE id = 7", "column through"),
        ("UPDATE acl_rules SET through = 'tag:a, exit' WHERE id = 7", "column through"),
        ("UPDATE acl_rules SET through = 7 WHERE id = 7", "column through"),
        ("UPDATE acl_rules SET through = 'tag:a' WHERE id = 8", "column through"),
        ("UPDATE acl_rules SET family = 5 WHERE id = 7", "column family"),
        ("UPDATE acl_rules SET family = 'v4' WHERE id = 7", "column family"),
        ("UPDATE acl_rules SET family = 4 WHERE id = 8", "column family"),
        ("INSERT INTO peer_labels VALUES (20, 1, 'colour:red')", "column label"),
        ("INSERT INTO peer_labels VALUES (20, -1, 'tag:red')", "column peer"),
        ("INSERT INTO peer_addresses VALUES (20, 1, '100.64.0.0/10')", "column address"),
        (
            "INSERT INTO peer_addresses VALUES (20, 3, '100.064.0.1'), (21, 3, '100.64.0.1')",
            r#"table peer_addresses, row 20, column address, "100.064.0.1": not an IP address"#,
        ),
        (
            "INSERT INTO peer_addresses VALUES (20, 3, '100.64.0.9'), (21, 3, '100.64.0.1')",
            r#"table peer_addresses, row 21, column address, "100.64.0.1": peer 1 has the address 100.64.0.1"#,
        ),
        (
            "INSERT INTO peer_owners VALUES (1, 1, 'ann'), (2, 1, 'bob')",
            r#"table peer_owners, row 2, column owner, "bob": peer 1 has another owner already"#,
        ),
        ("UPDATE acl_rules SET family = 4 WHERE id = 8", "column family, 4: only a rule that allows"),
    ] {
        let error = client.fails(sql);
        assert_eq!(error.code, ErrorCode::IndexRow, "{sql}: {error}");
        assert!(error.message.contains(column), "{sql}: {error}");
    }
    assert_eq!(ask(&client, "1, 2, 6, 5432"), "1");
    for (sql, expected) in [
        ("SELECT acl_decide('access', 1, '::', 6, 1)", ErrorCode::Type),
        ("SELECT acl_decide('access', 1, 2, 'x', 1)", ErrorCode::Type),
        ("SELECT acl_decide('access', 1, 2, 6, 65536)", ErrorCode::Type),
        ("SELECT acl_decide('access', 1, 99, 6, 1)", ErrorCode::AclUnknown),
        ("SELECT acl_decide('access', '1', '2', 6, 1)", ErrorCode::CidrSyntax),
        ("SELECT acl_decide('access', 1, 2)", ErrorCode::Parameters),
        ("SELECT * FROM acl_explain('access', 1, 2)", ErrorCode::Parameters),
        ("CREATE INDEX a ON acl_rules USING acl(source)", ErrorCode::IndexDefinition),
        (
            "CREATE INDEX a ON acl_rules USING acl(source, destination, protocol, ports, priority, action, enabled, expires_at, same_owner, through, family, id)",
            ErrorCode::IndexDefinition,
        ),
        (
            "CREATE INDEX a ON acl_rules USING acl(source, destination, protocol, ports, priority, action, enabled) WITH (labels = peer_addresses)",
            ErrorCode::IndexDefinition,
        ),
    ] {
        assert_eq!(client.fails(sql).code, expected, "{sql}");
    }
}

#[test]
fn ids_of_rules_are_integers_of_javascript() {
    let (folder, client) = fresh();
    network(&client);
    client.run("UPDATE acl_rules SET id = 9007199254740991 WHERE id = 7");
    let decided = "SELECT group_concat(rule) FROM acl_explain('access', 1, 2, 6, 5432)";
    assert_eq!(client.text(decided), "9007199254740991");
    client.run("DROP INDEX access");
    client.run("UPDATE acl_rules SET id = 9007199254740992 WHERE id = 9007199254740991");
    let error = client.fails(TABLES[5]);
    assert_eq!(error.code, ErrorCode::IndexRow, "{error}");
    assert!(error.message.contains("row 9007199254740992: the id of a rule"), "{error}");
    client.run("UPDATE acl_rules SET id = 7 WHERE id = 9007199254740992");
    client.run(TABLES[5]);
    drop(client);
    // Without the index kind such a row may come in; the index says so, until the row is gone.
    let path = folder.path().join("test.db");
    let plain = rusqlite::Connection::open(&path).unwrap();
    plain.execute("UPDATE acl_rules SET id = 9007199254740992 WHERE id = 7", []).unwrap();
    drop(plain);
    let client = Client::open(&path);
    assert_eq!(client.fails(decided).code, ErrorCode::IndexUnusable);
    client.run("UPDATE acl_rules SET id = 7 WHERE id = 9007199254740992");
    assert_eq!(client.text(decided), "7");
}

#[test]
fn the_tables_beside_are_followed_too() {
    let (folder, client) = fresh();
    network(&client);
    client.run("ALTER TABLE peer_labels RENAME TO marks");
    client.run("INSERT INTO marks VALUES (10, 2, 'tag:web')");
    assert_eq!(client.text("SELECT CAST(count(*) AS TEXT) FROM acl_explain('access', 2, 2, 6, 5432)"), "1");
    client.run("DROP TABLE marks");
    assert_eq!(client.fails("SELECT acl_decide('access', 1, 2, 6, 5432)").code, ErrorCode::IndexUnusable);
    client.run("CREATE TABLE marks (id INTEGER PRIMARY KEY, peer INTEGER, label TEXT)");
    assert_eq!(ask(&client, "1, 2, 6, 5432"), "0");
    client.run("INSERT INTO marks VALUES (1, 1, 'tag:web'), (2, 2, 'tag:db')");
    assert_eq!(ask(&client, "1, 2, 6, 5432"), "1");
    drop(client);
    assert_eq!(ask(&Client::open(&folder.path().join("test.db")), "1, 2, 6, 5432"), "1");
}

#[test]
fn through_and_family_narrow_a_rule() {
    let (folder, client) = fresh();
    TABLES.iter().for_each(|sql| client.run(sql));
    client.run("INSERT INTO peer_addresses VALUES (1, 1, '100.64.0.1'), (2, 1, 'fd00::1'), (3, 2, '100.64.0.2'), (4, 2, 'fd00::2')");
    client.run("INSERT INTO peer_labels VALUES (1, 2, 'tag:exit')");
    client.run("INSERT INTO peer_routes VALUES (1, 2, '10.1.0.0/16'), (2, 2, '2001:db8::/32')");
    client.run(
        "INSERT INTO acl_rules VALUES (1, '*', '*', NULL, NULL, 0, 'allow', 1, NULL, 0, 'tag:exit, tag:relay', 4)",
    );
    let all = |client: &Client| {
        let questions = ["'100.64.0.1', '10.1.2.3'", "'fd00::1', '2001:db8::7'", "'100.64.0.2', '100.64.0.1'", "1, 2"];
        questions.map(|ends| ask(client, &format!("{ends}, 6, 80"))).concat()
    };
    // Behind the exit over IPv4; not over IPv6; not at a peer that bears none of the labels; of peers any address counts.
    assert_eq!(all(&client), "1001");
    for (sql, expected) in [
        ("UPDATE acl_rules SET family = 6", "0101"),
        ("UPDATE acl_rules SET family = NULL", "1101"),
        ("UPDATE acl_rules SET through = 'tag:relay'", "0000"),
        ("UPDATE peer_labels SET label = 'tag:relay'", "1101"),
        ("UPDATE acl_rules SET enabled = 0", "0000"),
        ("UPDATE acl_rules SET enabled = 1", "1101"),
        ("UPDATE acl_rules SET through = NULL, family = 4", "1011"),
        ("UPDATE acl_rules SET through = 'tag:relay'", "1001"),
    ] {
        client.run(sql);
        assert_eq!(all(&client), expected, "{sql}");
    }
    assert!(client.try_run("UPDATE acl_rules SET through = NULL, family = 9").is_err());
    assert_eq!(all(&client), "1001", "what fails leaves the rule as it was");
    drop(client);
    assert_eq!(all(&Client::open(&folder.path().join("test.db"))), "1001");
}

/// Owners, routes and rules between peers of one owner.
const OWNED: [&str; 6] = [
    "CREATE TABLE rules (id INTEGER PRIMARY KEY, source TEXT, destination TEXT, protocol, ports, priority INTEGER, action TEXT, enabled INTEGER, expires_at INTEGER, same_owner INTEGER)",
    "CREATE TABLE addresses (id INTEGER PRIMARY KEY, peer INTEGER, address TEXT)",
    // A table of peers as one would have it, its key being the peer.
    "CREATE TABLE machines (peer INTEGER PRIMARY KEY, owner TEXT, name TEXT)",
    "CREATE TABLE subnets (id INTEGER PRIMARY KEY, peer INTEGER, prefix TEXT)",
    "CREATE TABLE claims (id INTEGER PRIMARY KEY, peer INTEGER, owner TEXT)",
    "CREATE INDEX owned ON rules USING acl(source, destination, protocol, ports, priority, action, enabled, expires_at, same_owner)
       WITH (peers = addresses, owners = machines, routes = subnets)",
];

#[test]
fn owners_and_routes_come_from_tables_too() {
    let (folder, client) = fresh();
    OWNED.iter().for_each(|sql| client.run(sql));
    client.run("INSERT INTO addresses VALUES (1, 1, '100.64.0.1'), (2, 2, '100.64.0.2'), (3, 3, '100.64.0.3')");
    client.run("INSERT INTO machines VALUES (1, 'ann', 'a'), (2, 'ann', 'b'), (3, 'bob', 'c')");
    client.run("INSERT INTO rules VALUES (1, '*', '*', NULL, '22', 0, 'allow', 1, NULL, 1), (2, '100.64.0.3', '192.168.7.0/24', NULL, NULL, 0, 'allow', 1, NULL, NULL)");
    let ask = |client: &Client, source: u32, destination: u32, port: u16| {
        let question = [source.into(), destination.into(), 6, i64::from(port)].map(Value::Integer);
        client.store.indexes().acl("owned").decide(&AclQuestion::of(&question).unwrap()).unwrap().rule
    };
    assert_eq!([ask(&client, 1, 2, 22), ask(&client, 1, 3, 22), ask(&client, 3, 2, 80)], [Some(1), None, None]);
    client.run("INSERT INTO subnets VALUES (1, 2, '192.168.0.0/16')");
    assert_eq!(ask(&client, 3, 2, 80), Some(2), "a router is reached when something behind it is");
    assert_eq!(ask(&client, 1, 2, 80), None);
    client.run("UPDATE subnets SET prefix = '192.168.8.0/24'");
    assert_eq!(ask(&client, 3, 2, 80), None);
    client.run("UPDATE subnets SET prefix = '192.168.7.128/25'");
    assert_eq!([ask(&client, 3, 2, 80), ask(&client, 3, 1, 80)], [Some(2), None]);
    client.run("UPDATE subnets SET peer = 1");
    assert_eq!([ask(&client, 3, 2, 80), ask(&client, 3, 1, 80)], [None, Some(2)]);
    client.run("UPDATE machines SET owner = 'bob' WHERE peer = 1");
    assert_eq!([ask(&client, 1, 2, 22), ask(&client, 1, 3, 22)], [None, Some(1)]);
    // The key of a peer changes, and its owner goes with it.
    client.run("UPDATE machines SET peer = 9 WHERE peer = 1");
    assert_eq!(ask(&client, 1, 3, 22), None);
    client.run("INSERT INTO addresses VALUES (9, 9, '100.64.0.9')");
    assert_eq!(ask(&client, 9, 3, 22), Some(1));
    client.run("UPDATE rules SET same_owner = 0 WHERE id = 1");
    assert_eq!(ask(&client, 1, 3, 22), Some(1));
    client.run("UPDATE rules SET same_owner = 1 WHERE id = 1");
    for (sql, column) in [
        ("INSERT INTO subnets VALUES (20, 1, '192.168.0.1/16')", "table subnets, row 20, column prefix"),
        ("INSERT INTO subnets VALUES (20, -1, '192.168.0.0/16')", "table subnets, row 20, column peer"),
        ("UPDATE machines SET owner = x'00' WHERE peer = 9", "table machines, row 9, column owner"),
        ("UPDATE rules SET same_owner = 2 WHERE id = 1", "table rules, row 1, column same_owner"),
    ] {
        let error = client.fails(sql);
        assert_eq!(error.code, ErrorCode::IndexRow, "{sql}");
        assert!(error.message.contains(column), "{sql}: {error}");
    }
    let snapshot = client.store.indexes().acl("owned").engine().unwrap();
    client.run("DELETE FROM rules");
    assert_eq!((snapshot.rule_count(), client.store.indexes().acl("owned").engine().unwrap().rule_count()), (2, 0));
    client.run("ALTER TABLE machines RENAME TO boxes");
    client.run("ALTER TABLE subnets RENAME TO networks");
    client.run("INSERT INTO rules VALUES (1, '*', '*', NULL, '22', 0, 'allow', 1, NULL, 1)");
    client.run("UPDATE boxes SET owner = 'ann' WHERE peer = 9");
    assert_eq!([ask(&client, 9, 2, 22), ask(&client, 9, 3, 22)], [Some(1), None]);
    drop(client);
    let client = Client::open(&folder.path().join("test.db"));
    assert_eq!([ask(&client, 9, 2, 22), ask(&client, 9, 3, 22)], [Some(1), None]);
}

#[test]
fn a_peer_has_one_owner() {
    let (_folder, client) = fresh();
    OWNED[..5].iter().for_each(|sql| client.run(sql));
    client.run(&OWNED[5].replace("owners = machines", "owners = claims"));
    client.run("INSERT INTO claims VALUES (1, 1, 'ann'), (2, 1, 'ann'), (3, 2, 'bob'), (4, 2, NULL)");
    let error = client.fails("INSERT INTO claims VALUES (5, 1, 'bob')");
    assert_eq!(error.code, ErrorCode::IndexRow);
    assert!(error.message.contains("table claims, row 5, column owner"), "{error}");
    assert!(error.message.contains("peer 1 has another owner"), "{error}");
    // Both of its rows may change together.
    client.run("UPDATE claims SET owner = 'eve' WHERE peer = 1");
    client.run("CREATE INDEX again ON rules USING acl(source, destination, protocol, ports, priority, action, enabled) WITH (owners = claims)");
    client.run("DROP INDEX again");
    client.run("DROP INDEX owned");
    client.run("INSERT INTO claims VALUES (5, 1, 'bob')");
    assert_eq!(client.fails(&OWNED[5].replace("owners = machines", "owners = claims")).code, ErrorCode::IndexRow);
}

fn change() -> impl Strategy<Value = String> {
    let selector = || {
        prop::sample::select(
            &["*", "tag:a", "tag:b", "10.0.0.0/30", "10.0.0.1-10.0.0.2", "tag:a, 10.0.0.3", "10.0.1.0/31", "bad:"][..],
        )
    };
    prop_oneof![
        4 => (0i64..8, selector(), selector(), 0..3, 0..3, any::<bool>(), any::<bool>(), 0..4_usize, 0..4_usize).prop_map(|(id, source, destination, port, priority, allow, enabled, through, family)| {
            let (port, action) = (["NULL", "80", "'80-90'"][port as usize], if allow { "allow" } else { "deny" });
            // Only rules that allow have them: a batch with such a deny would change nothing at all.
            let (through, family) = if allow { (through, family) } else { (0, 0) };
            let (through, family) = (["NULL", "NULL", "'tag:a'", "'tag:b, tag:a'"][through], ["NULL", "NULL", "4", "6"][family]);
            format!("REPLACE INTO acl_rules VALUES ({id}, '{source}', '{destination}', NULL, {port}, {priority}, '{action}', {}, NULL, {}, {through}, {family})", u8::from(enabled), u8::from(id % 3 == 0))
        }),
        1 => (0i64..8, any::<bool>()).prop_map(|(id, a)| format!("UPDATE acl_rules SET through = {} WHERE id = {id}", if a { "'tag:a'" } else { "NULL" })),
        1 => (0i64..8, any::<bool>()).prop_map(|(id, a)| format!("UPDATE acl_rules SET family = {} WHERE id = {id}", if a { "6" } else { "NULL" })),
        1 => (0i64..8).prop_map(|id| format!("UPDATE acl_rules SET enabled = 1 - enabled WHERE id = {id}")),
        1 => (0i64..8).prop_map(|id| format!("DELETE FROM acl_rules WHERE id = {id}")),
        2 => (0i64..6, 0i64..4, 1..5).prop_map(|(id, peer, octet)| format!("REPLACE INTO peer_addresses VALUES ({id}, {peer}, '10.0.0.{octet}')")),
        1 => (0i64..6).prop_map(|id| format!("DELETE FROM peer_addresses WHERE id = {id}")),
        2 => (0i64..6, 0i64..4, any::<bool>()).prop_map(|(id, peer, a)| format!("REPLACE INTO peer_labels VALUES ({id}, {peer}, 'tag:{}')", if a { "a" } else { "b" })),
        1 => (0i64..6, 0i64..4).prop_map(|(id, peer)| format!("UPDATE peer_labels SET peer = {peer} WHERE id = {id}")),
        1 => (0i64..6).prop_map(|id| format!("DELETE FROM peer_labels WHERE id = {id}")),
        2 => (0i64..6, 0i64..4, any::<bool>()).prop_map(|(id, peer, u)| format!("REPLACE INTO peer_owners VALUES ({id}, {peer}, '{}')", if u { "u" } else { "v" })),
        1 => (0i64..6).prop_map(|id| format!("DELETE FROM peer_owners WHERE id = {id}")),
        2 => (0i64..6, 0i64..4, 0..4).prop_map(|(id, peer, octet)| format!("REPLACE INTO peer_routes VALUES ({id}, {peer}, '10.0.1.{octet}/32')")),
        1 => (0i64..6).prop_map(|id| format!("DELETE FROM peer_routes WHERE id = {id}")),
    ]
}

/// All that can be asked, of an index kept up with each change and of one made anew.
fn answers(client: &Client, index: &str) -> Vec<String> {
    let mut found = Vec::new();
    for a in 0..4 {
        for b in 0..4 {
            for port in [0, 80, 85] {
                for (source, destination) in
                    [(a.to_string(), b.to_string()), (format!("'10.0.0.{a}'"), format!("'10.0.0.{b}'"))]
                {
                    let sql = format!(
                        "SELECT coalesce(group_concat(rule || action || priority || shadowed, ' '), '-') FROM acl_explain('{index}', {source}, {destination}, 6, {port}, 0)"
                    );
                    found.push(support::text(client.try_run(&sql)).unwrap_or_else(|error| error.to_string()));
                }
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn an_index_kept_up_equals_one_made_anew(batches in prop::collection::vec(prop::collection::vec(change(), 1..5), 1..8)) {
        let client = Client::memory();
        TABLES.iter().for_each(|sql| client.run(sql));
        for batch in &batches {
            let _ = client.one(client.batch(&batch.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        let kept_up = answers(&client, "access");
        client.run("DROP INDEX access");
        client.run(TABLES[5]);
        prop_assert_eq!(kept_up, answers(&client, "access"));
    }
}
