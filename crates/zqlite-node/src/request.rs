//! Requests as `lib/channel.ts` writes them: several in one buffer, little-endian, nothing aligned.
//!
//! ```text
//! request: u32 length (of what follows), u32 token, u8 operation, u8 flags, [u32 transaction], [u32 deadline ms], body
//! flags: 1 within a transaction, 2 has a deadline, 4 may be cancelled
//! operation: 0 run, changes only; 1 run, first row; 2 run, all rows; 3 batch; 4 begin; 5 commit; 6 roll back; 7 stream;
//!            8 maintain; 9 nest
//! body: begin: u8 (0 immediate, 1 deferred, 2 exclusive)   run: call   batch: u32 n, n × (u8 guards, [u32 rows], [u32 changes], call)   guards: 1 rows, 2 changes
//! stream: call   maintain: u8 (0 vacuum, 1 to 4 checkpoint: passive, full, restart, truncate)   nest: u8 (0 begin, 1 release, 2 undo)
//! call: u32 statement, u32 count (bit 31: named), u32 length, packed parameters
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use zqlite_store::{
    BatchItem, BeginMode, Call, Cancel, CheckpointMode, Error, ErrorCode, Expect, Flow, Job, Maintenance, Nest, Params,
    Result, Sink, Statement, Ticket, TransactionId, Want, Work,
};

const IN_TRANSACTION: u8 = 1;
const HAS_DEADLINE: u8 = 2;
const MAY_BE_CANCELLED: u8 = 4;
const NAMED: u32 = 1 << 31;

/// Whose requests these are.
pub(crate) struct Sender<'a> {
    /// Where the answers go.
    pub(crate) sink: &'a Arc<dyn Sink>,
    /// Statements by the number that the sender gave them.
    pub(crate) statements: &'a [Arc<Statement>],
    /// Distinguishes the transactions of several senders of one process.
    pub(crate) sender: u32,
    /// Gives up all of its calls, when nobody is left to take their answers.
    pub(crate) ended: &'a Cancel,
}

/// What can be said of calls after they were handed over, by their tokens.
#[derive(Default)]
pub(crate) struct Handles {
    pub(crate) cancels: HashMap<u32, Cancel>,
    pub(crate) flows: HashMap<u32, Arc<Flow>>,
}

impl Drop for Handles {
    /// A thread of JavaScript that ended reads no further.
    fn drop(&mut self) {
        self.flows.values().for_each(|flow| flow.end());
        self.cancels.values().for_each(Cancel::cancel);
    }
}

struct Request {
    token: u32,
    work: Work,
    deadline: Option<Instant>,
    cancel: Cancel,
    /// Whether it may be given up alone.
    single: bool,
}

impl Sender<'_> {
    /// Reads every request of a buffer.
    ///
    /// # Errors
    /// `ERR_INTERNAL` when the bytes are not as described above; nothing is handed on then.
    pub(crate) fn read(&self, mut bytes: Bytes, handles: &mut Handles) -> Result<Vec<Job>> {
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
            .map(|Request { token, work, deadline, cancel, single }| {
                if single {
                    handles.cancels.insert(token, cancel.clone());
                }
                if let Work::Stream(_, flow) = &work {
                    handles.flows.insert(token, flow.clone());
                }
                Job { ticket: Ticket::new(self.sink.clone(), token), work, queued, deadline, cancel: Some(cancel) }
            })
            .collect())
    }

    /// Reads the one call of a buffer: u8 operation, then as in a request.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn one(&self, mut bytes: Bytes) -> Result<Call> {
        let want = if bytes.try_get_u8() == Ok(1) { Want::First } else { Want::Rows };
        self.call(&mut bytes, want)
    }

    /// Reads the one request of a buffer, without its length: what it asks for, and until when.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn write(&self, bytes: Bytes) -> Result<(Work, Option<Instant>)> {
        self.request(bytes, Instant::now()).map(|Request { work, deadline, .. }| (work, deadline))
    }

    fn request(&self, mut bytes: Bytes, queued: Instant) -> Result<Request> {
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
            4 => {
                let mode = match bytes.try_get_u8() {
                    Ok(0) => BeginMode::Immediate,
                    Ok(1) => BeginMode::Deferred,
                    Ok(2) => BeginMode::Exclusive,
                    _ => return Err(malformed()),
                };
                Work::Begin(owned()?, mode)
            }
            5 => Work::Commit(owned()?),
            6 => Work::Rollback(owned()?),
            7 => Work::Stream(self.call(&mut bytes, Want::Rows)?, Arc::default()),
            8 => Work::Maintain(maintenance(bytes.try_get_u8().map_err(|_| malformed())?)?),
            9 => {
                let step = match bytes.try_get_u8() {
                    Ok(0) => Nest::Begin,
                    Ok(1) => Nest::Release,
                    Ok(2) => Nest::Undo,
                    _ => return Err(malformed()),
                };
                Work::Nest(owned()?, step)
            }
            _ => return Err(malformed()),
        };
        if bytes.has_remaining() {
            return Err(malformed());
        }
        let deadline = deadline.map(|ms| queued + Duration::from_millis(ms.into()));
        let single = flags & MAY_BE_CANCELLED != 0;
        let cancel = if single { self.ended.of_one() } else { self.ended.clone() };
        Ok(Request { token, work, deadline, cancel, single })
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

fn maintenance(number: u8) -> Result<Maintenance> {
    Ok(match number {
        0 => Maintenance::Vacuum,
        1 => Maintenance::Checkpoint(CheckpointMode::Passive),
        2 => Maintenance::Checkpoint(CheckpointMode::Full),
        3 => Maintenance::Checkpoint(CheckpointMode::Restart),
        4 => Maintenance::Checkpoint(CheckpointMode::Truncate),
        _ => return Err(malformed()),
    })
}

fn get_u32(bytes: &mut Bytes) -> Result<u32> {
    bytes.try_get_u32_le().map_err(|_| malformed())
}

fn malformed() -> Error {
    Error::new(ErrorCode::Internal, "a request is malformed")
}
