//! Settings that can be changed while the database is open: the pragmas whose names begin with `zqlite_`.
//!
//! SQLite ignores a pragma that it does not know, so these are taken out before it sees them, and one that is misspelled is
//! an error. A change reaches each connection before its next statement.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::connection::Role;
use crate::{Error, ErrorCode, Options, Result};

/// What can be set, with what it holds.
const SETTINGS: [(&str, Name); 7] = [
    ("zqlite_cache_size", Name::CacheSize),
    ("zqlite_parallel_writes", Name::ParallelWrites),
    ("zqlite_mesh_optimization", Name::MeshOptimization),
    ("zqlite_rtree", Name::Rtree),
    ("zqlite_bitmap", Name::Bitmap),
    ("zqlite_cidr", Name::Cidr),
    ("zqlite_acl", Name::Acl),
];

/// Bytes of the file that each connection maps under `zqlite_mesh_optimization`: point reads of a database that fits
/// memory then need no read(2).
const MESH_MMAP: i64 = 1 << 30;
/// The least cache under `zqlite_mesh_optimization`, in bytes.
const MESH_CACHE: u64 = 256 << 20;

/// The name of a pragma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    CacheSize,
    ParallelWrites,
    MeshOptimization,
    Rtree,
    Bitmap,
    Cidr,
    Acl,
}

/// A pragma whose name begins with `zqlite_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pragma {
    name: String,
    value: Option<String>,
    /// What stands behind the name and is no value.
    excess: Option<String>,
}

impl Pragma {
    /// `None` when `sql` is anything else.
    pub(crate) fn parse(sql: &str) -> Option<Self> {
        let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').count();
        let rest = skip_space(sql);
        let rest = rest.get(..6).filter(|w| w.eq_ignore_ascii_case("pragma")).and_then(|_| rest.get(6..))?;
        let after = skip_space(rest);
        if after.len() == rest.len() {
            return None;
        }
        let rest = after;
        let name = rest.get(..word(rest))?.to_ascii_lowercase();
        if !name.starts_with("zqlite_") {
            return None;
        }
        let rest = rest.get(name.len()..)?.trim().trim_end_matches(';').trim_end();
        let value = rest.strip_prefix('=').or_else(|| rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')));
        let value = match value {
            Some(value) => Some(value.trim().trim_matches(['\'', '"']).to_owned()),
            None if rest.is_empty() => None,
            None => return Some(Self { name, value: None, excess: Some(rest.to_owned()) }),
        };
        Some(Self { name, value, excess: None })
    }

    /// Whether it changes something.
    pub(crate) fn writes(&self) -> bool {
        self.value.is_some()
    }

    pub(crate) fn column(&self) -> &str {
        &self.name
    }
}

/// Whether a pragma is zqlite's and not SQLite's.
pub(crate) fn is_own(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("zqlite_"))
}

/// The settings of an open store.
#[derive(Debug)]
pub(crate) struct Settings {
    parallel_writes: AtomicBool,
    wanted: Mutex<Wanted>,
    /// The version of `wanted`, so that a lane that has taken it over need not lock it before each of its statements.
    version: AtomicU64,
}

/// What connections are to have.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// Of all of them together, in bytes.
    cache_size: u64,
    mesh: bool,
    /// Grows with every change; 0 is what they were opened with.
    version: u64,
}

/// What a connection has taken over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Applied {
    version: u64,
    /// Under `zqlite_mesh_optimization`: the `mmap_size` that the connection had before.
    mmap_before: Option<i64>,
}

