//! The decoder of packed parameters: no bytes make it panic. That what is packed arrives as it was, `rows` looks at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zqlite_store::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::bind(data));
