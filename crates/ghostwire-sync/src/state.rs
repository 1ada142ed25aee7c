//! The model: records, views, recipients, and what each connected recipient has been told. Pure: no sockets, no
//! clock, no locks.
//!
//! A recipient is to hold exactly the records of its view, its own left out. What it lacks is never queued but worked
//! out when a message is made: from the set that it was last told (`Session::had`), the set that it is to see now, and
//! what changed in between. So a slow reader skips intermediate states, and costs one pointer to an older set.
//!
//! There are two axes of time. `seq` counts batches and orders everything within this process. Revisions are the owner's
//! and outlive the process; a client resumes from one. Several batches may share a revision, which [`Stamp`] tells apart.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::batch::{Batch, Put, RecipientChange, ViewChange};
use crate::frames::{self, Answer, Frame, Keep, Kind, Plan, Trailer};
use crate::table::{Record, Table};
use crate::view::{Moment, Question, Stamp, View};
use crate::{Digest, Handle, SyncError, ViewId};

/// Touches remembered by all the views together (32 bytes each), and by any one view.
const LOG_TOTAL: usize = 4_000_000;
const LOG_VIEW: usize = 65_536;
/// Removed ids are remembered until every connected recipient was told; they are looked through this seldom.
const SWEEP_AT: usize = 4096;

/// Where a client stands: what it was last told, and a digest of the ids that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The history that `revision` belongs to.
    pub epoch: String,
    /// The revision of the last message that it applied.
    pub revision: u64,
    /// Of the ids that it holds.
    pub digest: Option<Digest>,
}

/// What a batch led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Whether it is to be sent on without waiting for the flush tick.
    pub urgent: bool,
    /// The recipients that it revoked.
    pub revoked: Vec<Handle>,
}

/// A recipient that has connected.
#[derive(Debug)]
pub struct Attached {
    /// Tells this connection from earlier and later ones of the same recipient.
    pub session: u64,
    /// Whether an earlier connection of this recipient was still there; it is told when it next asks.
    pub replaced: bool,
    /// The first message: a full map, or what a resume lacks.
    pub update: Update,
}

/// What there is to tell a connected recipient.
#[derive(Debug)]
pub enum Next {
    /// A message.
    Update(Update),
    /// Nothing.
    Idle,
    /// It was revoked.
    Revoked,
    /// It has connected again elsewhere.
    Replaced,
}

/// A message that is decided on; [`Update::encode`] does the work, without need of the [`State`].
#[derive(Debug)]
pub struct Update {
    kind: Kind,
    epoch: Arc<str>,
    revision: u64,
    own: Option<Bytes>,
    answer: Arc<Answer>,
    recipient: Handle,
}

impl Update {
    /// The message; `None` if on closer look there is nothing to say to this recipient.
    pub fn encode(&self) -> Option<Frame> {
        frames::frame(self.kind, &self.epoch, self.revision, self.own.as_ref(), &self.answer, self.recipient)
    }

    /// Whether this is a full map.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }
}

#[derive(Debug)]
struct Recipient {
    view: ViewId,
    /// When it came to see this view: what it saw before is not known to the view's log.
    since: Stamp,
    own: Option<Bytes>,
    own_seq: u64,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    id: u64,
    /// It was told of everything up to this batch …
    seq: u64,
    /// … when its view was this set.
    had: Arc<RoaringBitmap>,
}

/// Records, views, recipients and their connections. See the module's first lines.
#[derive(Debug)]
pub struct State {
    epoch: Arc<str>,
    /// `epoch` as a JSON string.
    epoch_json: Arc<str>,
    revision: u64,
    seq: u64,
    /// The highest revision that a client may have been told of. It begins with that of the first batch, which an
    /// earlier process may have told of.
    told: Option<u64>,
    records: Table,
    ids: HashMap<Arc<str>, Handle>,
    /// Ids of removed records that some recipient may still have to be told of, with the batch that removed them.
    removed: HashMap<Handle, (Arc<str>, u64)>,
    graves: VecDeque<(u64, Handle)>,
    sweep_at: usize,
    log_total: usize,
    views: HashMap<ViewId, View>,
    /// The views that show a record, so that a change costs as much as it concerns.
    shown: HashMap<Handle, RoaringBitmap>,
    pending_views: Vec<ViewId>,
    pending: RoaringBitmap,
    answering: Vec<ViewId>,
    recipients: HashMap<Handle, Recipient>,
    connected: usize,
    sessions: u64,
}