impl Settings {
    /// As the options say, those of zqlite's own among `pragmas` included.
    ///
    /// # Errors
    /// `ERR_TYPE` naming the pragma that is misspelled or has a wrong value.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let settings = Self {
            parallel_writes: AtomicBool::new(options.parallel_writes),
            wanted: Mutex::new(Wanted { cache_size: options.cache_size, mesh: false, version: 0 }),
            version: AtomicU64::new(0),
        };
        for (name, value) in options.setup.pragmas.iter().filter(|(name, _)| is_own(name)) {
            let pragma = Pragma { name: name.to_ascii_lowercase(), value: Some(value.clone()), excess: None };
            settings.run(&pragma).map_err(|e| Error::new(ErrorCode::Type, format!("pragmas.{name}: {}", e.message)))?;
        }
        Ok(settings)
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        let mut wanted = self.wanted.lock();
        change(&mut wanted);
        wanted.version += 1;
        self.version.store(wanted.version, Relaxed);
    }

    /// How many members a commit may have.
    pub(crate) fn group_limit(&self, max: usize) -> usize {
        if self.parallel_writes.load(Relaxed) { max } else { 1 }
    }

    /// Has a connection of that role take over what changed since it last did.
    pub(crate) fn bring(
        &self,
        connection: &Connection,
        options: &Options,
        role: Role,
        has: &mut Applied,
    ) -> rusqlite::Result<()> {
        // Who was handed a statement after a change was answered sees it, since the hand-over is a lock.
        if self.version.load(Relaxed) == has.version {
            return Ok(());
        }
        let Wanted { cache_size, mesh, version } = *self.wanted.lock();
        // Also when it fails: it would fail before each statement.
        has.version = version;
        let bytes = if mesh { cache_size.max(MESH_CACHE) } else { cache_size };
        connection.pragma_update(None, "cache_size", -options.cache_kib(role, bytes))?;
        match (mesh, has.mmap_before) {
            (true, None) => {
                has.mmap_before = connection.pragma_query_value(None, "mmap_size", |row| row.get(0)).ok();
                connection.pragma_update(None, "mmap_size", MESH_MMAP)
            }
            (false, Some(before)) => {
                has.mmap_before = None;
                connection.pragma_update(None, "mmap_size", before)
            }
            _ => Ok(()),
        }
    }

    /// Does what the pragma asks and returns the value that then holds.
    ///
    /// # Errors
    /// `ERR_SQL` for a name that is misspelled, a value that cannot be, and what only reports.
    pub(crate) fn run(&self, pragma: &Pragma) -> Result<i64> {
        let known = SETTINGS.iter().find(|(name, _)| *name == pragma.name);
        let Some((_, name)) = known else {
            let near =
                SETTINGS.iter().min_by_key(|(name, _)| distance(name, &pragma.name)).map_or("", |(name, _)| name);
            let message = format!("there is no pragma {}; did you mean {near}?", pragma.name);
            return Err(Error::new(ErrorCode::Sql, message));
        };
        if let Some(excess) = &pragma.excess {
            let message = format!("{}: {excess:?} is not understood; a value follows = or stands in ()", pragma.name);
            return Err(Error::new(ErrorCode::Sql, message));
        }
        if let Some(value) = &pragma.value {
            let wrong =
                |wanted: &str| Error::new(ErrorCode::Sql, format!("{}: {value:?} is not {wanted}", pragma.name));
            match name {
                Name::CacheSize => {
                    let bytes: u64 = value.parse().map_err(|_| wrong("a number of bytes"))?;
                    if !(64 << 10..=1 << 50).contains(&bytes) {
                        return Err(wrong("from 65536 to 2^50 bytes"));
                    }
                    self.want(|wanted| wanted.cache_size = bytes);
                }
                Name::ParallelWrites => {
                    self.parallel_writes.store(switch(value).ok_or_else(|| wrong("on or off"))?, Relaxed)
                }
                Name::MeshOptimization => {
                    let mesh = switch(value).ok_or_else(|| wrong("on or off"))?;
                    self.want(|wanted| wanted.mesh = mesh);
                }
                Name::Rtree | Name::Bitmap | Name::Cidr | Name::Acl => {
                    let message = format!("{} only reports what is available; it cannot be set", pragma.name);
                    return Err(Error::new(ErrorCode::Sql, message));
                }
            }
        }
        Ok(match name {
            Name::CacheSize => self.wanted.lock().cache_size.cast_signed(),
            Name::ParallelWrites => self.parallel_writes.load(Relaxed).into(),
            Name::MeshOptimization => self.wanted.lock().mesh.into(),
            Name::Rtree | Name::Bitmap | Name::Cidr | Name::Acl => 1,
        })
    }
}

