//! The prefixes below a prefix, in sorted order.

use std::iter::FusedIterator;

use crate::address::Family;
use crate::node::{Node, Place, STRIDE, masked, owner_depth, slot};
use crate::prefix::Prefix;
use crate::table::{Table, root};

/// The entries of a table that a prefix covers: by first address, then by length.
#[derive(Debug)]
pub struct Walk<'a, V> {
    table: &'a Table<V>,
    family: Family,
    /// The nodes from the one where the walk began down to where it is.
    stack: Vec<Step<'a>>,
}

/// Where the walk is within a node.
#[derive(Debug)]
struct Step<'a> {
    node: &'a Node,
    /// The slots at which a prefix or a child begins.
    begins: u64,
    slot: u32,
    /// Behind the last slot.
    end: u32,
    /// What comes next of the slot: a prefix that begins there, of this length from 0 to 6, or then the child.
    stage: u32,
}

const CHILD: u32 = STRIDE + 1;

impl<'a, V: Clone + Default> Walk<'a, V> {
    pub(crate) fn within(table: &'a Table<V>, prefix: Prefix) -> Self {
        let (key, length) = (prefix.key(), u32::from(prefix.length()));
        let depth = owner_depth(length);
        let mut walk = Self { table, family: prefix.family(), stack: Vec::new() };
        let mut node = table.nodes.get(root(prefix.family()));
        while node.depth() < depth {
            let Some(index) = node.child_at(slot(key, node.depth())) else { return walk };
            node = table.nodes.get(index);
            let common = node.depth().min(length);
            if masked(key ^ node.key(), common) != 0 {
                return walk;
            }
        }
        let step = if node.depth() == depth {
            let (stage, slot) = Place::of(key, length, depth).length_and_slot();
            Step { slot, end: slot + (1 << (STRIDE - stage)), stage, ..Step::all(node) }
        } else {
            Step::all(node)
        };
        walk.stack.push(step);
        walk
    }
}

impl<'a> Step<'a> {
    fn all(node: &'a Node) -> Self {
        Step { node, begins: node.begins(), slot: 0, end: 64, stage: 0 }
    }

    /// The place of the prefix of length `stage` that begins at the slot, if one can begin there and does.
    fn place(&self) -> Option<Place> {
        let place = match self.stage {
            STRIDE => Place::Full(self.slot),
            length if self.slot.trailing_zeros() >= STRIDE - length => {
                Place::Inner(1 << length | self.slot >> (STRIDE - length))
            }
            _ => return None,
        };
        self.node.has(place).then_some(place)
    }
}

impl<'a, V: Clone + Default> Iterator for Walk<'a, V> {
    type Item = (Prefix, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(step) = self.stack.last_mut() {
            if step.slot == step.end {
                self.stack.pop();
            } else if step.stage == 0 && step.begins >> step.slot & 1 == 0 {
                // Behind the last slot nothing begins: 64 zeros.
                step.slot = (step.begins >> step.slot << step.slot).trailing_zeros().min(step.end);
            } else if step.stage == CHILD {
                let child = step.node.child_at(step.slot);
                step.slot += 1;
                step.stage = 0;
                if let Some(index) = child {
                    self.stack.push(Step::all(self.table.nodes.get(index)));
                }
            } else {
                let place = step.place();
                step.stage += 1;
                if let Some(place) = place {
                    return Some(self.table.entry(self.family, step.node, place));
                }
            }
        }
        None
    }
}

impl<V: Clone + Default> FusedIterator for Walk<'_, V> {}
