//! `io`: the n-th call of each kind to the file system fails, once or for ever, for every n until none is left to fail.
//! Every call ends with a typed error, `unknown` only where it is; nothing acknowledged is lost; what was refused is not
//! there; reads go on; and when the disk works again the same store goes on or, if it went read-only, another one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use zqlite_store::fault;
use zqlite_store::{BackupOptions, Cancel, CheckpointMode, Error, ErrorCode, Maintenance, Outcome};

use crate::client::Client;
use crate::faults::{Failing, Fault};
use crate::indexes;
use crate::report::Report;
use crate::vfs;
use crate::work::{self, Ledger, Plan};

/// Deaths tried in one attack: each opens a copy.
const MOST_DEATHS: u32 = 3;

/// Errors that a failure tells along.
const ERRORS_KEPT: usize = 6;

/// Clients that write at the same time, so that they share commits.
const CLIENTS: u32 = 2;

/// Calls of a kind that all fail in turn, whatever the step: of some kinds there are not many more.
const FIRST: u64 = 12;

/// Goes through all kinds of faults; behind the first calls of a kind only each `every`-th fails.
pub fn run(seed: u64, every: u64, report: &mut Report) {
    let offset = Rng::with_seed(seed).u64(0..every);
    for (fault, name) in Fault::ALL {
        for for_ever in [false, true] {
            let (mut nth, mut struck) = (1, 0);
            while one(seed, fault, name, nth, for_ever, report) && !report.is_over() {
                struck += 1;
                nth += match nth {
                    ..FIRST => 1,
                    FIRST => 1 + offset,
                    _ => every,
                };
            }
            report.detail(&format!("{name}{}", if for_ever { " for ever" } else { " once" }), struck);
            if struck == 0 {
                let what = format!("nothing calls for {name}, so that it could fail");
                report.round(&format!("io --seed {seed} --fault {name}"), Err(what));
            }
        }
    }
}

/// One fault; returns whether it struck.
pub fn one(seed: u64, fault: Fault, name: &str, nth: u64, for_ever: bool, report: &mut Report) -> bool {
    let mut struck = true;
    let result = crate::folder::fresh().and_then(|folder| {
        let door = Arc::new(Failing::new(folder.path(), fault, nth, for_ever));
        vfs::set_door(Some(door.clone()));
        let told = door.clone();
        fault::observe_points(move |point| told.reached(point));
        let mut attack = Attack::new(folder.path(), seed, Unknown::WhereStruck(door.clone()));
        attack.work();
        door.mend();
        struck = door.struck();
        attack.recover()
    });
    vfs::set_door(None);
    fault::observe_points(|_| {});
    let ever = if for_ever { " --for-ever" } else { "" };
    report.round(&format!("io --seed {seed} --fault {name} --nth {nth}{ever}"), result);
    struck
}

/// What a store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Statements, batches, transactions and migrations of all clients at once.
    Write,
    /// Moves the log into the file, and starts it anew.
    CheckpointRestart,
    /// The same, and cuts the log.
    CheckpointTruncate,
    /// Writes the file anew.
    Vacuum,
    /// Copies the file.
    Backup,
    /// Drops indexes and makes them again.
    Indexes,
    /// Opens the file again.
    Open,
    /// Closes it.
    Close,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Write,
        Self::CheckpointRestart,
        Self::CheckpointTruncate,
        Self::Vacuum,
        Self::Backup,
        Self::Indexes,
        Self::Open,
        Self::Close,
    ];
}

/// When the outcome of a commit may be unknown.
#[derive(Debug, Clone)]
pub enum Unknown {
    /// Never: all that can happen is known to change nothing.
    Never,
    /// When a call within a COMMIT has failed.
    WhereStruck(Arc<Failing>),
    /// Whenever the store says so: what failed cannot be told from here.
    Anytime,
}

impl Unknown {
    fn is_possible(&self) -> bool {
        match self {
            Self::Never => false,
            Self::WhereStruck(door) => door.can_leave_unknown(),
            Self::Anytime => true,
        }
    }
}

/// Work on one database whose disk may fail.
pub struct Attack {
    path: PathBuf,
    plan: Plan,
    db: Option<Client>,
    prepared: bool,
    ledger: Ledger,
    /// The next write of each client.
    next: [u32; CLIENTS as usize],
    may_be_unknown: Unknown,
    /// Whether the open store said that the outcome of a commit is unknown, and must take no more writes.
    read_only: bool,
    /// The last commit of a client whose outcome is unknown.
    unknown: [bool; CLIENTS as usize],
    wrong: Vec<String>,
    refused: u32,
    /// The last ones, for whoever looks into a failure.
    errors: Vec<String>,
    /// What the last acknowledged backup holds.
    backed_up: Option<Ledger>,
    /// How often it was looked what a death at this moment would leave.
    deaths: u32,
}

