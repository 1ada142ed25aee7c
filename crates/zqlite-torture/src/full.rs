//! A file system that is full, in the middle of everything that a store does: a small tmpfs is filled to the last bytes
//! before each operation, with more and more left until it succeeds; space returns, and the same store goes on.

use std::path::Path;
use std::process::Command;

use crate::io::{Attack, Operation, Unknown};
use crate::report::Report;

/// Of the file system, in KiB.
const SIZE: u64 = 8192;

/// A tmpfs, until dropped.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={SIZE}k"), "tmpfs"]).arg(folder.path());
        match command.output() {
            Ok(out) if out.status.success() => Ok(Self { folder }),
            Ok(out) => Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

/// Leaves so many KiB free.
fn fill(folder: &Path, leave: u64) -> Result<(), String> {
    let out = Command::new("df").args(["--output=avail", "-k"]).arg(folder).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout);
    let free: u64 = text.lines().nth(1).and_then(|l| l.trim().parse().ok()).ok_or("df says nothing")?;
    let filler = vec![1; (free.saturating_sub(leave) * 1024) as usize];
    std::fs::write(folder.join("filler"), filler).map_err(|e| e.to_string())
}

/// What is left, in KiB: every page at first, then more at a time, up to enough for everything.
fn amounts() -> impl Iterator<Item = u64> {
    (0..96).step_by(4).chain((96..1_200).step_by(48))
}

/// Runs out of space within each operation, and within all of them one after the other, with every amount left.
pub fn run(seed: u64, report: &mut Report) {
    let mounted = match Mounted::new() {
        Ok(mounted) => mounted,
        Err(why) => {
            return report.skip(format!("a tmpfs cannot be mounted ({why}); a disk that fills up is not tried"));
        }
    };
    for operation in Operation::ALL.map(Some).into_iter().chain([None]) {
        let name = operation.map_or("everything".to_owned(), |operation| format!("{operation:?}"));
        let mut refused = 0;
        for leave in amounts() {
            let before = refused;
            let result = one(mounted.folder.path(), operation, seed.wrapping_add(leave), leave, &mut refused);
            let result = result.map_err(|what| format!("{name}, {leave} KiB left: {what}"));
            report.round(&format!("io --seed {seed} --full"), result);
            if report.is_over() {
                return;
            }
            if refused == before && leave > 0 {
                break;
            }
        }
        report.detail(&format!("full disk, calls refused: {name}"), refused);
        // Closing says nothing, and what is moved from the log to the file may fit into what the file has.
        let silent =
            matches!(operation, Some(Operation::Close | Operation::CheckpointRestart | Operation::CheckpointTruncate));
        if refused == 0 && !silent {
            let what = format!("{name}: the disk was never full");
            report.round(&format!("io --seed {seed} --full"), Err(what));
        }
    }
}

/// Work on a disk that has room, then an operation on one that has so many KiB left, then room again.
fn one(mounted: &Path, operation: Option<Operation>, seed: u64, leave: u64, refused: &mut u32) -> Result<(), String> {
    let folder = mounted.join("database");
    let filler = mounted.join("filler");
    std::fs::create_dir(&folder).map_err(|e| e.to_string())?;
    let mut attack = Attack::new(&folder, seed, Unknown::Never);
    for _ in 0..3 {
        attack.write();
    }
    match operation {
        Some(Operation::Open) => attack.operate(Operation::Close),
        // These need something in the log.
        Some(Operation::Close | Operation::CheckpointRestart | Operation::CheckpointTruncate) => {}
        // A log keeps room ahead, which an empty one has not.
        _ => attack.operate(Operation::CheckpointTruncate),
    }
    let result = fill(mounted, leave).and_then(|()| {
        match operation {
            Some(operation) => attack.operate(operation),
            None => attack.work(),
        }
        *refused += attack.refused();
        std::fs::remove_file(&filler).map_err(|e| e.to_string())?;
        attack.recover()
    });
    drop(attack);
    let _ = std::fs::remove_dir_all(&folder);
    let _ = std::fs::remove_file(&filler);
    result
}
