//! Folders for databases under attack: in memory where the system has such a place, because what a disk would do is what
//! the attacks themselves decide.

use std::path::Path;

/// A folder that is gone when dropped.
///
/// # Errors
/// Those of the file system, in words.
pub fn fresh() -> Result<tempfile::TempDir, String> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.map_err(|e| e.to_string())
}
