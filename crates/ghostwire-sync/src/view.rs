//! One view: the records that it shows, its filter, what was touched of late, and the answers that its recipients share.

use std::collections::VecDeque;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::filter::Filter;
use crate::frames::Answer;
use crate::{Digest, Handle};

/// A place on the axis of revisions, which outlives this process: twice the revision, plus one for what was published
/// at that revision after a client had been told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// Where a client stands that was last told `revision`.
    pub(crate) fn told(revision: u64) -> Self {
        Self(revision.saturating_mul(2))
    }

    /// What comes after the clients that were told `revision`, at that same revision.
    pub(crate) fn after_told(revision: u64) -> Self {
        Self(revision.saturating_mul(2).saturating_add(1))
    }
}

/// A moment of publishing: `seq` counts batches within this process, `stamp` is what a client can resume from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) seq: u64,
    pub(crate) stamp: Stamp,
}

/// Which records of a view were put into it or changed, newest last, as far back as `horizon`.
#[derive(Debug)]
pub(crate) struct TouchLog {
    /// Everything touched after this moment is in the log.
    horizon: Moment,
    touches: VecDeque<(Moment, Handle)>,
}

impl TouchLog {
    fn new(horizon: Moment) -> Self {
        Self { horizon, touches: VecDeque::new() }
    }

    /// Keeps at most `cap` touches. A batch that does not fit moves the horizon to itself.
    fn push(&mut self, at: Moment, handles: &RoaringBitmap, cap: usize) {
        // One who stands at the horizon knows what happened there.
        if at.seq == self.horizon.seq {
            return;
        }
        if handles.len() > cap as u64 {
            *self = Self::new(at);
            return;
        }
        self.touches.extend(handles.iter().map(|handle| (at, handle)));
        while self.touches.len() > cap {
            if let Some((dropped, _)) = self.touches.pop_front() {
                self.horizon = dropped;
            }
        }
    }

    pub(crate) fn horizon(&self) -> Moment {
        self.horizon
    }

    /// What was touched after batch `seq`; `None` behind the horizon.
    pub(crate) fn since_seq(&self, seq: u64) -> Option<RoaringBitmap> {
        (seq >= self.horizon.seq).then(|| self.tail(self.touches.partition_point(|(at, _)| at.seq <= seq)))
    }

    /// What was touched after `stamp`; `None` behind the horizon.
    pub(crate) fn since_stamp(&self, stamp: Stamp) -> Option<RoaringBitmap> {
        (stamp >= self.horizon.stamp).then(|| self.tail(self.touches.partition_point(|(at, _)| at.stamp <= stamp)))
    }

    fn tail(&self, from: usize) -> RoaringBitmap {
        self.touches.range(from..).map(|&(_, handle)| handle).collect()
    }
}

/// What an [`Answer`] was made for; two recipients of a view with the same question get the same bytes.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// The whole view.
    Full,
    /// What changed after batch `seq` for one who holds `had`.
    Since { seq: u64, had: Arc<RoaringBitmap> },
    /// What changed after `stamp`; `same_set` when the digests agree.
    Resume { stamp: Stamp, same_set: bool },
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Full, Self::Full) => true,
            (Self::Since { seq: a, had: x }, Self::Since { seq: b, had: y }) => a == b && Arc::ptr_eq(x, y),
            (Self::Resume { stamp: a, same_set: x }, Self::Resume { stamp: b, same_set: y }) => a == b && x == y,
            _ => false,
        }
    }
}

/// Answers kept at a time. Recipients woken together ask alike; more kinds than these are stragglers.
const ANSWERS: usize = 4;

/// A set of records and the recipients who see it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) members: Arc<RoaringBitmap>,
    pub(crate) digest: Digest,
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) log: TouchLog,
    pub(crate) recipients: RoaringBitmap,
    pub(crate) connected: RoaringBitmap,
    /// Whether it changed after its recipients were last woken.
    pub(crate) pending: bool,
    /// Dropped with every change, so that none holds on to outdated records.
    answers: VecDeque<(Question, Arc<Answer>)>,
}

impl View {
    pub(crate) fn new(at: Moment) -> Self {
        Self {
            members: Arc::default(),
            digest: Digest::default(),
            filter: None,
            log: TouchLog::new(at),
            recipients: RoaringBitmap::new(),
            connected: RoaringBitmap::new(),
            pending: false,
            answers: VecDeque::new(),
        }
    }

    /// Shows `handles`, none of which were shown; `digest` is that of their ids.
    pub(crate) fn gain(&mut self, at: Moment, handles: &RoaringBitmap, digest: Digest, log_cap: usize) {
        *Arc::make_mut(&mut self.members) |= handles;
        self.digest = self.digest.toggled(digest);
        self.touch(at, handles, log_cap);
    }

    /// Hides `handles`, all of which were shown; `digest` is that of their ids.
    pub(crate) fn lose(&mut self, handles: &RoaringBitmap, digest: Digest) {
        *Arc::make_mut(&mut self.members) -= handles;
        self.digest = self.digest.toggled(digest);
        self.answers.clear();
    }

    /// Notes that `handles`, all of which are shown, changed.
    pub(crate) fn touch(&mut self, at: Moment, handles: &RoaringBitmap, log_cap: usize) {
        self.log.push(at, handles, log_cap);
        self.answers.clear();
    }

    /// The answer to `question`, made by `make` unless one is kept, and whether it was newly kept for others.
    pub(crate) fn answer(&mut self, question: Question, make: impl FnOnce(&Self) -> Answer) -> (Arc<Answer>, bool) {
        if let Some((_, answer)) = self.answers.iter().find(|(asked, _)| *asked == question) {
            return (Arc::clone(answer), false);
        }
        let answer = Arc::new(make(self));
        let keep = self.connected.len() > 1;
        if keep {
            self.answers.truncate(ANSWERS - 1);
            self.answers.push_front((question, Arc::clone(&answer)));
        }
        (answer, keep)
    }

    pub(crate) fn forget_answers(&mut self) {
        self.answers = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Moment {
        Moment { seq, stamp: Stamp::told(seq * 10) }
    }

    fn set(handles: impl IntoIterator<Item = Handle>) -> RoaringBitmap {
        handles.into_iter().collect()
    }

    #[test]
    fn the_log_answers_back_to_its_horizon() {
        let mut log = TouchLog::new(at(1));
        log.push(at(2), &set([1, 2]), 4);
        log.push(at(3), &set([2, 3]), 4);
        assert_eq!(log.since_seq(1), Some(set([1, 2, 3])));
        assert_eq!(log.since_seq(2), Some(set([2, 3])));
        assert_eq!(log.since_seq(3), Some(set([])));
        assert_eq!(log.since_seq(0), None);
        assert_eq!(log.since_stamp(Stamp::told(20)), Some(set([2, 3])));
        assert_eq!(log.since_stamp(Stamp::told(25)), Some(set([2, 3])));
        assert_eq!(log.since_stamp(Stamp::told(9)), None);
        // A fifth touch pushes one of batch 2 out: only what came after batch 2 is complete from now on.
        log.push(at(4), &set([9]), 4);
        assert_eq!(log.since_seq(1), None);
        assert_eq!(log.since_seq(2), Some(set([2, 3, 9])));
        log.push(at(5), &set(0..5), 4);
        assert_eq!(log.since_seq(4), None);
        assert_eq!(log.since_seq(5), Some(set([])));
    }
}
