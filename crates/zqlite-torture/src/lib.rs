//! Attacks zqlite-store, and says whether it lost anything: `docs/reliability.md` tells what is promised.
//!
//! - [`vfs`]: stands between SQLite and the file system. [`disk`]: what a disk may hold after the power failed.
//!   [`faults`]: calls that fail. [`folder`]: where the files are.
//! - [`client`], [`decode`]: a caller of the store. [`work`], [`indexes`]: what is written, and what must be found of it.
//! - [`power`], [`io`], [`full`], [`corrupt`]: the attacks. [`report`]: what they found.

pub mod client;
pub mod corrupt;
pub mod decode;
pub mod disk;
pub mod faults;
pub mod folder;
pub mod full;
pub mod indexes;
pub mod io;
pub mod power;
pub mod report;
pub mod vfs;
pub mod work;
