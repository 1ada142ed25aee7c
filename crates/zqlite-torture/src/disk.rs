//! Records what is done to files, and makes of it what a disk may hold after the power failed.
//!
//! The model of a disk: what was synced is there. Of what was written since, any part may be there: each write is torn into
//! sectors, of which any subset arrived, later ones perhaps and earlier ones not. A file is there for certain when the names
//! of its folder were synced after it was made; a removed or renamed one may still be there, or under its old name. Space
//! that a file grew by without its content arriving reads as zeros or as garbage. The index of the log (`-shm`) is memory:
//! nothing of it is promised, so it is missing, old, zeros or garbage.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use zqlite_store::fault::FileEvent;

use crate::vfs::{Call, Door, FileKind};

/// What happened, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A file was made.
    Made(PathBuf),
    /// Bytes were written at an offset.
    Written(PathBuf, u64, Arc<[u8]>),
    /// A file has another length.
    Truncated(PathBuf, u64),
    /// All that happened to the file before event `.1` is on disk.
    Synced(PathBuf, usize),
    /// A file was removed.
    Removed(PathBuf),
    /// A file has another name.
    Renamed(PathBuf, PathBuf),
    /// The names that the folder had at event `.1` are on disk.
    FolderSynced(PathBuf, usize),
    /// The index of a log, as it was.
    Index(PathBuf, Arc<[u8]>),
    /// A write of a client was begun.
    Begun(u32, u32),
    /// A write of a client was acknowledged.
    Acknowledged(u32, u32),
    /// A backup was acknowledged, which holds so many writes of each client.
    BackedUp(PathBuf, Vec<(u32, u32)>),
}

/// A door that lets everything pass and remembers it.
#[derive(Debug, Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    /// Calls of sync that are under way: how many events there were when they began.
    syncing: Mutex<BTreeMap<PathBuf, Vec<usize>>>,
}

impl Recorder {
    /// Adds an event of the workload itself.
    pub fn note(&self, event: Event) {
        self.events.lock().push(event);
    }

    /// All events.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }

    /// Takes in what the store did to files by other means than SQLite's.
    pub fn told(&self, event: &FileEvent<'_>) {
        let mut events = self.events.lock();
        let now = events.len();
        events.push(match event {
            FileEvent::Synced(path) => Event::Synced(path.to_path_buf(), now),
            FileEvent::Renamed(from, to) => Event::Renamed(from.to_path_buf(), to.to_path_buf()),
            FileEvent::FolderSynced(path) => Event::FolderSynced(path.to_path_buf(), now),
        });
    }

    fn sync_began(&self, path: &Path) -> usize {
        let mut syncing = self.syncing.lock();
        let began = syncing.get_mut(path).and_then(Vec::pop);
        began.unwrap_or(0)
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

impl Door for Recorder {
    fn before(&self, call: &Call<'_>) -> Result<(), c_int> {
        if let Call::Sync(path, ..) = call {
            let now = self.events.lock().len();
            // Of two at a time the later one may end first; the earlier beginning is then the careful guess.
            let mut syncing = self.syncing.lock();
            let began = syncing.entry(path.to_path_buf()).or_default();
            began.push(now);
            began.sort_unstable_by(|a, b| b.cmp(a));
        }
        Ok(())
    }

    fn after(&self, call: &Call<'_>) {
        let events = &mut *match call {
            Call::Sync(path, kind, folder_too) => {
                let began = self.sync_began(path);
                let index = std::fs::read(beside(path.with_extension("db").as_path(), "-shm")).ok();
                let mut events = self.events.lock();
                events.push(Event::Synced(path.to_path_buf(), began));
                if *folder_too {
                    events.push(Event::FolderSynced(folder(path), began));
                }
                if *kind == FileKind::Log
                    && let Some(index) = index
                {
                    events.push(Event::Index(beside(&path.with_extension("db"), "-shm"), index.into()));
                }
                return;
            }
            _ => self.events.lock(),
        };
        let now = events.len();
        match *call {
            Call::Open(path, _) => events.push(Event::Made(path.to_owned())),
            Call::Write(path, at, bytes) => events.push(Event::Written(path.to_owned(), at, bytes.into())),
            Call::Truncate(path, length) => events.push(Event::Truncated(path.to_owned(), length)),
            Call::Delete(path, synced) => {
                events.push(Event::Removed(path.to_owned()));
                if synced {
                    events.push(Event::FolderSynced(folder(path), now + 1));
                }
            }
            Call::Sync(..) | Call::ShmMap(_) | Call::Size(..) => {}
        }
    }
}

/// A file's content: what is on disk for certain, and what was done since.
#[derive(Debug, Clone, Default)]
struct Content {
    synced: Vec<u8>,
    pending: Vec<(usize, Change)>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Arc<[u8]>),
    Truncate(u64),
}

fn write(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let (at, end) = (at as usize, at as usize + bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => write(content, *at, bytes),
            Self::Truncate(length) => content.resize(*length as usize, 0),
        }
    }
}

/// What happened to the names of files since their folder was last synced.
#[derive(Debug, Clone)]
enum Renaming {
    Made(PathBuf, u64),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf),
}

/// A disk on its way through the events.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: BTreeMap<u64, Content>,
    /// Names as a running system sees them, and as they are on disk for certain.
    names: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    renamings: Vec<(usize, Renaming)>,
    indexes: BTreeMap<PathBuf, Vec<Arc<[u8]>>>,
    next: u64,
    at: usize,
}

