//! Packed columns both ways: what is packed reads back, and no bytes make the reader panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rusqlite::types::Value;
use zqlite_store::{Chunk, fuzzing};
use zqlite_torture::decode;

/// What a value is after it has been a JavaScript value.
fn seen(value: &Value) -> Value {
    match value {
        Value::Real(v) if v.is_nan() => Value::Null,
        Value::Real(v) if *v == v.trunc() && v.abs() < 9e15 && !(*v == 0.0 && v.is_sign_negative()) => {
            Value::Integer(*v as i64)
        }
        other => other.clone(),
    }
}

fuzz_target!(|data: &[u8]| {
    let (head, tail) = data.split_at(data.len() / 2);
    let _ = decode::rows(&Chunk { words: head.to_vec(), text: tail.to_vec(), units: tail.len() as u32 });
    let rows = fuzzing::values(data);
    let Some(packed) = fuzzing::pack(&rows) else { return };
    let read = decode::rows(&packed).expect("what was packed can be read");
    let expected: Vec<Vec<Value>> = rows.iter().map(|row| row.iter().map(seen).collect()).collect();
    assert_eq!(read, expected);
});