/// What stands behind white space and comments.
pub(crate) fn skip_space(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start();
        let end = if sql.starts_with("--") {
            sql.find('\n').map(|end| end + 1)
        } else if sql.starts_with("/*") {
            sql.get(2..).and_then(|text| text.find("*/")).map(|end| end + 4)
        } else {
            return sql;
        };
        sql = end.and_then(|end| sql.get(end..)).unwrap_or_default();
    }
}

fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" => Some(true),
        "0" | "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// The Levenshtein distance of two short names.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (before + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            before = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(settings: &Settings, sql: &str) -> Result<i64> {
        settings.run(&Pragma::parse(sql).unwrap())
    }

    #[test]
    fn what_is_set_reads_back() {
        let settings = Settings::new(&Options::default()).unwrap();
        assert_eq!(run(&settings, "PRAGMA zqlite_cache_size = 536870912").unwrap(), 536_870_912);
        assert_eq!(run(&settings, " pragma ZQLITE_CACHE_SIZE;").unwrap(), 536_870_912);
        assert_eq!(run(&settings, "-- c\n/* d */PRAGMA/**/zqlite_parallel_writes(off)").unwrap(), 0);
        assert_eq!(settings.group_limit(9), 1);
        assert_eq!(run(&settings, "PRAGMA zqlite_mesh_optimization = 'on'").unwrap(), 1);
    }

    #[test]
    fn a_connection_takes_over_what_changed_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("t.db")).unwrap();
        connection.pragma_update(None, "mmap_size", 4_096_000).unwrap();
        let options = Options { path: Some("t.db".into()), ..Options::default() };
        let settings = Settings::new(&options).unwrap();
        let mut has = Applied::default();
        let mut after = |sql: &str| -> (i64, i64) {
            run(&settings, sql).unwrap();
            settings.bring(&connection, &options, Role::Reader, &mut has).unwrap();
            let value = |name| connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            (value("cache_size"), value("mmap_size"))
        };
        let cache = |bytes| -options.cache_kib(Role::Reader, bytes);
        assert_eq!(after("PRAGMA zqlite_parallel_writes"), (-2000, 4_096_000));
        assert_eq!(after("PRAGMA zqlite_cache_size = 8388608"), (cache(8 << 20), 4_096_000));
        assert_eq!(after("PRAGMA zqlite_mesh_optimization = on"), (cache(MESH_CACHE), MESH_MMAP));
        assert_eq!(after("PRAGMA zqlite_mesh_optimization = off"), (cache(8 << 20), 4_096_000));
    }

    #[test]
    fn a_wrong_name_or_value_is_told() {
        let settings = Settings::new(&Options::default()).unwrap();
        let error = run(&settings, "PRAGMA zqlite_cachesize = 1").unwrap_err();
        assert!(error.message.contains("did you mean zqlite_cache_size"), "{error}");
        for sql in [
            "PRAGMA zqlite_cache_size = lots",
            "PRAGMA zqlite_cache_size = 5",
            "PRAGMA zqlite_rtree = 1",
            "PRAGMA zqlite_parallel_writes 0",
            "PRAGMA zqlite_parallel_writes(0",
        ] {
            assert_eq!(run(&settings, sql).map_err(|e| e.code), Err(ErrorCode::Sql), "{sql}");
        }
        assert_eq!(settings.group_limit(9), 9);
    }

    #[test]
    fn a_comment_ends_behind_its_beginning() {
        for (sql, rest) in
            [("/**/a", "a"), ("/*/ a", ""), ("/*/ a */b", "b"), ("/* a", ""), ("/*", ""), ("--/*\n/***/ c", "c")]
        {
            assert_eq!(skip_space(sql), rest, "{sql}");
        }
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in ["PRAGMA cache_size", "pragmazqlite_rtree", "SELECT 1", "PRAGMA", "", "PRAGMA é"] {
            assert_eq!(Pragma::parse(sql), None, "{sql}");
        }
    }
}