impl State {
    /// An empty state. `epoch` names the history that the revisions belong to.
    pub fn new(epoch: &str) -> Self {
        Self::bounded(epoch, LOG_TOTAL)
    }

    /// A state that remembers about `log_total` changes; a client that was away for longer is sent a full map.
    pub fn bounded(epoch: &str, log_total: usize) -> Self {
        Self {
            epoch: epoch.into(),
            epoch_json: frames::json_string(epoch).into(),
            revision: 0,
            seq: 0,
            told: None,
            records: Table::default(),
            ids: HashMap::new(),
            removed: HashMap::new(),
            graves: VecDeque::new(),
            sweep_at: SWEEP_AT.min(log_total),
            log_total,
            views: HashMap::new(),
            shown: HashMap::new(),
            pending_views: Vec::new(),
            pending: RoaringBitmap::new(),
            answering: Vec::new(),
            recipients: HashMap::new(),
            connected: 0,
            sessions: 0,
        }
    }

    /// Applies `batch`, whole or not at all. The work is in proportion to what changes and the views that show it.
    ///
    /// # Errors
    /// Those of code `ERR_SYNC_BATCH`: the batch contradicts itself or the state.
    pub fn publish(&mut self, batch: Batch) -> Result<Outcome, SyncError> {
        self.check(&batch)?;
        let told = *self.told.get_or_insert(batch.revision);
        let stamp = if told < batch.revision { Stamp::told(batch.revision) } else { Stamp::after_told(batch.revision) };
        self.seq += 1;
        self.revision = batch.revision;
        let at = Moment { seq: self.seq, stamp };
        let mut outcome = Outcome { urgent: batch.urgent || !batch.removes.is_empty(), revoked: Vec::new() };

        self.remove_records(at, &batch.removes);
        self.put_records(at, batch.puts);
        let mut dropped = Vec::new();
        for change in batch.views {
            match change {
                ViewChange::Edit { view, add, remove } => {
                    outcome.urgent |= !remove.is_empty();
                    self.edit_view(at, view, add, remove);
                }
                ViewChange::Drop { view } => dropped.push(view),
            }
        }
        for change in batch.recipients {
            outcome.urgent |= self.change_recipient(at, change, &mut outcome.revoked);
        }
        for id in dropped {
            if let Some(view) = self.views.remove(&id) {
                self.hide(id, &view.members);
            }
        }
        self.sweep();
        Ok(outcome)
    }

