//! `power`: the power fails at any moment. Work is recorded, disks are made of it that a failure may have left behind, and
//! each must open, pass the integrity check, hold every acknowledged write, and take new ones.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fastrand::Rng;
use zqlite_store::fault::{self, Weakness};
use zqlite_store::{BackupOptions, Cancel};

use crate::client::Client;
use crate::disk::{self, Disk, Event, Recorder};
use crate::report::Report;
use crate::vfs;
use crate::work::{self, Ledger, Plan};

/// Images made of one recording.
const IMAGES_PER_RECORDING: u64 = 50;
const CLIENTS: u32 = 3;
/// Times that the database is opened in one recording.
const SESSIONS: u32 = 3;
const WRITES_PER_SESSION: u32 = 12;
const BACKUP: &str = "copy.db";

/// Makes and judges `images` crash images; the seed decides on the work, on where it ends and on what arrived.
pub fn run(images: u64, seed: u64, report: &mut Report) {
    let mut made = 0;
    while made < images && !report.is_over() {
        // An image is repeated by its own seed: the recording is that of its first image.
        let of_recording = seed.wrapping_add(made);
        let share = IMAGES_PER_RECORDING.min(images - made);
        match record(of_recording, Weakness::None) {
            Ok(events) => {
                for (i, judged) in judge_all(&events, of_recording, share) {
                    report.round(&format!("power --seed {of_recording} --image {i}"), judged);
                }
            }
            Err(what) => report.round(&format!("power --seed {of_recording}"), Err(what)),
        }
        made += share;
    }
}

/// Judges the first `share` images of a recording, several at a time.
fn judge_all(events: &[Event], seed: u64, share: u64) -> Vec<(u64, Result<(), String>)> {
    let next = AtomicU64::new(0);
    // An image is opened by threads that wait for each other, so a core has time for two.
    let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let mut judged: Vec<_> = std::thread::scope(|scope| {
        let some = || {
            let images = std::iter::from_fn(|| Some(next.fetch_add(1, Relaxed)).filter(|i| *i < share));
            images.map(|i| (i, judge(events, seed, i))).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_default()).collect()
    });
    judged.sort_by_key(|(i, _)| *i);
    // A thread that panicked took its answers along.
    for i in 0..share {
        if judged.get(i as usize).is_none_or(|(number, _)| *number != i) {
            judged.insert(i as usize, (i, Err("the look at it panicked".to_owned())));
        }
    }
    judged
}

/// Judges one image again.
pub fn repeat(seed: u64, image: u64, report: &mut Report) {
    let judged = record(seed, Weakness::None).and_then(|events| judge(&events, seed, image));
    report.round(&format!("power --seed {seed} --image {image}"), judged);
}

/// The control: with `synchronous=OFF` acknowledged writes must be found missing.
pub fn control(seed: u64, report: &mut Report) {
    let noticed = record(seed, Weakness::SynchronousOff).and_then(|events| {
        let losses = (0..IMAGES_PER_RECORDING).filter_map(|i| judge(&events, seed, i).err().map(|what| (i, what)));
        let mut losses = losses.filter(|(_, what)| what.contains("was acknowledged"));
        losses.next().map(|(i, what)| format!("image {i}: {what}")).ok_or("no image showed a loss".to_owned())
    });
    report.control("power: synchronous=OFF", noticed);
}

/// Does work and returns all that happened.
fn record(seed: u64, weakness: Weakness) -> Result<Vec<Event>, String> {
    let folder = crate::folder::fresh()?;
    let recorder = Arc::new(Recorder::default());
    vfs::set_door(Some(recorder.clone()));
    let observer = recorder.clone();
    fault::observe(move |event| observer.told(event));
    fault::set_weakness(weakness);
    let done = sessions(folder.path(), seed, &recorder);
    fault::set_weakness(Weakness::None);
    vfs::set_door(None);
    fault::observe(|_| {});
    done.map_err(|e| format!("the work itself failed: {e}"))?;
    Ok(recorder.take())
}

