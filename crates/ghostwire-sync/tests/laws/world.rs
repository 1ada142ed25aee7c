//! A plain model of what is published, and the batches that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ghostwire_sync::{Batch, Filter, Handle, Put, RecipientChange, ViewChange, ViewId};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Handles share ids in pairs, so that an id can come back under another handle.
const HANDLES: Handle = 12;
pub(crate) const RECIPIENTS: Handle = 4;
pub(crate) const VIEWS: ViewId = 3;

fn filter(rules: &Value) -> Arc<Filter> {
    Arc::new(Filter::new(rules.to_string().as_bytes()).unwrap())
}

fn id_of(handle: Handle) -> String {
    format!("p\"{}", handle % (HANDLES / 2 + 2))
}

#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) body: Value,
    /// None if it changed at a revision that clients may have been told of before.
    pub(crate) changed_at: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) epoch: u32,
    pub(crate) revision: u64,
    pub(crate) writes: u64,
    pub(crate) records: BTreeMap<Handle, Recorded>,
    pub(crate) views: BTreeMap<ViewId, BTreeSet<Handle>>,
    pub(crate) filters: BTreeMap<ViewId, Value>,
    pub(crate) recipients: BTreeMap<Handle, (ViewId, Value)>,
}

impl World {
    pub(crate) fn epoch(&self) -> String {
        format!("epoch {}", self.epoch)
    }

    /// What `recipient` is to hold.
    pub(crate) fn visible(&self, recipient: Handle) -> BTreeMap<String, Value> {
        let (view, _) = &self.recipients[&recipient];
        let shown = self.views[view].iter().filter(|handle| **handle != recipient);
        shown.map(|handle| (id_of(*handle), self.records[handle].body.clone())).collect()
    }

    /// Everything as one batch, for a state that begins.
    pub(crate) fn load(&self) -> Batch {
        let put = |(handle, record): (&Handle, &Recorded)| {
            Put::new(*handle, &id_of(*handle), record.body.to_string().as_bytes(), record.changed_at).unwrap()
        };
        let view = |(view, shown): (&ViewId, &BTreeSet<Handle>)| ViewChange::Edit {
            view: *view,
            add: shown.iter().collect(),
            remove: Default::default(),
            filter: self.filters.get(view).map(filter),
        };
        let recipient = |(handle, (view, own)): (&Handle, &(ViewId, Value))| {
            RecipientChange::set(*handle, *view, Some(own.to_string().as_bytes())).unwrap()
        };
        Batch {
            revision: self.revision,
            puts: self.records.iter().map(put).collect(),
            views: self.views.iter().map(view).collect(),
            recipients: self.recipients.iter().map(recipient).collect(),
            ..Batch::default()
        }
    }

    /// Turns wishes into a valid batch, and does to the world what the batch does.
    pub(crate) fn batch(&mut self, again: bool, wishes: &[Wish]) -> Batch {
        self.revision += u64::from(!again);
        let mut batch = Batch { revision: self.revision, ..Batch::default() };
        // In the order in which a batch takes effect.
        for wish in wishes {
            let Wish::Remove(handle) = *wish else { continue };
            if self.records.remove(&handle).is_some() {
                batch.removes.push(handle);
                self.views.values_mut().for_each(|shown| {
                    shown.remove(&handle);
                });
            }
        }
        for wish in wishes {
            let Wish::Put(handle) = *wish else { continue };
            let other = self.records.keys().any(|held| *held != handle && id_of(*held) == id_of(handle));
            if other || batch.removes.contains(&handle) {
                continue;
            }
            self.writes += 1;
            let body = json!({"n": self.writes, "id": id_of(handle), "t": "[{\\"});
            // Of a record that is there already, nothing that is claimed of its age counts.
            let claim = self.records.contains_key(&handle).then_some(1);
            batch.puts.push(Put::new(handle, &id_of(handle), body.to_string().as_bytes(), claim).unwrap());
            let changed_at = (!again).then_some(self.revision);
            self.records.insert(handle, Recorded { body, changed_at });
        }
        let mut edited = BTreeSet::new();
        for wish in wishes {
            let Wish::Filter(view, rules) = *wish else { continue };
            let rules = json!([rules, "\"}]"]);
            batch.views.push(ViewChange::Edit {
                view,
                add: Default::default(),
                remove: Default::default(),
                filter: Some(filter(&rules)),
            });
            self.views.entry(view).or_default();
            self.filters.insert(view, rules);
            edited.insert(view);
        }
        for wish in wishes {
            let Wish::Edit(view, add, remove) = wish else { continue };
            let add: BTreeSet<Handle> =
                add.iter().filter(|handle| self.records.contains_key(handle)).copied().collect();
            batch.views.push(ViewChange::Edit {
                view: *view,
                add: add.iter().collect(),
                remove: remove.iter().collect(),
                filter: None,
            });
            let shown = self.views.entry(*view).or_default();
            shown.retain(|handle| !remove.contains(handle));
            shown.extend(add);
            edited.insert(*view);
        }
        for wish in wishes {
            match *wish {
                Wish::Recipient(handle, view, told) if self.views.contains_key(&view) => {
                    self.writes += 1;
                    let new = !self.recipients.contains_key(&handle);
                    let own = json!({"n": self.writes});
                    let bytes = own.to_string();
                    let tell = told || new;
                    let change = RecipientChange::set(handle, view, tell.then_some(bytes.as_bytes())).unwrap();
                    batch.recipients.push(change);
                    let entry = self.recipients.entry(handle).or_insert_with(|| (view, Value::Null));
                    entry.0 = view;
                    if tell {
                        entry.1 = own;
                    }
                }
                Wish::Revoke(handle) if self.recipients.remove(&handle).is_some() => {
                    batch.recipients.push(RecipientChange::Revoke { handle });
                }
                _ => {}
            }
        }
        for wish in wishes {
            let Wish::Drop(view) = *wish else { continue };
            let used = self.recipients.values().any(|(used, _)| *used == view)
                || batch
                    .recipients
                    .iter()
                    .any(|change| matches!(change, RecipientChange::Set { view: named, .. } if *named == view));
            if !used && !edited.contains(&view) {
                self.views.remove(&view);
                self.filters.remove(&view);
                batch.views.push(ViewChange::Drop { view });
            }
        }
        batch
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Put(Handle),
    Remove(Handle),
    Edit(ViewId, Vec<Handle>, Vec<Handle>),
    /// Few different ones, so that views share them and have them again.
    Filter(ViewId, u32),
    Drop(ViewId),
    Recipient(Handle, ViewId, bool),
    Revoke(Handle),
}

pub(crate) fn wishes() -> impl Strategy<Value = Wish> {
    let handle = || 0..HANDLES;
    let handles = || prop::collection::vec(0..HANDLES, 0..5);
    prop_oneof![
        6 => handle().prop_map(Wish::Put),
        2 => handle().prop_map(Wish::Remove),
        5 => (0..VIEWS, handles(), handles()).prop_map(|(view, add, remove)| Wish::Edit(view, add, remove)),
        2 => (0..VIEWS, 0..3_u32).prop_map(|(view, rules)| Wish::Filter(view, rules)),
        1 => (0..VIEWS).prop_map(Wish::Drop),
        3 => (0..RECIPIENTS, 0..VIEWS, any::<bool>()).prop_map(|(r, v, told)| Wish::Recipient(r, v, told)),
        1 => (0..RECIPIENTS).prop_map(Wish::Revoke),
    ]
}
