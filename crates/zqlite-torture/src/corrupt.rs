//! `corrupt`: bytes change in any region of the database and its log. Every answer is right or a typed error, nothing
//! crashes or hangs, and nothing is wrong where a checksum or the integrity check can tell.
//!
//! What can tell: the log has checksums, so a damaged log gives a state that the database once had, as after a crash. The
//! database file has none. A changed byte in the middle of a value reads as another value, which no check of SQLite's
//! notices; such rounds are counted.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;
use zqlite_store::{CheckpointMode, Maintenance};

use crate::client::Client;
use crate::indexes;
use crate::report::Report;
use crate::work::{self, Plan};

const CLIENTS: u32 = 2;
const WRITES: u32 = 14;

/// An intact database, with part of it in the log.
struct Original {
    _folder: tempfile::TempDir,
    database: Vec<u8>,
    log: Vec<u8>,
    /// The database with everything in it, and the log empty: no page of it is covered by a newer one.
    settled: Vec<u8>,
    /// Writes of each client at every moment since the last checkpoint.
    moments: Vec<[u32; CLIENTS as usize]>,
}

impl Original {
    fn make(plan: Plan) -> Result<Self, String> {
        let told = |e: zqlite_store::Error| e.to_string();
        let folder = crate::folder::fresh()?;
        let path = folder.path().join("test.db");
        let db = Client::open(&path, true).map_err(told)?;
        work::prepare(&db).map_err(told)?;
        let mut moments = vec![[0; CLIENTS as usize]];
        for n in 1..=WRITES {
            for client in 0..CLIENTS {
                plan.write(&db, client, n).map_err(told)?;
                let mut now = moments.last().copied().unwrap_or_default();
                now[client as usize] = n;
                moments.push(now);
            }
            if n == WRITES / 2 {
                db.maintain(Maintenance::Checkpoint(CheckpointMode::Truncate)).map_err(told)?;
                moments.drain(..moments.len() - 1);
            }
        }
        let read = |path: PathBuf| std::fs::read(path).map_err(|e| e.to_string());
        let (database, log) = (read(path.clone())?, read(path.with_extension("db-wal"))?);
        db.maintain(Maintenance::Checkpoint(CheckpointMode::Truncate)).map_err(told)?;
        let settled = read(path)?;
        Ok(Self { _folder: folder, database, log, settled, moments })
    }
}

/// Where bytes change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Region {
    DatabaseHeader,
    /// The pages that say what tables and indexes there are, those of zqlite's own kinds included.
    Definitions,
    Database,
    LogHeader,
    Log,
}

impl Region {
    const ALL: [Self; 5] = [Self::DatabaseHeader, Self::Definitions, Self::Database, Self::LogHeader, Self::Log];

    fn is_log(self) -> bool {
        matches!(self, Self::LogHeader | Self::Log)
    }

    /// Where it lies in the file.
    fn place(self, bytes: &[u8], rng: &mut Rng) -> Range<usize> {
        let within = |end: usize| 0..bytes.len().min(end);
        match self {
            Self::DatabaseHeader => within(100),
            Self::LogHeader => within(32),
            Self::Database | Self::Log => within(usize::MAX),
            Self::Definitions => {
                let has_some = |page: &&[u8]| page.windows(7).any(|word| word == b"CREATE ");
                let pages = bytes.chunks(PAGE).enumerate().filter(|(_, page)| has_some(page));
                let first = |at: usize| at * PAGE..bytes.len().min((at + 1) * PAGE);
                let places: Vec<_> = std::iter::once(0).chain(pages.map(|(at, _)| at)).map(first).collect();
                places[rng.usize(0..places.len())].clone()
            }
        }
    }
}

/// Bytes of a page, as SQLite makes them.
const PAGE: usize = 4096;

/// Changes some bytes.
fn damage(bytes: &mut Vec<u8>, region: Region, rng: &mut Rng) {
    let place = region.place(bytes, rng);
    if place.is_empty() {
        return;
    }
    let any = |rng: &mut Rng| rng.usize(place.clone());
    match rng.u8(0..8) {
        0..=3 => bytes[any(rng)] ^= 1 << rng.u8(0..8),
        4 | 5 => {
            for _ in 0..rng.u8(2..16) {
                bytes[any(rng)] = rng.u8(..);
            }
        }
        6 => {
            let from = any(rng);
            bytes[from..place.end.min(from + 512)].fill(0);
        }
        _ => bytes.truncate(any(rng)),
    }
}