/// Sectors whose parts arrive as a whole or not at all, in bytes.
const SECTORS: [usize; 2] = [512, 4096];

impl Disk {
    fn number(&mut self, path: &Path) -> u64 {
        if let Some(number) = self.names.get(path) {
            return *number;
        }
        self.next += 1;
        self.names.insert(path.to_owned(), self.next);
        self.renamings.push((self.at, Renaming::Made(path.to_owned(), self.next)));
        self.next
    }

    fn rename(names: &mut BTreeMap<PathBuf, u64>, renaming: &Renaming) {
        match renaming {
            Renaming::Made(path, number) => drop(names.insert(path.clone(), *number)),
            Renaming::Removed(path) => drop(names.remove(path)),
            Renaming::Renamed(from, to) => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
        }
    }

    /// Lets one event happen.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Made(path) => drop(self.number(path)),
            Event::Written(path, at, bytes) => {
                let number = self.number(path);
                let change = (self.at, Change::Write(*at, bytes.clone()));
                self.files.entry(number).or_default().pending.push(change);
            }
            Event::Truncated(path, length) => {
                let number = self.number(path);
                self.files.entry(number).or_default().pending.push((self.at, Change::Truncate(*length)));
            }
            Event::Synced(path, began) => {
                let number = self.number(path);
                let content = self.files.entry(number).or_default();
                let until = content.pending.iter().position(|(at, _)| at >= began).unwrap_or(content.pending.len());
                for (_, change) in content.pending.drain(..until) {
                    change.apply(&mut content.synced);
                }
            }
            Event::Removed(path) => {
                self.names.remove(path);
                self.renamings.push((self.at, Renaming::Removed(path.clone())));
            }
            Event::Renamed(from, to) => {
                let renaming = Renaming::Renamed(from.clone(), to.clone());
                Self::rename(&mut self.names, &renaming);
                self.renamings.push((self.at, renaming));
            }
            Event::FolderSynced(_, began) => {
                // All files are in one folder.
                let until = self.renamings.iter().position(|(at, _)| at >= began).unwrap_or(self.renamings.len());
                for (_, renaming) in self.renamings.drain(..until) {
                    Self::rename(&mut self.durable, &renaming);
                }
            }
            Event::Index(path, bytes) => self.indexes.entry(path.clone()).or_default().push(bytes.clone()),
            Event::Begun(..) | Event::Acknowledged(..) | Event::BackedUp(..) => {}
        }
        self.at += 1;
    }

    /// The files as the disk may hold them if the power fails now.
    pub fn crash(&self, rng: &mut Rng) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut names = self.durable.clone();
        // A journalling file system keeps the order of its names: some first part of it has arrived.
        let arrived = if self.renamings.is_empty() { 0 } else { rng.usize(0..=self.renamings.len()) };
        for (_, renaming) in &self.renamings[..arrived] {
            Self::rename(&mut names, renaming);
        }
        let mut image: BTreeMap<_, _> =
            names.into_iter().map(|(path, number)| (path, self.content(number, rng))).collect();
        for (path, indexes) in &self.indexes {
            let old = indexes.get(rng.usize(0..indexes.len())).map(|i| i.to_vec()).unwrap_or_default();
            match rng.u8(0..5) {
                0 => continue,
                1 | 2 => image.insert(path.clone(), old),
                3 => image.insert(path.clone(), vec![0; old.len()]),
                _ => image.insert(path.clone(), garbage(old.len(), rng)),
            };
        }
        image
    }

    fn content(&self, number: u64, rng: &mut Rng) -> Vec<u8> {
        let Some(file) = self.files.get(&number) else { return Vec::new() };
        let mut content = file.synced.clone();
        let sector = SECTORS[rng.usize(0..SECTORS.len())];
        // From all to nothing: a failure soon after a write leaves little of it, a late one much.
        let share = [0.0, 0.1, 0.5, 0.9, 1.0][rng.usize(0..5)];
        let grown = rng.bool();
        for (_, change) in &file.pending {
            let Change::Write(at, bytes) = change else {
                if rng.f64() < share {
                    change.apply(&mut content);
                }
                continue;
            };
            let mut from = 0;
            while from < bytes.len() {
                let at = *at as usize + from;
                let to = (from + sector - at % sector).min(bytes.len());
                if rng.f64() < share {
                    write(&mut content, at as u64, &bytes[from..to]);
                } else if grown && content.len() < at + to - from {
                    // The length has arrived, the content has not.
                    let hole = at + to - from - content.len();
                    let fill = if rng.bool() { vec![0; hole] } else { garbage(hole, rng) };
                    content.extend(fill);
                }
                from = to;
            }
        }
        content
    }
}

fn garbage(length: usize, rng: &mut Rng) -> Vec<u8> {
    (0..length).map(|_| rng.u8(..)).collect()
}

/// Writes an image into a folder, under the files' own names.
///
/// # Errors
/// Those of the file system.
pub fn lay_out(image: &BTreeMap<PathBuf, Vec<u8>>, to: &Path) -> io::Result<()> {
    for (path, content) in image {
        if let Some(name) = path.file_name() {
            std::fs::write(to.join(name), content)?;
        }
    }
    Ok(())
}
