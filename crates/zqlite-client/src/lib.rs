//! A caller of a store, as the border to JavaScript is one: hands over jobs and waits for their answers, but never for ever.
//! For the tests of zqlite-store and for the attacks on it, which add what they each ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::types::Value;
use zqlite_store::{
    Answer, BeginMode, Call, Error, ErrorCode, Job, Params, Record, Result, Sink, Store, Ticket, TransactionId, Want,
    Work,
};

/// An answer that takes longer is one that never comes. Counted in pieces, so that a process that was stopped for a while
/// has not waited.
const PATIENCE: u32 = 600;
const PIECE: Duration = Duration::from_millis(100);

/// Collects answers.
#[derive(Default)]
struct Inbox {
    answers: Mutex<Answers>,
    arrived: Condvar,
}

#[derive(Default)]
struct Answers {
    partial: HashMap<u32, Vec<Record>>,
    done: HashMap<u32, Result<Vec<Record>>>,
}

impl Answers {
    fn add(&mut self, Answer { token, result, last }: Answer) {
        let whole = match result {
            Ok(record) => {
                self.partial.entry(token).or_default().push(record);
                if !last {
                    return;
                }
                Ok(self.partial.remove(&token).unwrap_or_default())
            }
            Err(error) => {
                self.partial.remove(&token);
                Err(error)
            }
        };
        if self.done.insert(token, whole).is_some() {
            let error = Error::new(ErrorCode::Internal, format!("call {token} was answered twice"));
            self.done.insert(token, Err(error));
        }
    }
}

impl Sink for Inbox {
    fn deliver(&self, answers: &mut Vec<Answer>) {
        let mut inbox = self.answers.lock();
        answers.drain(..).for_each(|answer| inbox.add(answer));
        drop(inbox);
        self.arrived.notify_all();
    }
}

/// One caller of a store.
pub struct Client {
    /// What it calls.
    pub store: Arc<Store>,
    inbox: Arc<Inbox>,
    next: AtomicU32,
}

impl Client {
    /// A caller of an open store.
    pub fn of(store: Arc<Store>) -> Self {
        Self { store, inbox: Arc::default(), next: AtomicU32::new(0) }
    }

    /// One execution of a statement, of which all rows are wanted.
    pub fn call(&self, sql: &str, values: &[Value]) -> Call {
        Call { statement: self.store.statement(sql), params: Params::from_values(values), want: Want::Rows }
    }

    /// Work that is to be handed over, with the number by which its answer is waited for.
    pub fn job(&self, work: Work) -> (u32, Job) {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket::new(self.inbox.clone(), token);
        (token, Job { ticket, work, queued: Instant::now(), deadline: None, cancel: None })
    }

    /// Hands everything over at once, so that the writes among it may share a group.
    pub fn start(&self, works: Vec<Work>) -> Vec<u32> {
        let (tokens, jobs): (Vec<_>, Vec<_>) = works.into_iter().map(|work| self.job(work)).unzip();
        self.store.submit(jobs);
        tokens
    }

    /// The pieces of an answer, once all are there.
    ///
    /// # Errors
    /// As the call was answered; `ERR_INTERNAL` for an answer that does not come, or comes twice.
    pub fn wait(&self, token: u32) -> Result<Vec<Record>> {
        self.wait_for(token, PATIENCE)
    }

    fn wait_for(&self, token: u32, patience: u32) -> Result<Vec<Record>> {
        let mut answers = self.inbox.answers.lock();
        let (mut pieces, mut piece) = (patience, Instant::now() + PIECE);
        loop {
            if let Some(answer) = answers.done.remove(&token) {
                return answer;
            }
            if pieces == 0 {
                let message = format!("hang: no answer to call {token} within {:?}", patience * PIECE);
                return Err(Error::new(ErrorCode::Internal, message));
            }
            // The answers to other calls end no piece.
            if self.inbox.arrived.wait_until(&mut answers, piece).timed_out() {
                pieces -= 1;
                piece = Instant::now() + PIECE;
            }
        }
    }

    /// Whether an answer is whole that was not waited for yet.
    pub fn is_answered(&self, token: u32) -> bool {
        self.inbox.answers.lock().done.contains_key(&token)
    }

    /// How much has come of an answer that has not ended.
    pub fn pieces(&self, token: u32) -> usize {
        self.inbox.answers.lock().partial.get(&token).map_or(0, Vec::len)
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn one(&self, work: Work) -> Result<Vec<Record>> {
        let (token, job) = self.job(work);
        self.store.submit([job]);
        self.wait(token)
    }

    /// Takes the writer's lane.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn begin(&self) -> Result<TransactionId> {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
        let id = TransactionId(NEXT.fetch_add(1, Ordering::Relaxed));
        self.one(Work::Begin(id, BeginMode::Immediate)).map(|_| id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

    use std::sync::atomic::AtomicBool;

    use zqlite_store::Options;

    use super::*;

    #[test]
    fn an_answer_that_is_lost_is_missed_also_while_others_come() {
        let client = Client::of(Store::open(Options::default()).unwrap());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                // Longer than it is waited, but not for ever.
                for token in (1..=600).take_while(|_| !over.load(Ordering::Relaxed)) {
                    let error = Error::new(ErrorCode::Closed, "another answer");
                    client.inbox.deliver(&mut vec![Answer { token, result: Err(error), last: true }]);
                    std::thread::sleep(PIECE / 5);
                }
                over.load(Ordering::Relaxed)
            });
            let error = client.wait_for(0, 5).unwrap_err();
            over.store(true, Ordering::Relaxed);
            assert!(error.message.starts_with("hang"), "{error}");
            assert!(others.join().unwrap(), "the others ended first");
        });
    }
}
