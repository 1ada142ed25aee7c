//! The model: records, views, recipients, and what each connected recipient has been told. Pure: no sockets, no
//! clock, no locks.
//!
//! A recipient is to hold exactly the records of its view, its own left out. What it lacks is never queued but worked
//! out when a message is made: from the set that it was last told (`Session::had`), the set that it is to see now, and
//! what changed in between. So a slow reader skips intermediate states, and costs one pointer to an older set. The filter
//! of the view is told when it is another one than the last that was told.
//!
//! There are two axes of time. `seq` counts batches and orders everything within this process. Revisions are the owner's
//! and outlive the process; a client resumes from one. Several batches may share a revision, which [`Stamp`] tells apart.

mod check;
mod telling;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::batch::{Batch, Put, RecipientChange, ViewChange};
use crate::filter::{Filter, Filters};
use crate::frames;
use crate::table::{Record, Table};
use crate::view::{Moment, Stamp, View};
use crate::{Digest, Handle, SyncError, ViewId};
use telling::Session;
pub use telling::{Attached, Next, Position, Update};

/// Touches remembered by all the views together (32 bytes each), and by any one view.
const LOG_TOTAL: usize = 4_000_000;
const LOG_VIEW: usize = 65_536;
/// Removed ids are remembered until every connected recipient was told; they are looked through this seldom.
const SWEEP_AT: usize = 4096;

/// What a batch led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Whether it is to be sent on without waiting for the flush tick.
    pub urgent: bool,
    /// The recipients that it revoked.
    pub revoked: Vec<Handle>,
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
    filters: Filters,
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
            filters: Filters::default(),
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
                ViewChange::Edit { view, add, remove, filter } => {
                    outcome.urgent |= !remove.is_empty();
                    self.edit_view(at, view, add, remove);
                    outcome.urgent |= filter.is_some_and(|filter| self.set_filter(view, filter));
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

    /// How many different filters are held, and their bytes.
    pub fn filters(&self) -> (usize, usize) {
        self.filters.held()
    }

    /// Records, views, recipients, connected recipients.
    pub fn counts(&self) -> [usize; 4] {
        [self.records.len(), self.views.len(), self.recipients.len(), self.connected]
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

    /// Returns whether somebody connected is to be told, who may then have to let less in.
    fn set_filter(&mut self, id: ViewId, filter: Arc<Filter>) -> bool {
        let Some(view) = self.views.get_mut(&id) else { return false };
        if view.filter.as_ref().is_some_and(|held| held.digest() == filter.digest()) {
            return false;
        }
        view.filter = Some(self.filters.shared(filter));
        mark(&mut self.pending_views, id, view);
        view.pending
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
