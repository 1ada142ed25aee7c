//! A caller of a store: hands over jobs and waits for their answers.

#![allow(dead_code, unreachable_pub, reason = "not every test uses all of it")]

pub mod routes;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::types::Value;
use zqlite_store::{
    BackupOptions, BatchItem, Call, Cancel, Error, ErrorCode, Expect, Item, Job, Nest, Options, Params, Record, Sink,
    Store, Ticket, TransactionId, Want, Work,
};

pub type Answer = Result<Vec<Record>, Error>;

/// Collects answers and waits for them.
#[derive(Default)]
struct Inbox {
    partial: Mutex<HashMap<u32, Vec<Record>>>,
    done: Mutex<HashMap<u32, Answer>>,
    arrived: Condvar,
    next: AtomicU32,
}

impl Sink for Inbox {
    fn deliver(&self, answers: &mut Vec<zqlite_store::Answer>) {
        let mut partial = self.partial.lock();
        for zqlite_store::Answer { token, result, last } in answers.drain(..) {
            let done = match result {
                Ok(record) => {
                    partial.entry(token).or_default().push(record);
                    last.then(|| Ok(partial.remove(&token).unwrap()))
                }
                Err(error) => {
                    partial.remove(&token);
                    Some(Err(error))
                }
            };
            if let Some(answer) = done {
                assert!(self.done.lock().insert(token, answer).is_none(), "call {token} was answered twice");
            }
        }
        self.arrived.notify_all();
    }
}

pub struct Client {
    pub store: Arc<Store>,
    inbox: Arc<Inbox>,
}

impl Client {
    pub fn of(store: Arc<Store>) -> Self {
        Self { store, inbox: Arc::default() }
    }

    pub fn open(path: &Path) -> Self {
        Self::of(Store::open(options(path)).unwrap())
    }

    pub fn memory() -> Self {
        Self::of(Store::open(Options::default()).unwrap())
    }

    pub fn call(&self, sql: &str, values: &[Value]) -> Call {
        Call { statement: self.store.statement(sql), params: Params::from_values(values), want: Want::Rows }
    }

    pub fn item(&self, sql: &str, expect: Expect) -> BatchItem {
        BatchItem { call: self.call(sql, &[]), expect }
    }

    pub fn job(&self, work: Work) -> (u32, Job) {
        let token = self.inbox.next.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket::new(self.inbox.clone(), token);
        (token, Job { ticket, work, queued: Instant::now(), deadline: None, cancel: None })
    }

    /// Hands everything over at once, so that the writes among it share a group.
    pub fn start(&self, works: Vec<Work>) -> Vec<u32> {
        let (tokens, jobs): (Vec<_>, Vec<_>) = works.into_iter().map(|work| self.job(work)).unzip();
        self.store.submit(jobs);
        tokens
    }

    pub fn wait(&self, token: u32) -> Answer {
        let mut done = self.inbox.done.lock();
        // Counted in pieces, so that a process that was stopped for a while has not waited.
        let mut pieces = 600;
        loop {
            if let Some(answer) = done.remove(&token) {
                return answer;
            }
            if self.inbox.arrived.wait_for(&mut done, Duration::from_millis(100)).timed_out() {
                pieces -= 1;
                assert!(pieces > 0, "no answer to call {token}");
            }
        }
    }

    pub fn is_answered(&self, token: u32) -> bool {
        self.inbox.done.lock().contains_key(&token)
    }

    /// How much has come of an answer that has not ended.
    pub fn pieces(&self, token: u32) -> usize {
        self.inbox.partial.lock().get(&token).map_or(0, Vec::len)
    }

    pub fn all(&self, works: Vec<Work>) -> Vec<Answer> {
        self.start(works).into_iter().map(|token| self.wait(token)).collect()
    }

    pub fn one(&self, work: Work) -> Answer {
        self.all(vec![work]).remove(0)
    }

    pub fn member(&self, sql: &str) -> Work {
        Work::Run(self.call(sql, &[]))
    }

    pub fn batch(&self, statements: &[&str]) -> Work {
        Work::Batch(statements.iter().map(|sql| self.item(sql, Expect::default())).collect())
    }

    pub fn try_run(&self, sql: &str) -> Answer {
        self.one(self.member(sql))
    }

    pub fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub fn with(&self, sql: &str, values: &[Value]) {
        self.one(Work::Run(self.call(sql, values))).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub fn fails(&self, sql: &str) -> Error {
        self.try_run(sql).expect_err(sql)
    }

    /// What a statement of one text returns; what is NULL is empty.
    pub fn text(&self, sql: &str) -> String {
        text(self.try_run(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// What a statement of one number returns.
    pub fn number(&self, sql: &str) -> f64 {
        number(&self.try_run(sql).unwrap_or_else(|error| panic!("{sql}: {error}")))
    }

    pub fn transaction(&self) -> Transaction<'_> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = TransactionId(NEXT.fetch_add(1, Ordering::Relaxed));
        self.one(Work::Begin(id, zqlite_store::BeginMode::Immediate)).unwrap();
        Transaction { client: self, id }
    }
}

/// A callback transaction.
pub struct Transaction<'c> {
    client: &'c Client,
    id: TransactionId,
}

impl Transaction<'_> {
    pub fn try_run(&self, sql: &str) -> Answer {
        self.client.one(Work::Step(self.id, self.client.call(sql, &[])))
    }

    pub fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub fn text(&self, sql: &str) -> String {
        text(self.try_run(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn nest(&self, step: Nest) {
        self.client.one(Work::Nest(self.id, step)).unwrap();
    }

    pub fn commit(self) -> Answer {
        self.client.one(Work::Commit(self.id))
    }

    pub fn rollback(self) {
        self.client.one(Work::Rollback(self.id)).unwrap();
    }
}

pub fn text(answer: Answer) -> Result<String, Error> {
    let text =
        |record: Record| record.rows.map(|(_, chunk)| String::from_utf8(chunk.text).unwrap()).unwrap_or_default();
    answer.map(|records| records.into_iter().map(text).collect())
}

/// The number that is the first value of an answer.
pub fn number(records: &[Record]) -> f64 {
    let (_, chunk) = records[0].rows.as_ref().unwrap();
    match chunk.words[8] {
        1 => f64::from_le_bytes(chunk.words[16..24].try_into().unwrap()),
        5 => i32::from_le_bytes(chunk.words[16..20].try_into().unwrap()).into(),
        tag => panic!("not a number, but of tag {tag}"),
    }
}

/// What the last statement of an answer did.
pub fn item_of(answer: &Answer) -> Item {
    answer.as_ref().unwrap().last().unwrap().item.unwrap()
}

pub fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorCode {
    answer.expect_err("it should fail").code
}

pub fn options(path: &Path) -> Options {
    Options { path: Some(path.to_owned()), ..Options::default() }
}

/// A store on a file of its own.
pub fn fresh() -> (tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("test.db"));
    (folder, client)
}

/// The same with a table.
pub fn with_table() -> (tempfile::TempDir, Client) {
    let (folder, client) = fresh();
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)");
    (folder, client)
}

/// A backup to this place, in pieces of so many pages.
pub fn backup_to(path: &Path, pages: u32) -> BackupOptions {
    BackupOptions {
        path: path.to_owned(),
        overwrite: false,
        pages,
        pause: Duration::ZERO,
        cancel: Cancel::default(),
        deadline: None,
    }
}
