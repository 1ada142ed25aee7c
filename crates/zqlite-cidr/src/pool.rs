//! Free prefixes: each node notes the length of the shortest prefix that is free within it.
//!
//! "Free" asks only of what lies in the node and below; a prefix that covers the node does not count, so that it costs a
//! change only the nodes above it, and mostly not all of them.

use crate::address::{Address, Family, is_mapped};
use crate::node::{Key, Node, Place, STRIDE, masked, owner_depth, slot};
use crate::prefix::Prefix;
use crate::range::AddressRange;
use crate::table::{Table, root};

/// The room of a node of which no address is free.
const FULL: u8 = u8::MAX;

/// The lowest slot of each free block of `1 << bits` aligned slots.
fn blocks(free: u64, bits: u32) -> u64 {
    const ALIGNED: [u64; 7] = [
        u64::MAX,
        0x5555_5555_5555_5555,
        0x1111_1111_1111_1111,
        0x0101_0101_0101_0101,
        0x0001_0001_0001_0001,
        0x0000_0001_0000_0001,
        1,
    ];
    let all = (0..bits).fold(free, |free, bit| free & free >> (1 << bit));
    all & ALIGNED[bits as usize]
}

/// The slots that prefixes of the node within `slots` cover, those that cover all of `slots` left out.
fn covered(node: &Node, slots: u64) -> u64 {
    // A single slot is only covered as a whole.
    let mut covered = if slots.is_power_of_two() { 0 } else { node.full & slots };
    let mut inner = node.inner;
    while inner != 0 {
        let place = Place::Inner(inner.trailing_zeros()).slots();
        inner &= inner - 1;
        // Blocks are nested or apart: what is not all of `slots` lies in it or outside.
        if place & slots != slots {
            covered |= place & slots;
        }
    }
    covered
}

/// The shortest length that is free in the slot of `node` where `child` hangs.
fn room_of(node: &Node, child: &Node) -> u8 {
    // If the child skips a stride, one half of the slot is free.
    if child.depth() > node.depth() + STRIDE { (node.depth() + STRIDE + 1) as u8 } else { child.room }
}

/// The shortest length that is free within `node`, whose children know theirs.
pub(crate) fn room<V: Clone + Default>(table: &Table<V>, node: &Node) -> u8 {
    let mut covered = node.full;
    let mut inner = node.inner;
    while inner != 0 {
        covered |= Place::Inner(inner.trailing_zeros()).slots();
        inner &= inner - 1;
    }
    let free = !covered & !node.child;
    if let Some(bits) = (0..=STRIDE).rev().find(|&bits| blocks(free, bits) != 0) {
        return (node.depth() + STRIDE - bits) as u8;
    }
    let children = table.nodes.block(node.children, node.child_count());
    let mut slots = node.child;
    let mut least = FULL;
    for child in children {
        let slot = slots.trailing_zeros();
        slots &= slots - 1;
        if covered >> slot & 1 == 0 {
            least = least.min(room_of(node, child));
        }
    }
    least
}

/// See [`Table::next_free`].
pub(crate) fn next_free<V: Clone + Default>(table: &Table<V>, pool: Prefix, length: u8) -> Option<Prefix> {
    if length < pool.length() || length > pool.family().width() {
        return None;
    }
    let length = u32::from(length);
    let found = lowest(table, pool.family(), pool.key(), pool.length().into(), length)?;
    if pool.family() == Family::V4 || length < 96 || !is_mapped(found) {
        return Some(Prefix::from_key(pool.family(), found, length));
    }
    // The mapped block is no part of the IPv6 space: go on in what lies behind it.
    let behind = Address::at_most(Family::V6, found).next()?;
    let rest = AddressRange::new(behind, pool.last()).ok()?.to_prefixes();
    rest.into_iter().filter(|block| u32::from(block.length()) <= length).find_map(|block| {
        let taken = table.covering(block).iter().any(|(prefix, _)| prefix.length() > pool.length());
        let found = if taken { None } else { lowest(table, Family::V6, block.key(), block.length().into(), length) };
        found.map(|key| Prefix::from_key(Family::V6, key, length))
    })
}

/// The first free prefix of `length` within the one of `key` and `pool`, where only longer ones than `pool` take room.
fn lowest<V: Clone + Default>(table: &Table<V>, family: Family, key: Key, pool: u32, length: u32) -> Option<Key> {
    let depth = owner_depth(pool);
    let mut node = table.nodes.get(root(family));
    while node.depth() < depth {
        let Some(index) = node.child_at(slot(key, node.depth())) else { return Some(key) };
        node = table.nodes.get(index);
        if masked(key ^ node.key(), node.depth().min(pool)) != 0 {
            return Some(key);
        }
    }
    if node.depth() == depth {
        within(table, node, Place::of(key, pool, depth).slots(), length)
    } else {
        around(table, key, pool, node, length)
    }
}

/// The first free prefix of `length` in some slots of a node.
fn within<V: Clone + Default>(table: &Table<V>, node: &Node, slots: u64, length: u32) -> Option<Key> {
    let covered = covered(node, slots);
    let free = slots & !covered & !node.child;
    let end = node.depth() + STRIDE;
    if length <= end {
        let block = blocks(free, end - length);
        return (block != 0).then(|| node.slot_key(block.trailing_zeros()));
    }
    let children = table.nodes.block(node.children, node.child_count());
    let mut open = slots & !covered;
    while open != 0 {
        let slot = open.trailing_zeros();
        open &= open - 1;
        if node.child >> slot & 1 == 0 {
            return Some(node.slot_key(slot));
        }
        let child = &children[(node.child & ((1 << slot) - 1)).count_ones() as usize];
        // In a pool that is given away from its start most are full.
        if child.depth() == end && u32::from(child.room) > length {
            continue;
        }
        let found = around(table, node.slot_key(slot), end, child, length);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The first free prefix of `length` within a prefix in which nothing else lies than `node`.
fn around<V: Clone + Default>(table: &Table<V>, key: Key, pool: u32, node: &Node, length: u32) -> Option<Key> {
    let begins_with_node = masked(node.key(), length) == key;
    if begins_with_node && length > node.depth() && u32::from(node.room) <= length {
        return within(table, node, u64::MAX, length);
    }
    let free = if begins_with_node { key.checked_add(1 << (128 - node.depth().min(length)))? } else { key };
    (masked(free, pool) == key).then_some(free)
}
