//! A caller of a store whose calls succeed, or end the test.

#![allow(dead_code, unreachable_pub, reason = "not every test uses all of it")]

pub mod routes;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use zqlite_store::{
    BackupOptions, BatchItem, Cancel, Error, ErrorCode, Expect, Item, Nest, Options, Record, Store, TransactionId, Work,
};

pub type Answer = Result<Vec<Record>, Error>;

pub struct Client(zqlite_client::Client);

impl Deref for Client {
    type Target = zqlite_client::Client;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Client {
    pub fn of(store: Arc<Store>) -> Self {
        Self(zqlite_client::Client::of(store))
    }

    pub fn open(path: &Path) -> Self {
        Self::of(Store::open(options(path)).unwrap())
    }

    pub fn memory() -> Self {
        Self::of(Store::open(Options::default()).unwrap())
    }

    pub fn item(&self, sql: &str, expect: Expect) -> BatchItem {
        BatchItem { call: self.call(sql, &[]), expect }
    }

    /// What became of a call. One that is not answered is never what a test expects.
    pub fn wait(&self, token: u32) -> Answer {
        let answer = self.0.wait(token);
        if let Err(error) = &answer {
            assert!(!error.message.starts_with("hang") && !error.message.contains("answered twice"), "{error}");
        }
        answer
    }

    pub fn all(&self, works: Vec<Work>) -> Vec<Answer> {
        self.start(works).into_iter().map(|token| self.wait(token)).collect()
    }

    pub fn one(&self, work: Work) -> Answer {
        let token = self.start(vec![work])[0];
        self.wait(token)
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
        Transaction { client: self, id: self.begin().unwrap() }
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