fn sessions(folder: &Path, seed: u64, recorder: &Recorder) -> Result<(), zqlite_store::Error> {
    let plan = Plan::new(seed);
    let path = folder.join("test.db");
    for session in 0..SESSIONS {
        let client = Client::open(&path, !seed.is_multiple_of(5))?;
        if session == 0 {
            work::prepare(&client)?;
        }
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in 0..CLIENTS {
                let by = client.other();
                threads.push(scope.spawn(move || {
                    for n in session * WRITES_PER_SESSION + 1..=(session + 1) * WRITES_PER_SESSION {
                        recorder.note(Event::Begun(number, n));
                        plan.write(&by, number, n)?;
                        recorder.note(Event::Acknowledged(number, n));
                    }
                    Ok(())
                }));
            }
            let by = client.other();
            threads.push(scope.spawn(move || {
                let mut rng = Rng::with_seed(seed ^ u64::from(session) << 40);
                for _ in 0..4 {
                    by.maintain(work::maintenance(&mut rng))?;
                    std::thread::sleep(std::time::Duration::from_millis(rng.u64(0..4)));
                }
                Ok(())
            }));
            threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(panicked())))
        })?;
        let options = BackupOptions {
            path: folder.join(BACKUP),
            overwrite: true,
            pages: 10,
            pause: std::time::Duration::ZERO,
            cancel: Cancel::default(),
            deadline: None,
        };
        client.store.backup(&options, &mut |_| {})?;
        let made = (session + 1) * WRITES_PER_SESSION;
        recorder.note(Event::BackedUp(options.path, (0..CLIENTS).map(|number| (number, made)).collect()));
    }
    Ok(())
}

fn panicked() -> zqlite_store::Error {
    zqlite_store::Error::new(zqlite_store::ErrorCode::Internal, "a client panicked")
}

/// Makes image number `image` of a recording, and looks at it.
fn judge(events: &[Event], seed: u64, image: u64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed ^ image << 20 ^ 0xd15c);
    let end = rng.usize(1..=events.len());
    let mut disk = Disk::default();
    let mut ledger = Ledger::default();
    let mut backup = None;
    for event in &events[..end] {
        disk.apply(event);
        match event {
            Event::Begun(client, n) => ledger.begun(*client, *n),
            Event::Acknowledged(client, n) => ledger.acknowledged(*client, *n),
            Event::BackedUp(_, made) => backup = Some(made),
            _ => {}
        }
    }
    if std::env::var_os("TORTURE_TRACE").is_some() {
        eprintln!("image {image}: {end} of {} events, {ledger:?}", events.len());
    }
    let folder = crate::folder::fresh()?;
    disk::lay_out(&disk.crash(&mut rng), folder.path()).map_err(|e| e.to_string())?;
    let plan = Plan::new(seed);
    let path = folder.path().join("test.db");
    let begun = ledger.clients.values().any(|(_, begun)| *begun > 0);
    look(&path, plan, &ledger, begun).map_err(|what| format!("power failed after event {end}: {what}"))?;
    // The first backup replaces nothing; a later one replaces one that is as good.
    if let Some(made) = backup {
        let mut held = Ledger::default();
        for (client, n) in made {
            held.acknowledged(*client, *n);
            held.begun(*client, SESSIONS * WRITES_PER_SESSION);
        }
        let path = folder.path().join(BACKUP);
        look(&path, plan, &held, true).map_err(|what| format!("power failed after event {end}: the backup: {what}"))?;
    }
    Ok(())
}

/// Opens what is left, compares it, and writes to it.
fn look(path: &Path, plan: Plan, ledger: &Ledger, prepared: bool) -> Result<(), String> {
    let told = |e: zqlite_store::Error| e.to_string();
    if !prepared {
        let db = Client::open(path, true).map_err(told)?;
        return work::integrity(&db);
    }
    for _ in 0..2 {
        // The second time after a clean end, which moves the log into the file.
        let db = Client::open(path, true).map_err(told)?;
        ledger.check(plan, &db)?;
        db.sql("CREATE TABLE IF NOT EXISTS after (n)", &[]).map_err(told)?;
        db.sql("INSERT INTO after VALUES (1)", &[]).map_err(told)?;
    }
    Ok(())
}