impl Attack {
    /// In a folder of its own.
    pub fn new(folder: &Path, seed: u64, may_be_unknown: Unknown) -> Self {
        Self {
            path: folder.join("test.db"),
            plan: Plan::new(seed),
            db: None,
            prepared: false,
            ledger: Ledger::default(),
            next: [1; CLIENTS as usize],
            may_be_unknown,
            read_only: false,
            unknown: [false; CLIENTS as usize],
            wrong: Vec::new(),
            refused: 0,
            errors: Vec::new(),
            backed_up: None,
            deaths: 0,
        }
    }

    /// How many calls ended with an error.
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// Judges an error: it must be one of the catalogue that says what to do.
    fn judge(&mut self, doing: &str, error: &Error) {
        self.refused += 1;
        let unknown = error.outcome == Outcome::Unknown;
        if error.code == ErrorCode::Internal || error.code == ErrorCode::Sql && error.sqlite_code == 0 {
            self.wrong.push(format!("{doing}: {error}"));
        }
        if unknown != (error.code == ErrorCode::CommitUnknown) {
            self.wrong.push(format!("{doing}: {error}, outcome {:?}", error.outcome));
        }
        if unknown && !self.may_be_unknown.is_possible() {
            self.wrong.push(format!("{doing}: the outcome is known, but the error says {error}"));
        }
        self.read_only |= unknown;
        if error.code == ErrorCode::Readonly && !self.read_only {
            let before = self.errors.join(", ");
            self.wrong.push(format!("{doing}: no commit failed, but the error says {error}; before it: {before}"));
            // Once is enough.
            self.read_only = true;
        }
        if self.errors.len() == ERRORS_KEPT {
            self.errors.remove(0);
        }
        self.errors.push(format!("{doing}: {error}"));
    }

    fn open(&mut self) -> bool {
        if self.db.is_none() {
            match Client::open(&self.path, true) {
                Ok(db) => {
                    self.db = Some(db);
                    self.read_only = false;
                }
                Err(error) => self.judge("open", &error),
            }
        }
        self.db.is_some()
    }

    fn with(&mut self, doing: &str, f: impl FnOnce(&Client) -> zqlite_store::Result<()>) -> bool {
        let result = match &self.db {
            Some(db) => f(db),
            None => return false,
        };
        if let Err(error) = &result {
            self.judge(doing, error);
        }
        result.is_ok()
    }

