//! A file system that is full, in the middle of everything that a store does: a small tmpfs is filled to the last bytes,
//! work goes on until it is refused, space returns, and the same store goes on.

use std::path::Path;
use std::process::Command;

use crate::io::Attack;
use crate::report::Report;

/// Of the file system, in KiB.
const SIZE: u64 = 4096;

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

/// Runs out of space with every amount left.
pub fn run(seed: u64, report: &mut Report) {
    let mounted = match Mounted::new() {
        Ok(mounted) => mounted,
        Err(why) => {
            return report.skip(format!("a tmpfs cannot be mounted ({why}); a disk that fills up is not tried"));
        }
    };
    let mut refused = 0;
    for leave in (0..200).step_by(8) {
        let folder = mounted.folder.path().join(leave.to_string());
        let result = std::fs::create_dir(&folder).map_err(|e| e.to_string()).and_then(|()| {
            let mut attack = Attack::new(&folder, seed.wrapping_add(leave), false);
            attack.write();
            fill(mounted.folder.path(), leave)?;
            attack.work();
            refused += attack.refused();
            std::fs::remove_file(mounted.folder.path().join("filler")).map_err(|e| e.to_string())?;
            attack.recover()
        });
        report.round(&format!("io --seed {seed} --full"), result.map_err(|what| format!("{leave} KiB left: {what}")));
        let _ = std::fs::remove_dir_all(&folder);
        let _ = std::fs::remove_file(mounted.folder.path().join("filler"));
        if report.is_over() {
            return;
        }
    }
    report.detail("full disk: calls refused", refused);
    if refused == 0 {
        report.round(&format!("io --seed {seed} --full"), Err("the disk was never full".into()));
    }
}
