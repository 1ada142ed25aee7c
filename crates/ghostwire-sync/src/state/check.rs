//! Whether a batch contradicts itself or the state: looked at before anything of it is applied.

use std::collections::{HashMap, HashSet};

use roaring::RoaringBitmap;

use super::State;
use crate::batch::{Batch, RecipientChange, ViewChange};
use crate::{Handle, SyncError};

impl State {
    pub(super) fn check(&self, batch: &Batch) -> Result<(), SyncError> {
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
}
