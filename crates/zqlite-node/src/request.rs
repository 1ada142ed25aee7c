//! Requests as `lib/channel.ts` writes them: several in one buffer, little-endian, nothing aligned.
//!
//! ```text
//! request: u32 length (of what follows), u32 token, u8 operation, u8 flags, [u32 transaction], [u32 deadline ms], body
//! flags: 1 within a transaction, 2 has a deadline
//! operation: 0 run, changes only; 1 run, first row; 2 run, all rows; 3 batch; 4 begin; 5 commit; 6 roll back
//! body: run: call   batch: u32 n, n × (u8 guards, [u32 rows], [u32 changes], call)   guards: 1 rows, 2 changes
//! call: u32 statement, u32 count (bit 31: named), u32 length, packed parameters
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use zqlite_store::{
    BatchItem, Call, Error, ErrorCode, Expect, Job, Params, Result, Sink, Statement, Ticket, TransactionId, Want, Work,
};

const IN_TRANSACTION: u8 = 1;
const HAS_DEADLINE: u8 = 2;
const NAMED: u32 = 1 << 31;

/// Whose requests these are.
pub(crate) struct Sender<'a> {
    /// Where the answers go.
    pub(crate) sink: &'a Arc<dyn Sink>,
    /// Statements by the number that the sender gave them.
    pub(crate) statements: &'a [Arc<Statement>],
    /// Distinguishes the transactions of several senders of one process.
    pub(crate) sender: u32,
}

impl Sender<'_> {
    /// Reads every request of a buffer.
    ///
    /// # Errors
    /// `ERR_INTERNAL` when the bytes are not as described above; nothing is handed on then.
    pub(crate) fn read(&self, mut bytes: Bytes) -> Result<Vec<Job>> {
        let queued = Instant::now();
        let mut parsed = Vec::new();
        while bytes.has_remaining() {
            let length = get_u32(&mut bytes)? as usize;
            if length > bytes.len() {
                return Err(malformed());
            }
            parsed.push(self.request(bytes.split_to(length), queued)?);
        }
        Ok(parsed
            .into_iter()
            .map(|(token, work, deadline)| Job {
                ticket: Ticket::new(self.sink.clone(), token),
                work,
                queued,
                deadline,
            })
            .collect())
    }

    fn request(&self, mut bytes: Bytes, queued: Instant) -> Result<(u32, Work, Option<Instant>)> {
        let token = get_u32(&mut bytes)?;
        let operation = bytes.try_get_u8().map_err(|_| malformed())?;
        let flags = bytes.try_get_u8().map_err(|_| malformed())?;
        let transaction = (flags & IN_TRANSACTION != 0).then(|| get_u32(&mut bytes)).transpose()?;
        let deadline = (flags & HAS_DEADLINE != 0).then(|| get_u32(&mut bytes)).transpose()?;
        let id = |number: u32| TransactionId(u64::from(self.sender) << 32 | u64::from(number));
        let owned = || transaction.map(id).ok_or_else(malformed);
        let work = match operation {
            0..=2 => {
                let want = [Want::Changes, Want::First, Want::Rows][operation as usize];
                let call = self.call(&mut bytes, want)?;
                match transaction {
                    Some(number) => Work::Step(id(number), call),
                    None => Work::Run(call),
                }
            }
            3 => {
                let items = self.items(&mut bytes)?;
                match transaction {
                    Some(number) => Work::StepBatch(id(number), items),
                    None => Work::Batch(items),
                }
            }
            4 => Work::Begin(owned()?),
            5 => Work::Commit(owned()?),
            6 => Work::Rollback(owned()?),
            _ => return Err(malformed()),
        };
        if bytes.has_remaining() {
            return Err(malformed());
        }
        Ok((token, work, deadline.map(|ms| queued + Duration::from_millis(ms.into()))))
    }

    fn items(&self, bytes: &mut Bytes) -> Result<Vec<BatchItem>> {
        let count = get_u32(bytes)? as usize;
        // An item takes at least 13 bytes, so a false count cannot ask for much memory.
        let mut items = Vec::with_capacity(count.min(bytes.len() / 13));
        for _ in 0..count {
            let guards = bytes.try_get_u8().map_err(|_| malformed())?;
            let rows = (guards & 1 != 0).then(|| get_u32(bytes)).transpose()?;
            let changes = (guards & 2 != 0).then(|| get_u32(bytes)).transpose()?;
            let expect = Expect { rows: rows.map(u64::from), changes: changes.map(u64::from) };
            items.push(BatchItem { call: self.call(bytes, Want::Rows)?, expect });
        }
        Ok(items)
    }

    fn call(&self, bytes: &mut Bytes, want: Want) -> Result<Call> {
        let statement = get_u32(bytes)? as usize;
        let count = get_u32(bytes)?;
        let length = get_u32(bytes)? as usize;
        if length > bytes.len() {
            return Err(malformed());
        }
        let params = Params::new(bytes.split_to(length), count & !NAMED, count & NAMED != 0);
        let statement = self.statements.get(statement).ok_or_else(malformed)?.clone();
        Ok(Call { statement, params, want })
    }
}

fn get_u32(bytes: &mut Bytes) -> Result<u32> {
    bytes.try_get_u32_le().map_err(|_| malformed())
}

fn malformed() -> Error {
    Error::new(ErrorCode::Internal, "a request is malformed")
}