    /// Whether anybody who is connected has something new to be told.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.pending_views.is_empty()
    }

    /// Who has something new to be told since this was last asked; takes the marks away.
    pub fn take_pending(&mut self) -> RoaringBitmap {
        let mut pending = std::mem::take(&mut self.pending);
        for id in self.pending_views.drain(..) {
            if let Some(view) = self.views.get_mut(&id) {
                view.pending = false;
                pending |= &view.connected;
            }
        }
        pending
    }

    /// Whether a recipient in this position would be sent a full map. `None` if `handle` is no recipient.
    pub fn needs_full(&self, handle: Handle, from: Option<&Position>) -> Option<bool> {
        let recipient = self.recipients.get(&handle)?;
        Some(self.question(handle, recipient, self.views.get(&recipient.view)?, from) == Question::Full)
    }

    /// Connects `handle`, in place of an earlier connection if there is one; `from` is where the client says it stands.
    /// `None` if `handle` is no recipient.
    pub fn attach(&mut self, handle: Handle, from: Option<&Position>) -> Option<Attached> {
        let recipient = self.recipients.get(&handle)?;
        let question = self.question(handle, recipient, self.views.get(&recipient.view)?, from);
        let (revision, seq) = (self.revision, self.seq);

        let recipient = self.recipients.get_mut(&handle)?;
        let view = self.views.get_mut(&recipient.view)?;
        view.connected.insert(handle);
        self.sessions += 1;
        let session = Session { id: self.sessions, seq, had: Arc::clone(&view.members) };
        let replaced = recipient.session.replace(session).is_some();
        self.connected += usize::from(!replaced);
        self.told = self.told.max(Some(revision));

        let kind = if question == Question::Full { Kind::Full } else { Kind::Resumed };
        let records = &self.records;
        let (answer, kept) = view.answer(question.clone(), |view| {
            let (candidates, keep, trailer) = match question {
                Question::Resume { stamp, same_set: true } => {
                    (view.log.since_stamp(stamp), Keep::ChangedAfter(stamp), Trailer::None)
                }
                Question::Resume { stamp, same_set: false } => {
                    // Gains count as touches, so every record of the log goes out whenever it last changed.
                    (view.log.since_stamp(stamp), Keep::All, Trailer::Visible(Arc::clone(&view.members)))
                }
                Question::Full | Question::Since { .. } => (None, Keep::All, Trailer::None),
            };
            let candidates = match candidates {
                Some(touched) => Arc::new(touched & &*view.members),
                None => Arc::clone(&view.members),
            };
            Answer::new(Plan { records: records.clone(), candidates, keep, trailer })
        });
        if kept {
            self.answering.push(recipient.view);
        }
        let update = Update {
            kind,
            epoch: Arc::clone(&self.epoch_json),
            revision,
            own: recipient.own.clone(),
            answer,
            recipient: handle,
        };
        Some(Attached { session: self.sessions, replaced, update })
    }

    /// How to answer one who says that it stands at `from`.
    fn question(&self, handle: Handle, recipient: &Recipient, view: &View, from: Option<&Position>) -> Question {
        let Some(from) = from.filter(|from| *from.epoch == *self.epoch && from.revision <= self.revision) else {
            return Question::Full;
        };
        let mut visible = view.digest;
        if view.members.contains(handle) {
            visible = visible.toggled(self.records.get(handle).map(|own| own.digest).unwrap_or_default());
        }
        let stamp = Stamp::told(from.revision);
        let same_set = from.digest == Some(visible);
        // With the same set in hand only changed records are lacking, and they know when they changed. Otherwise gains are
        // lacking too, which only the log knows, for as long as the recipient has seen this view.
        let logged = stamp >= recipient.since && stamp >= view.log.horizon().stamp;
        if same_set || logged { Question::Resume { stamp, same_set } } else { Question::Full }
    }

    /// What there is to tell the connection `session` of `handle`. What is returned counts as told.
    pub fn next(&mut self, handle: Handle, session: u64) -> Next {
        let Some(recipient) = self.recipients.get_mut(&handle) else { return Next::Revoked };
        let current = match &mut recipient.session {
            Some(current) if current.id == session => current,
            Some(_) => return Next::Replaced,
            // Revoked, and made a recipient again since.
            None => return Next::Revoked,
        };
        let Some(view) = self.views.get_mut(&recipient.view) else { return Next::Idle };
        let told_own = recipient.own_seq <= current.seq;
        let question = Question::Since { seq: current.seq, had: Arc::clone(&current.had) };
        let touched = view.log.since_seq(current.seq);
        let same_set = Arc::ptr_eq(&current.had, &view.members);
        let (seq, had) = (current.seq, std::mem::replace(&mut current.had, Arc::clone(&view.members)));
        current.seq = self.seq;
        if same_set && told_own && touched.as_ref().is_some_and(RoaringBitmap::is_empty) {
            return Next::Idle;
        }

        let (records, removed) = (&self.records, &self.removed);
        let (answer, kept) = view.answer(question, |view| {
            let gained = &*view.members - &*had;
            let candidates = match touched {
                Some(touched) => Arc::new((touched & &*view.members) | &gained),
                None => Arc::clone(&view.members),
            };
            let lost = (&*had - &*view.members).into_iter().filter_map(|handle| {
                let id = records.get(handle).map(|record| &record.id).or(removed.get(&handle).map(|(id, _)| id))?;
                Some((handle, Arc::clone(id)))
            });
            let trailer = Trailer::Removed(lost.collect());
            Answer::new(Plan {
                records: records.clone(),
                candidates,
                keep: Keep::ChangedSince { seq, gained },
                trailer,
            })
        });
        if kept {
            self.answering.push(recipient.view);
        }
        self.told = self.told.max(Some(self.revision));
        Next::Update(Update {
            kind: Kind::Delta,
            epoch: Arc::clone(&self.epoch_json),
            revision: self.revision,
            own: if told_own { None } else { recipient.own.clone() },
            answer,
            recipient: handle,
        })
    }

    /// Disconnects `session`; returns whether it was still the connection of `handle`.
    pub fn detach(&mut self, handle: Handle, session: u64) -> bool {
        let Some(recipient) = self.recipients.get_mut(&handle) else { return false };
        if recipient.session.as_ref().is_none_or(|current| current.id != session) {
            return false;
        }
        recipient.session = None;
        self.connected -= 1;
        if let Some(view) = self.views.get_mut(&recipient.view) {
            view.connected.remove(handle);
        }
        true
    }

    /// Lets go of the bytes kept for recipients that ask alike; the next one has them made anew.
    pub fn forget_answers(&mut self) {
        for view in std::mem::take(&mut self.answering) {
            if let Some(view) = self.views.get_mut(&view) {
                view.forget_answers();
            }
        }
    }

    /// Whether `handle` is a recipient.
    pub fn is_recipient(&self, handle: Handle) -> bool {
        self.recipients.contains_key(&handle)
    }

    /// The revision of the last batch, 0 before the first.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many removed ids are still remembered.
    pub fn removed_ids(&self) -> usize {
        self.removed.len()
    }

    /// Records, views, recipients, connected recipients.
    pub fn counts(&self) -> [usize; 4] {
        [self.records.len(), self.views.len(), self.recipients.len(), self.connected]
    }

    fn check(&self, batch: &Batch) -> Result<(), SyncError> {
        if batch.revision < self.revision {
            return Err(SyncError::RevisionBehind { revision: batch.revision, current: self.revision });
        }
        let removes: HashSet<Handle> = batch.removes.iter().copied().collect();
        let mut puts: HashMap<Handle, &str> = HashMap::with_capacity(batch.puts.len());
        let mut ids: HashMap<&str, Handle> = HashMap::with_capacity(batch.puts.len());
        for put in &batch.puts {
            let handle = put.handle;
            if removes.contains(&handle) {
                return Err(SyncError::PutAndRemoved { handle });
            }
            let held = self.records.get(handle).map(|record| &*record.id);
            let held = held.or(self.removed.get(&handle).map(|(id, _)| &**id)).or(puts.get(&handle).copied());
            if let Some(held) = held.filter(|held| *held != &*put.id) {
                return Err(SyncError::HandleTaken { handle, held: held.into(), wanted: put.id.to_string() });
            }
            let owner = self.ids.get(&put.id).copied().filter(|owner| !removes.contains(owner));
            let owner = owner.or(ids.get(&*put.id).copied());
            if let Some(held) = owner.filter(|owner| *owner != handle) {
                return Err(SyncError::IdTaken { id: put.id.to_string(), held, handle });
            }
            puts.insert(handle, &put.id);
            ids.insert(&put.id, handle);
        }

        let new: RoaringBitmap = puts.keys().copied().collect();
        let (mut edited, mut dropped) = (HashSet::new(), HashSet::new());
        for change in &batch.views {
            match change {
                ViewChange::Edit { view, add, .. } => {
                    edited.insert(*view);
                    let unknown = |handle: &Handle| self.records.get(*handle).is_none() || removes.contains(handle);
                    if let Some(handle) = (add - &new).into_iter().find(unknown) {
                        return Err(SyncError::UnknownRecord { view: *view, handle });
                    }
                }
                ViewChange::Drop { view } => {
                    dropped.insert(*view);
                }
            }
        }
        if let Some(view) = edited.intersection(&dropped).next() {
            return Err(SyncError::EditedAndDropped { view: *view });
        }

        let mut moved = RoaringBitmap::new();
        for change in &batch.recipients {
            match change {
                RecipientChange::Set { handle, view, .. } => {
                    let exists = self.views.contains_key(view) || edited.contains(view);
                    if !exists || dropped.contains(view) {
                        return Err(SyncError::UnknownView { view: *view });
                    }
                    moved.insert(*handle);
                }
                RecipientChange::Revoke { handle } => {
                    moved.insert(*handle);
                }
            }
        }
        // Nobody can be moved to a dropped view, so who is named in the batch has left it.
        for view in dropped {
            let left = self.views.get(&view).map_or(0, |view| view.recipients.difference_len(&moved));
            if left > 0 {
                return Err(SyncError::ViewInUse { view, recipients: left });
            }
        }
        Ok(())
    }

    fn remove_records(&mut self, at: Moment, handles: &[Handle]) {
        let mut gone: HashMap<Handle, Digest> = HashMap::new();
        for &handle in handles {
            let Some(record) = self.records.remove(handle) else { continue };
            self.ids.remove(&record.id);
            self.removed.insert(handle, (Arc::clone(&record.id), at.seq));
            self.graves.push_back((at.seq, handle));
            gone.insert(handle, record.digest);
        }
        for (id, lost) in self.by_view(gone.keys().copied()) {
            let Some(view) = self.views.get_mut(&id) else { continue };
            let digests = lost.iter().filter_map(|handle| gone.get(&handle));
            view.lose(&lost, digests.fold(Digest::default(), |all, digest| all.toggled(*digest)));
            mark(&mut self.pending_views, id, view);
        }
        for handle in gone.keys() {
            self.shown.remove(handle);
        }
    }

    /// `handles`, by the views that show them.
    fn by_view(&self, handles: impl Iterator<Item = Handle>) -> HashMap<ViewId, RoaringBitmap> {
        let mut views: HashMap<ViewId, RoaringBitmap> = HashMap::new();
        for handle in handles {
            for view in self.shown.get(&handle).into_iter().flatten() {
                views.entry(view).or_default().insert(handle);
            }
        }
        views
    }

    fn show(&mut self, view: ViewId, handles: &RoaringBitmap) {
        for handle in handles {
            self.shown.entry(handle).or_default().insert(view);
        }
    }

    fn hide(&mut self, view: ViewId, handles: &RoaringBitmap) {
        for handle in handles {
            if let Entry::Occupied(mut views) = self.shown.entry(handle) {
                views.get_mut().remove(view);
                if views.get().is_empty() {
                    views.remove();
                }
            }
        }
    }

    fn put_records(&mut self, at: Moment, puts: Vec<Put>) {
        let mut touched = RoaringBitmap::new();
        for put in puts {
            self.ids.insert(Arc::clone(&put.id), put.handle);
            self.removed.remove(&put.handle);
            touched.insert(put.handle);
            let changed_at = put.changed_at.filter(|_| self.records.get(put.handle).is_none());
            let stamp = changed_at.map_or(at.stamp, |revision| Stamp::told(revision).min(at.stamp));
            let record = Record { id: put.id, digest: put.digest, element: put.element, seq: at.seq, stamp };
            self.records.insert(put.handle, record);
        }
        let log_cap = self.log_cap();
        for (id, touched) in self.by_view(touched.iter()) {
            let Some(view) = self.views.get_mut(&id) else { continue };
            view.touch(at, &touched, log_cap);
            mark(&mut self.pending_views, id, view);
        }
    }

    fn edit_view(&mut self, at: Moment, id: ViewId, add: RoaringBitmap, remove: RoaringBitmap) {
        let log_cap = self.log_cap();
        let records = &self.records;
        let digest = |handles: &RoaringBitmap| {
            let digests = handles.iter().filter_map(|handle| records.get(handle));
            digests.fold(Digest::default(), |all, record| all.toggled(record.digest))
        };
        let view = self.views.entry(id).or_insert_with(|| View::new(at));
        let lost = (&*view.members & remove) - &add;
        let gained = add - &*view.members;
        if !lost.is_empty() {
            view.lose(&lost, digest(&lost));
            mark(&mut self.pending_views, id, view);
        }
        if !gained.is_empty() {
            view.gain(at, &gained, digest(&gained), log_cap);
            mark(&mut self.pending_views, id, view);
        }
        self.hide(id, &lost);
        self.show(id, &gained);
    }

    /// Returns whether the change may take something away from a connected recipient.
    fn change_recipient(&mut self, at: Moment, change: RecipientChange, revoked: &mut Vec<Handle>) -> bool {
        match change {
            RecipientChange::Set { handle, view, own } => {
                let recipient = self.recipients.entry(handle).or_insert(Recipient {
                    view,
                    since: at.stamp,
                    own: None,
                    own_seq: 0,
                    session: None,
                });
                let connected = recipient.session.is_some();
                let moved = recipient.view != view;
                if connected && (moved || own.is_some()) {
                    self.pending.insert(handle);
                }
                if let Some(own) = own {
                    recipient.own = Some(own);
                    recipient.own_seq = at.seq;
                }
                if moved {
                    if let Some(before) = self.views.get_mut(&recipient.view) {
                        before.recipients.remove(handle);
                        before.connected.remove(handle);
                    }
                    recipient.view = view;
                    recipient.since = at.stamp;
                }
                if let Some(now) = self.views.get_mut(&view) {
                    now.recipients.insert(handle);
                    if connected {
                        now.connected.insert(handle);
                    }
                }
                moved && connected
            }
            RecipientChange::Revoke { handle } => {
                let Some(recipient) = self.recipients.remove(&handle) else { return false };
                if let Some(view) = self.views.get_mut(&recipient.view) {
                    view.recipients.remove(handle);
                    view.connected.remove(handle);
                }
                if recipient.session.is_some() {
                    self.connected -= 1;
                    self.pending.insert(handle);
                }
                revoked.push(handle);
                true
            }
        }
    }

    fn log_cap(&self) -> usize {
        (self.log_total / self.views.len().max(1)).min(LOG_VIEW)
    }

    /// Forgets the ids of removed records once every connected recipient was told.
    fn sweep(&mut self) {
        if self.graves.len() < self.sweep_at {
            return;
        }
        let mut told = self.seq;
        for recipient in self.recipients.values_mut() {
            let (Some(session), Some(view)) = (&mut recipient.session, self.views.get(&recipient.view)) else {
                continue;
            };
            // Where a view is quiet its recipients do not ask; they are up to date all the same.
            let quiet = view.log.since_seq(session.seq).is_some_and(|touched| touched.is_empty());
            if quiet && Arc::ptr_eq(&session.had, &view.members) && recipient.own_seq <= session.seq {
                session.seq = self.seq;
            }
            told = told.min(session.seq);
        }
        while let Some(&(seq, handle)) = self.graves.front().filter(|(seq, _)| *seq <= told) {
            self.graves.pop_front();
            // Unless it came back and was removed again.
            if self.removed.get(&handle).is_some_and(|(_, removed)| *removed == seq) {
                self.removed.remove(&handle);
            }
        }
        self.sweep_at = (2 * self.graves.len()).max(SWEEP_AT.min(self.log_total));
    }
}

fn mark(pending: &mut Vec<ViewId>, id: ViewId, view: &mut View) {
    if !view.pending && !view.connected.is_empty() {
        view.pending = true;
        pending.push(id);
    }
}