/// Damages `rounds` copies, in a process of its own that may crash.
pub fn run(rounds: u64, seed: u64, report: &mut Report) {
    let (mut next, mut refused, mut blind) = (0, 0, 0);
    while next < rounds && !report.is_over() {
        match batch(seed, next, rounds, report) {
            Ok(batch) => {
                next = batch.next;
                refused += batch.refused;
                blind += batch.blind;
            }
            Err(what) => return report.round(&format!("corrupt --seed {seed}"), Err(what)),
        }
    }
    report.detail("answered with an error", refused);
    report.detail("changed values that no check can tell", blind);
}

/// What a process did before it ended.
struct Batch {
    next: u64,
    refused: u64,
    blind: u64,
}

/// Runs the rounds from `from` until the process ends.
fn batch(seed: u64, from: u64, rounds: u64, report: &mut Report) -> Result<Batch, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(me)
        .args([
            "corrupt-victim",
            "--seed",
            &seed.to_string(),
            "--from",
            &from.to_string(),
            "--rounds",
            &rounds.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut done = Batch { next: from, refused: 0, blind: 0 };
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let Some((number, what)) = line.split_once(' ') else { continue };
            done.next = number.parse::<u64>().map_err(|e| e.to_string())? + 1;
            done.refused += u64::from(what == "error");
            done.blind += u64::from(what == "blind");
            let result = if matches!(what, "right" | "error" | "blind") { Ok(()) } else { Err(what.to_owned()) };
            report.round(&format!("corrupt --seed {seed} --round {number}"), result);
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        let what = format!("the process ended with {status}");
        report.round(&format!("corrupt --seed {seed} --round {}", done.next), Err(what));
        done.next += 1;
    }
    Ok(done)
}

/// Does rounds, and writes a line about each.
///
/// # Errors
/// When there is nothing to damage.
pub fn victim(seed: u64, from: u64, to: u64) -> Result<(), String> {
    let plan = Plan::new(seed);
    let original = Original::make(plan)?;
    let mut out = std::io::stdout();
    for round in from..to {
        let what = match one(&original, plan, seed, round) {
            Ok(what) => what.to_owned(),
            Err(what) => what.replace('\n', " "),
        };
        writeln!(out, "{round} {what}").map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// One round; returns whether the answers were right, errors, or wrong where no check can tell.
fn one(original: &Original, plan: Plan, seed: u64, round: u64) -> Result<&'static str, String> {
    let mut rng = Rng::with_seed(seed ^ round << 16 ^ 0xbad);
    let region = Region::ALL[rng.usize(0..Region::ALL.len())];
    let folder = crate::folder::fresh()?;
    let path = folder.path().join("test.db");
    let (mut database, mut log) = match !region.is_log() && rng.bool() {
        true => (original.settled.clone(), Vec::new()),
        false => (original.database.clone(), original.log.clone()),
    };
    damage(if region.is_log() { &mut log } else { &mut database }, region, &mut rng);
    std::fs::write(&path, database).map_err(|e| e.to_string())?;
    std::fs::write(path.with_extension("db-wal"), log).map_err(|e| e.to_string())?;
    look(&path, plan, original, region).map_err(|what| format!("{region:?}: {what}"))
}

fn look(path: &Path, plan: Plan, original: &Original, region: Region) -> Result<&'static str, String> {
    let typed = |what: String| match what.contains("ERR_") && !what.contains("ERR_INTERNAL") {
        true => Ok(()),
        false => Err(what),
    };
    let db = match Client::open(path, true) {
        Ok(db) => db,
        Err(error) => return typed(error.to_string()).map(|()| "error"),
    };
    let sound = work::integrity(&db);
    let mut found = [0; CLIENTS as usize];
    let mut wrong = Vec::new();
    let mut refused = false;
    for client in 0..CLIENTS {
        match plan.check(&db, client, 0, WRITES) {
            Ok(made) => found[client as usize] = made,
            Err(what) if what.contains("ERR_") => {
                refused = true;
                typed(what)?;
            }
            Err(what) => wrong.push(what),
        }
    }
    match indexes::check(&db) {
        Ok(()) => {}
        Err(what) if what.contains("ERR_") => {
            refused = true;
            typed(what)?;
        }
        Err(what) => wrong.push(what),
    }
    // Writing to it ends in one way or the other.
    if let Err(error) = plan.write(&db, CLIENTS + 1, 1) {
        typed(error.to_string())?;
    }
    drop(db);
    if refused || sound.is_err() {
        return Ok("error");
    }
    let once = original.moments.contains(&found);
    match (wrong.is_empty(), region.is_log()) {
        (true, true) if once => Ok("right"),
        (true, false) if original.moments.last() == Some(&found) || region != Region::Database && once => Ok("right"),
        (_, true) => Err(format!("the log's checksums did not tell: {found:?}; {}", wrong.join("; "))),
        _ => Ok("blind"),
    }
}
