//! The entry of SQL texts: what is decided of a text before SQLite sees it (its lane, zqlite's own pragmas), and then what
//! SQLite and the authorizer make of it. No text makes it panic, or change what calls share.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zqlite_store::fuzzing;

fuzz_target!(|sql: &str| fuzzing::enter(sql));
