//! What is written, and what must be found of it: the state of a client's rows is a pure function of how many of its writes
//! were made, so whether an acknowledged write is there, and none is half done, is a comparison.

use std::collections::BTreeMap;

use fastrand::Rng;
use rusqlite::types::Value;
use zqlite_store::{CheckpointMode, Maintenance, Nest, Result, Work};

use crate::client::{Client, Rows};
use crate::indexes;

/// What a client's write does. All of it or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One statement, whose trigger does a second thing.
    Statement,
    /// Several statements in one trip.
    Batch(u32),
    /// A callback transaction with a nested one that is undone.
    Transaction(u32),
    /// Removes what the client wrote before.
    Trim,
    /// A migration: makes a table and notes it.
    Migration,
}

/// Tables, and the trigger that does the second thing.
const SCHEMA: [&str; 4] = [
    "CREATE TABLE log (client INTEGER, n INTEGER, part INTEGER, payload BLOB, PRIMARY KEY (client, n, part))",
    "CREATE TABLE head (client INTEGER PRIMARY KEY, n INTEGER, parts INTEGER, filler TEXT)",
    "CREATE INDEX log_by_payload ON log (payload, part)",
    "CREATE TRIGGER count AFTER INSERT ON log BEGIN
       INSERT INTO head VALUES (new.client, new.n, 1, NULL)
       ON CONFLICT (client) DO UPDATE SET n = excluded.n, parts = parts + 1; END",
];

const INSERT: &str = "INSERT INTO log VALUES (?, ?, ?, ?)";

/// Makes the tables and their indexes, those of zqlite's own kinds included.
///
/// # Errors
/// Those of the store.
pub fn prepare(client: &Client) -> Result<()> {
    client.batch(SCHEMA.into_iter().chain(indexes::schema()).map(|sql| client.item(sql, &[])).collect()).map(drop)
}

/// The writes of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    seed: u64,
}

impl Plan {
    /// Every choice follows from the seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    fn rng(self, client: u32, n: u32) -> Rng {
        Rng::with_seed(self.seed ^ u64::from(client) << 32 ^ u64::from(n) << 3 ^ 0x5eed)
    }

    /// What the `n`th write of a client does.
    pub fn kind(self, client: u32, n: u32) -> Kind {
        let mut rng = self.rng(client, n);
        match rng.u32(0..20) {
            0..=8 => Kind::Statement,
            9..=13 => Kind::Batch(rng.u32(2..6)),
            14..=16 => Kind::Transaction(rng.u32(1..4)),
            17..=18 if n > 1 => Kind::Trim,
            19 => Kind::Migration,
            _ => Kind::Statement,
        }
    }

    fn payload(self, client: u32, n: u32, part: u32) -> Value {
        let mut rng = Rng::with_seed(self.rng(client, n).u64(..) ^ u64::from(part));
        // Mostly within a page, sometimes over several.
        let length = if rng.u8(0..8) == 0 { rng.usize(4_000..12_000) } else { rng.usize(1..400) };
        Value::Blob((0..length).map(|_| rng.u8(..)).collect())
    }

    fn row(self, client: u32, n: u32, part: u32) -> [Value; 4] {
        let whole = |n: u32| Value::Integer(n.into());
        [whole(client), whole(n), whole(part), self.payload(client, n, part)]
    }

    /// Makes the `n`th write of client number `client`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn write(self, by: &Client, client: u32, n: u32) -> Result<()> {
        let insert = |part| by.item(INSERT, &self.row(client, n, part));
        let id = [Value::Integer(client.into())];
        match self.kind(client, n) {
            Kind::Statement => by.sql(INSERT, &self.row(client, n, 0)),
            Kind::Batch(parts) => by.batch((0..parts).map(insert).collect()),
            Kind::Trim => by.batch(vec![
                by.item("DELETE FROM log WHERE client = ?", &id),
                by.item("UPDATE head SET parts = 0, filler = hex(zeroblob(700)) WHERE client = ?", &id),
                insert(0),
            ]),
            Kind::Migration => by.batch(vec![
                by.item(&format!("CREATE TABLE made_{client}_{n} (a INTEGER PRIMARY KEY, b TEXT UNIQUE)"), &[]),
                by.item(&format!("INSERT INTO made_{client}_{n} VALUES (1, 'b')"), &[]),
                insert(0),
            ]),
            Kind::Transaction(parts) => {
                let transaction = by.begin()?;
                let step = |sql: &str, values: &[Value]| by.run(Work::Step(transaction, by.call(sql, values)));
                let steps = || {
                    for part in 0..parts {
                        step(INSERT, &self.row(client, n, part))?;
                    }
                    by.run(Work::Nest(transaction, Nest::Begin))?;
                    step("DELETE FROM log WHERE client = ?", &id)?;
                    by.run(Work::Nest(transaction, Nest::Undo))?;
                    by.run(Work::Commit(transaction))
                };
                // A transaction that ended by itself refuses this, which is fine.
                steps().inspect_err(|_| drop(by.run(Work::Rollback(transaction))))
            }
        }
        .map(drop)
    }

    /// The rows of a client after `made` writes: (n, part), and the parts counted since the last trim; the tables made.
    fn expected(self, client: u32, made: u32) -> (Vec<(u32, u32)>, Vec<u32>) {
        let (mut rows, mut tables) = (Vec::new(), Vec::new());
        for n in 1..=made {
            let kind = self.kind(client, n);
            match kind {
                Kind::Trim => rows.clear(),
                Kind::Migration => tables.push(n),
                _ => {}
            }
            let parts = if let Kind::Batch(parts) | Kind::Transaction(parts) = kind { parts } else { 1 };
            rows.extend((0..parts).map(|part| (n, part)));
        }
        (rows, tables)
    }

    /// Compares what `db` holds of a client with what it must: any number of writes from `least` to `most`. Returns how many.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(self, db: &Client, client: u32, least: u32, most: u32) -> Result<u32, String> {
        let told = |e: zqlite_store::Error| format!("client {client}: {e}");
        let id = [Value::Integer(client.into())];
        let head = db.sql("SELECT n, parts FROM head WHERE client = ?", &id).map_err(told)?;
        let (made, parts) = match head.as_slice() {
            [] => (0, 0),
            [row] => (integer(row.first())?, integer(row.get(1))?),
            _ => return Err(format!("client {client} has {} heads", head.len())),
        };
        let made = u32::try_from(made).map_err(|e| e.to_string())?;
        if made < least {
            return Err(format!("client {client}: write {least} was acknowledged, the last there is {made}"));
        }
        if made > most {
            return Err(format!("client {client}: write {made} is there, but only {most} were begun"));
        }
        let (expected, tables) = self.expected(client, made);
        if parts != expected.len() as i64 {
            return Err(format!("client {client}: {parts} parts are counted, {} were written", expected.len()));
        }
        let rows = db.sql("SELECT n, part, payload FROM log WHERE client = ? ORDER BY n, part", &id).map_err(told)?;
        if rows.len() != expected.len() {
            return Err(format!(
                "client {client}: {} rows, expected {} after write {made}",
                rows.len(),
                expected.len()
            ));
        }
        for (row, (n, part)) in rows.iter().zip(expected) {
            let [_, rest @ ..] = self.row(client, n, part);
            if row.as_slice() != rest {
                return Err(format!("client {client}: write {n}, part {part} holds something else"));
            }
        }
        let name = format!("made\\_{client}\\_%");
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE ? ESCAPE '\\'";
        let found = db.sql(sql, &[Value::Text(name)]).map_err(told)?;
        if found.len() != tables.len() {
            return Err(format!("client {client}: {} migrations are there, {} were made", found.len(), tables.len()));
        }
        for n in tables {
            let rows = db.sql(&format!("SELECT b FROM made_{client}_{n}"), &[]).map_err(told)?;
            if rows != [[Value::Text("b".to_owned())]] {
                return Err(format!("client {client}: migration {n} is half done"));
            }
        }
        Ok(made)
    }
}

