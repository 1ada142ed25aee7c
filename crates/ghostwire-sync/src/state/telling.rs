//! What a recipient is told: its first message, and then what has changed since the last one.

use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use super::{Recipient, State};
use crate::filter::{self, Filter};
use crate::frames::{self, Answer, Frame, Keep, Kind, Plan, Trailer};
use crate::view::{Question, Stamp, View};
use crate::{Digest, Handle};

/// Where a client stands: what it was last told, and digests of what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The history that `revision` belongs to.
    pub epoch: String,
    /// The revision of the last message that it applied.
    pub revision: u64,
    /// Of the ids that it holds.
    pub digest: Option<Digest>,
    /// That of the filter that it holds.
    pub filter: Option<String>,
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
    filter: Option<Bytes>,
    answer: Arc<Answer>,
    recipient: Handle,
}

impl Update {
    /// The message; `None` if on closer look there is nothing to say to this recipient.
    pub fn encode(&self) -> Option<Frame> {
        frames::frame(
            self.kind,
            &self.epoch,
            self.revision,
            (self.own.as_ref(), self.filter.as_ref()),
            &self.answer,
            self.recipient,
        )
    }

    /// Whether this is a full map.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    /// It was told of everything up to this batch …
    pub(super) seq: u64,
    /// … when its view was this set.
    pub(super) had: Arc<RoaringBitmap>,
    /// The filter that it was told of last.
    filter: Option<Arc<Filter>>,
}

impl State {
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
        let session = Session { id: self.sessions, seq, had: Arc::clone(&view.members), filter: view.filter.clone() };
        let replaced = recipient.session.replace(session).is_some();
        self.connected += usize::from(!replaced);
        self.told = self.told.max(Some(revision));

        let kind = if question == Question::Full { Kind::Full } else { Kind::Resumed };
        let held = from.and_then(|from| from.filter.as_deref()).filter(|_| kind == Kind::Resumed);
        // Who has none, and should have none, is told so in a full map only.
        let told_filter = kind == Kind::Resumed && filter::is_held(view.filter.as_ref(), held);
        let filter = (!told_filter).then(|| filter::member(view.filter.as_ref()));
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
            filter,
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
        let held = std::mem::replace(&mut current.filter, view.filter.clone());
        let told_filter = filter::is_held(view.filter.as_ref(), held.as_ref().map(|held| held.digest()));
        let filter = (!told_filter).then(|| filter::member(view.filter.as_ref()));
        if same_set && told_own && told_filter && touched.as_ref().is_some_and(RoaringBitmap::is_empty) {
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
            filter,
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
}