    /// All clients write at once.
    pub fn write(&mut self) {
        if !self.open() {
            return;
        }
        if !self.prepared {
            self.prepared = self.with("prepare", work::prepare);
            if !self.prepared {
                return;
            }
        }
        let Some(db) = &self.db else { return };
        let (plan, next, ledger) = (self.plan, self.next, &mut self.ledger);
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CLIENTS)
                .filter(|client| !self.unknown[*client as usize])
                .map(|client| {
                    let by = db.other();
                    ledger.begun(client, next[client as usize]);
                    (client, scope.spawn(move || plan.write(&by, client, next[client as usize])))
                })
                .collect();
            threads.into_iter().map(|(client, t)| (client, t.join())).collect()
        });
        let mut failed = false;
        // One client's commit makes the store read-only for the others, whose answers may come first.
        self.read_only |=
            results.iter().any(|(_, result)| matches!(result, Ok(Err(error)) if error.outcome == Outcome::Unknown));
        for (client, result) in results {
            let n = self.next[client as usize];
            match result {
                Ok(Ok(())) => {
                    self.ledger.acknowledged(client, n);
                    self.next[client as usize] += 1;
                }
                Ok(Err(error)) => {
                    failed = true;
                    self.judge("write", &error);
                    if error.outcome == Outcome::Unknown {
                        self.unknown[client as usize] = true;
                    } else if let Some(entry) = self.ledger.clients.get_mut(&client) {
                        // What was refused must not be there.
                        entry.1 = n - 1;
                    }
                }
                Err(_) => self.wrong.push("a client panicked".to_owned()),
            }
        }
        if failed && self.deaths < MOST_DEATHS {
            self.deaths += 1;
            if let Err(what) = self.after_death() {
                self.wrong.push(format!("after a failure and the death of the process: {what}"));
            }
        }
        // Reads go on, whatever became of the writes.
        let Some(db) = &self.db else { return };
        if self.read_only {
            match db.sql("CREATE TABLE too_late (a)", &[]) {
                Err(error) if error.code == ErrorCode::Readonly => {}
                other => self.wrong.push(format!("a write after a commit whose outcome is unknown: {other:?}")),
            }
        }
        if let Err(what) = indexes::check(db)
            && !what.contains("ERR_")
        {
            self.wrong.push(format!("a read after a failure: {what}"));
        }
        for (client, (least, most)) in &self.ledger.clients {
            if let Err(what) = self.plan.check(db, *client, *least, *most)
                && !what.contains("ERR_")
            {
                self.wrong.push(format!("a read after a failure: {what}"));
            }
        }
    }

    /// Looks at the files as they are, without what memory knows of them: what was refused must not come back.
    fn after_death(&self) -> Result<(), String> {
        let folder = crate::folder::fresh()?;
        let copy = folder.path().join("test.db");
        std::fs::copy(&self.path, &copy).map_err(|e| e.to_string())?;
        // Without a log nothing is in it.
        let _ = std::fs::copy(self.path.with_extension("db-wal"), copy.with_extension("db-wal"));
        let db = Client::open(&copy, true).map_err(|e| e.to_string())?;
        self.ledger.check(self.plan, &db)
    }

    fn close(&mut self) {
        self.db = None;
    }

    /// Everything that a store does, in a fixed order.
    pub fn work(&mut self) {
        for _ in 0..2 {
            self.write();
        }
        for operation in Operation::ALL {
            self.operate(operation);
            self.write();
        }
        self.close();
    }

    /// One operation, on an open store but for those that open it.
    pub fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::Write => self.write(),
            Operation::CheckpointRestart => self.checkpoint(CheckpointMode::Restart),
            Operation::CheckpointTruncate => self.checkpoint(CheckpointMode::Truncate),
            Operation::Vacuum => drop(self.with("vacuum", |db| db.maintain(Maintenance::Vacuum).map(drop))),
            Operation::Backup => self.backup(),
            Operation::Indexes => drop(self.with("indexes", |db| {
                let drops = ["DROP INDEX log_by_payload", "DROP INDEX routes_by_bits", "DROP INDEX rules_that_decide"];
                let makes = ["CREATE INDEX log_by_payload ON log (payload, part)"].into_iter().chain(indexes::schema());
                let makes = makes.filter(|sql| sql.starts_with("CREATE INDEX"));
                db.batch(drops.into_iter().chain(makes).map(|sql| db.item(sql, &[])).collect()).map(drop)
            })),
            Operation::Close => self.close(),
            Operation::Open => {
                self.close();
                self.open();
            }
        }
    }

    fn checkpoint(&mut self, mode: CheckpointMode) {
        self.with("checkpoint", |db| db.maintain(Maintenance::Checkpoint(mode)).map(drop));
    }

    /// To a file of its own, which is complete or not there.
    fn backup(&mut self) {
        let path = self.path.with_file_name("copy.db");
        let to = path.clone();
        let made = self.with("backup", |db| {
            let options = BackupOptions {
                path: to,
                overwrite: true,
                pages: 10,
                pause: Duration::ZERO,
                cancel: Cancel::default(),
                deadline: None,
            };
            db.store.backup(&options, &mut |_| {}).map(drop)
        });
        // Before the tables are made there is nothing to look for in it.
        if made && self.prepared {
            self.backed_up = Some(self.ledger.clone());
        }
    }

    /// The last backup that was acknowledged holds what was acknowledged before it, and no later one has damaged it.
    fn check_backup(&self) -> Result<(), String> {
        let Some(held) = &self.backed_up else { return Ok(()) };
        let db = Client::open(&self.path.with_file_name("copy.db"), true).map_err(|e| format!("the backup: {e}"))?;
        let mut held = held.clone();
        for (client, (_, most)) in &mut held.clients {
            // A backup that failed may have replaced it, with later writes in it.
            *most = self.ledger.clients.get(client).map_or(*most, |(_, most)| *most);
        }
        held.check(self.plan, &db).map_err(|what| format!("the backup: {what}"))
    }

    /// The disk works again. A store that is open goes on, unless it went read-only: then it is opened again.
    ///
    /// # Errors
    /// All that was wrong.
    pub fn recover(&mut self) -> Result<(), String> {
        self.may_be_unknown = Unknown::Never;
        for attempt in 0..2 {
            let before = self.refused;
            self.settle()?;
            self.write();
            if self.refused == before {
                break;
            }
            if attempt > 0 {
                self.wrong.push("the disk works again, but a store that was just opened cannot write".to_owned());
            }
            self.close();
        }
        self.settle()?;
        if let Some(db) = &self.db
            && let Err(what) = self.ledger.check(self.plan, db)
        {
            self.wrong.push(what);
        }
        self.close();
        if let Err(what) = self.check_backup() {
            self.wrong.push(what);
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(self.wrong.join("; ")) }
    }

    /// Opens, and finds out what became of commits whose outcome is unknown.
    fn settle(&mut self) -> Result<(), String> {
        if self.unknown.contains(&true) {
            self.close();
        }
        if !self.open() {
            return Err(format!("the disk works again, but the database cannot be opened: {}", self.wrong.join("; ")));
        }
        let Some(db) = &self.db else { return Ok(()) };
        for client in 0..CLIENTS {
            if std::mem::take(&mut self.unknown[client as usize]) {
                let (least, most) = self.ledger.clients.get(&client).copied().unwrap_or_default();
                let made = self.plan.check(db, client, least, most)?;
                self.ledger.acknowledged(client, made);
                if let Some(entry) = self.ledger.clients.get_mut(&client) {
                    entry.1 = made;
                }
                self.next[client as usize] = made + 1;
            }
        }
        Ok(())
    }
}

