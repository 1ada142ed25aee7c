//! Answers on their way to one thread of JavaScript: gathered in a list, with one wake-up when the list was empty, and
//! handed over many at a time.
//!
//! [`Mailbox::collect`] fills a buffer of 8-byte words, little-endian, and returns one text that all answers cut theirs
//! from (lengths in UTF-16 units):
//!
//! ```text
//! word 0: u32 words used, u32 status (0 all handed over, 1 more wait, 2 nothing fits: the buffer must have `used` words)
//! record: u32 words of the record, u32 token
//!         u32 flags (1 rows, 2 item, 4 last, 8 error), u32 shape
//!         u32 start of its text, u32 length of its text
//!   item:  f64 changes, i64 last insert rowid
//!   error: u32 number in the catalogue, u32 outcome unknown, i32 statement or -1, i32 SQLite's extended code;
//!          the text is the message, U+0000, the constraint
//!   rows:  a packed chunk, see zqlite-store's rows.rs
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use parking_lot::Mutex;
use zqlite_store::{Answer, Outcome, Shape, Sink};

/// Calls the JavaScript thread; it keeps no process alive.
pub(crate) type Waker = ThreadsafeFunction<(), (), (), napi::Status, false, true>;

const HEADER: usize = 24;
const ROWS: u32 = 1;
const ITEM: u32 = 2;
const LAST: u32 = 4;
const ERROR: u32 = 8;

/// Texts of one handing-over: long substrings pin the text that they were cut from.
const TEXT_BYTES: usize = 128 << 10;

pub(crate) struct Mailbox {
    waiting: Mutex<VecDeque<Answer>>,
    waker: Waker,
}

/// What [`Mailbox::collect`] found.
#[derive(Default)]
pub(crate) struct Collected {
    /// Valid UTF-8.
    pub(crate) text: Vec<u8>,
    /// Shapes that the records name.
    pub(crate) shapes: Vec<Arc<Shape>>,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), waker })
    }

    /// Hands over what fits into `buffer`.
    pub(crate) fn collect(&self, buffer: &mut [u8]) -> Collected {
        // The lock is not held while copying: lanes must not wait for this thread. What they add meanwhile finds an empty
        // list and wakes the thread again.
        let mut batch = std::mem::take(&mut *self.waiting.lock());
        let collected = hand_over(&mut batch, buffer);
        if !batch.is_empty() {
            let mut waiting = self.waiting.lock();
            batch.append(&mut waiting);
            *waiting = batch;
        }
        collected
    }
}

/// Moves as many answers as fit from `batch` to `buffer`.
pub(crate) fn hand_over(batch: &mut VecDeque<Answer>, buffer: &mut [u8]) -> Collected {
    let mut collected = Collected::default();
    let capacity = buffer.len() & !7;
    let mut at = 8;
    let mut units = 0;
    let mut status = 0u32;
    while let Some(answer) = batch.front() {
        let size = size(answer);
        let full = at + size > capacity;
        if full || collected.text.len() >= TEXT_BYTES {
            status = if full && at == 8 { 2 } else { 1 };
            if status == 2 {
                at = 8 + size;
            }
            break;
        }
        write(answer, &mut buffer[at..at + size], &mut units, &mut collected);
        at += size;
        batch.pop_front();
    }
    if buffer.len() >= 8 {
        buffer[..4].copy_from_slice(&((at / 8) as u32).to_le_bytes());
        buffer[4..8].copy_from_slice(&status.to_le_bytes());
    }
    collected
}

impl Sink for Mailbox {
    fn deliver(&self, answers: &mut Vec<Answer>) {
        let was_empty = {
            let mut waiting = self.waiting.lock();
            let was_empty = waiting.is_empty();
            waiting.extend(answers.drain(..));
            was_empty
        };
        if was_empty {
            // A thread of JavaScript that is shutting down takes no calls; nobody waits for the answer then.
            self.waker.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

fn size(answer: &Answer) -> usize {
    HEADER
        + match &answer.result {
            Ok(record) => {
                record.item.map_or(0, |_| 16) + record.rows.as_ref().map_or(0, |(_, chunk)| chunk.words.len())
            }
            Err(_) => 16,
        }
}

fn write(answer: &Answer, out: &mut [u8], units: &mut u32, collected: &mut Collected) {
    let mut at = HEADER;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    let (flags, shape, length);
    match &answer.result {
        Ok(record) => {
            let mut f = if answer.last { LAST } else { 0 };
            let (mut s, mut l) = (0, 0);
            if let Some(item) = record.item {
                f |= ITEM;
                put(&(item.changes as f64).to_le_bytes());
                put(&item.last_insert_rowid.to_le_bytes());
            }
            if let Some((names, chunk)) = &record.rows {
                f |= ROWS;
                put(&chunk.words);
                collected.text.extend_from_slice(&chunk.text);
                if collected.shapes.last().is_none_or(|known| known.id != names.id) {
                    collected.shapes.push(names.clone());
                }
                (s, l) = (names.id, chunk.units);
            }
            (flags, shape, length) = (f, s, l);
        }
        Err(error) => {
            (flags, shape) = (ERROR | LAST, 0);
            put(&(error.code as u32).to_le_bytes());
            put(&u32::from(error.outcome == Outcome::Unknown).to_le_bytes());
            put(&error.statement.map_or(-1, |s| s as i32).to_le_bytes());
            put(&error.sqlite_code.to_le_bytes());
            let text = format!("{}\0{}", error.message, error.constraint.unwrap_or_default());
            length = text.encode_utf16().count() as u32;
            collected.text.extend_from_slice(text.as_bytes());
        }
    }
    let words = (out.len() / 8) as u32;
    for (i, value) in [words, answer.token, flags, shape, *units, length].into_iter().enumerate() {
        out[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes());
    }
    *units += length;
}