fn integer(value: Option<&Value>) -> Result<i64, String> {
    match value {
        Some(Value::Integer(n)) => Ok(*n),
        other => Err(format!("{other:?} is no number")),
    }
}

/// What SQLite's own check says.
///
/// # Errors
/// Its findings, or why there are none.
pub fn integrity(db: &Client) -> Result<(), String> {
    let found: Rows = db.sql("PRAGMA integrity_check", &[]).map_err(|e| e.to_string())?;
    match found.as_slice() {
        [row] if row.as_slice() == [Value::Text("ok".to_owned())] => Ok(()),
        _ => Err(format!("integrity_check: {found:?}")),
    }
}

/// Some work on the file as a whole.
pub fn maintenance(rng: &mut Rng) -> Maintenance {
    match rng.u8(0..12) {
        0 => Maintenance::Vacuum,
        1 | 2 => Maintenance::Checkpoint(CheckpointMode::Truncate),
        3..=5 => Maintenance::Checkpoint(CheckpointMode::Restart),
        6..=8 => Maintenance::Checkpoint(CheckpointMode::Full),
        _ => Maintenance::Checkpoint(CheckpointMode::Passive),
    }
}

/// How many writes of each client there must be, and can be.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Acknowledged and begun, by client.
    pub clients: BTreeMap<u32, (u32, u32)>,
}

impl Ledger {
    /// A write was begun.
    pub fn begun(&mut self, client: u32, n: u32) {
        let entry = self.clients.entry(client).or_default();
        entry.1 = entry.1.max(n);
    }

    /// A write was acknowledged.
    pub fn acknowledged(&mut self, client: u32, n: u32) {
        let entry = self.clients.entry(client).or_default();
        entry.0 = entry.0.max(n);
        entry.1 = entry.1.max(n);
    }

    /// Whether all that must be is there, whole, and nothing else.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, plan: Plan, db: &Client) -> Result<(), String> {
        integrity(db)?;
        for (client, (least, most)) in &self.clients {
            plan.check(db, *client, *least, *most)?;
        }
        indexes::check(db)
    }
}