/// A second opinion: libfiu fails calls of the C library at random, in a process of its own.
pub fn second_opinion(seed: u64, rounds: u64, report: &mut Report) {
    let installed = Command::new("fiu-run").arg("-x").arg("true").stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        return report.skip("libfiu is not installed (Debian: fiu-utils); its second opinion is not heard".into());
    }
    let Ok(me) = std::env::current_exe() else {
        return report.skip("the harness does not find its own program".into());
    };
    let mut rng = Rng::with_seed(seed);
    let mut refused = 0;
    for round in 0..rounds {
        let of_round = seed.wrapping_add(round);
        let repeat = format!("io --seed {of_round} --fiu");
        let probability = [0.01, 0.05, 0.2][rng.usize(0..3)];
        let (no_space, broken) = (28, 5);
        let points = [
            ("rw/write", [no_space, broken][rng.usize(0..2)]),
            ("rw/pwrite", [no_space, broken][rng.usize(0..2)]),
            ("rw/ftruncate", broken),
            ("sync/fdatasync", broken),
            ("sync/fsync", broken),
            ("dir/unlink", broken),
            ("dir/rename", broken),
        ];
        let result = crate::folder::fresh().and_then(|folder| {
            let mut command = Command::new("fiu-run");
            command.arg("-x");
            for (point, error) in points {
                let what = format!("enable_random name=posix/io/{point},probability={probability},failinfo={error}");
                command.arg("-c").arg(what);
            }
            command
                .arg(&me)
                .arg("io-victim")
                .arg("--seed")
                .arg(of_round.to_string())
                .arg("--folder")
                .arg(folder.path());
            let out = command.stderr(Stdio::inherit()).output().map_err(|e| e.to_string())?;
            let text = String::from_utf8_lossy(&out.stdout);
            let Some(line) = text.lines().last().filter(|_| out.status.success()) else {
                return Err(format!("the process ended with {}", out.status));
            };
            refused += judge_victim(line, folder.path(), of_round)?;
            Ok(())
        });
        report.round(&repeat, result);
        if report.is_over() {
            return;
        }
    }
    report.detail("libfiu: calls refused", refused);
    if refused == 0 {
        report.round("io --fiu", Err("libfiu failed no call at all: its second opinion says nothing".into()));
    }
}

/// Does the work of [`second_opinion`], and says in one line what became of it.
pub fn victim(folder: &Path, seed: u64) -> String {
    let mut attack = Attack::new(folder, seed, Unknown::Anytime);
    // Looking at copies would fail here like everything else: the process that judges looks at what this one leaves.
    attack.deaths = MOST_DEATHS;
    attack.work();
    let clients: Vec<_> =
        attack.ledger.clients.iter().map(|(c, (least, most))| format!("{c},{least},{most}")).collect();
    format!("{};{};{}", clients.join(" "), attack.refused, attack.wrong.join(" | "))
}

fn judge_victim(line: &str, folder: &Path, seed: u64) -> Result<u32, String> {
    let parts: Vec<_> = line.splitn(3, ';').collect();
    let [clients, refused, wrong] = parts.as_slice() else { return Err(format!("the process said {line:?}")) };
    if !wrong.is_empty() {
        return Err((*wrong).to_owned());
    }
    let mut ledger = Ledger::default();
    for client in clients.split_whitespace() {
        let numbers: Vec<u32> = client.split(',').filter_map(|n| n.parse().ok()).collect();
        let [client, least, most] = numbers.as_slice() else { return Err(format!("the process said {line:?}")) };
        ledger.clients.insert(*client, (*least, *most));
    }
    let db = Client::open(&folder.join("test.db"), true).map_err(|e| e.to_string())?;
    if ledger.clients.is_empty() {
        work::integrity(&db)?;
    } else {
        ledger.check(Plan::new(seed), &db)?;
    }
    refused.parse().map_err(|_| format!("the process said {line:?}"))
}
