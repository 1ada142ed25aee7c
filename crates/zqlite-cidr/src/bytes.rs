//! Tables as bytes: written once, read back anywhere, trusted nowhere.
//!
//! The trie is written from the root down, each node before its children, in the order of the address. There are no
//! indices: what a node's bitmaps announce must follow. So no byte can point outside, and a loader that checks counts,
//! depths and bits yields either a table or an error.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `zqlcidr` and the version, 1 |
//! | 8 | checksum of all that follows: see `checksum` |
//! | 8 | how many prefixes |
//! | 4 + 4 | how many nodes, values |
//! | nodes × 48 | `inner`, `full`, `child`: 8 bytes each; key, upper and lower half: 8 each; depth: 1; zeros: 7 |
//! | values × 4 | in the order of their nodes |
//!
//! All numbers are little-endian. The first node is the root of IPv4; the root of IPv6 follows its last descendant.

use crate::address::{Family, is_mapped};
use crate::node::{Key, Node, STRIDE, masked};
use crate::pool;
use crate::table::{Table, root};

const MAGIC: [u8; 8] = *b"zqlcidr\x01";
const HEADER: usize = 32;
const NODE: usize = 48;

/// Why bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Not what `save` writes, or of another version.
    #[error("these bytes do not begin as a prefix table of this version does")]
    Format,
    /// More or fewer bytes than announced.
    #[error("the table has {found} bytes where {expected} were announced")]
    Length {
        /// What the header announces.
        expected: u64,
        /// What there is.
        found: usize,
    },
    /// The checksum differs.
    #[error("the checksum of the table differs: it was damaged")]
    Checksum,
    /// Well-formed and checksummed, but no trie: made by something else than `save`.
    #[error("node {node} of the table is impossible: {what}")]
    Node {
        /// The node, counted from 0.
        node: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Table<u32> {
    /// The table as bytes: 48 for each node and 4 for each value.
    pub fn save(&self) -> Vec<u8> {
        let mut nodes = Vec::new();
        let mut values = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut stack = vec![self.nodes.get(root(family))];
            while let Some(node) = stack.pop() {
                let key = node.key();
                for word in [node.inner, node.full, node.child, (key >> 64) as u64, key as u64, node.depth.into()] {
                    nodes.extend(word.to_le_bytes());
                }
                for value in self.values.block(node.values, node.value_count()) {
                    values.extend(value.to_le_bytes());
                }
                stack.extend(self.nodes.block(node.children, node.child_count()).iter().rev());
            }
        }
        let mut bytes = Vec::with_capacity(HEADER + nodes.len() + values.len());
        bytes.extend(MAGIC);
        bytes.extend([0; 8]);
        bytes.extend((self.len() as u64).to_le_bytes());
        bytes.extend(((nodes.len() / NODE) as u32).to_le_bytes());
        bytes.extend(((values.len() / 4) as u32).to_le_bytes());
        bytes.extend(nodes);
        bytes.extend(values);
        let sum = checksum(&bytes[16..]);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads what [`save`](Self::save) wrote. Takes memory in proportion to the bytes, whatever they say.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(bytes: &[u8]) -> Result<Self, LoadError> {
        let header = bytes.get(..HEADER).filter(|header| header.starts_with(&MAGIC)).ok_or(LoadError::Format)?;
        let len = word(&header[16..]);
        let (nodes, values) = (word(&header[24..]) as u32, (word(&header[24..]) >> 32) as u32);
        let expected = HEADER as u64 + u64::from(nodes) * NODE as u64 + u64::from(values) * 4;
        if expected != bytes.len() as u64 {
            return Err(LoadError::Length { expected, found: bytes.len() });
        }
        if checksum(&bytes[16..]) != word(&header[8..]) {
            return Err(LoadError::Checksum);
        }
        let (nodes, values) = bytes[HEADER..].split_at(nodes as usize * NODE);
        let mut loader = Loader { table: Table::default(), nodes, values, read: 0 };
        for family in [Family::V4, Family::V6] {
            loader.load(root(family), family, 0, 0)?;
        }
        let Loader { mut table, nodes, values: rest, read } = loader;
        if !nodes.is_empty() || !rest.is_empty() || len != (values.len() / 4) as u64 {
            return Err(LoadError::Node { node: read, what: "the counts do not add up" });
        }
        table.len = values.len() / 4;
        Ok(table)
    }
}

/// The bytes not read yet, and what was made of the others.
struct Loader<'a> {
    table: Table<u32>,
    nodes: &'a [u8],
    values: &'a [u8],
    read: usize,
}

impl Loader<'_> {
    /// Reads the node `index` and all below it; its key must begin with the first `end` bits of `start`.
    fn load(&mut self, index: u32, family: Family, start: Key, end: u32) -> Result<(), LoadError> {
        let number = self.read;
        let fault = |what| LoadError::Node { node: number, what };
        let (bytes, rest) = self.nodes.split_at_checked(NODE).ok_or_else(|| fault("it is missing"))?;
        self.nodes = rest;
        self.read += 1;
        let [inner, full, child, high, low, depth] = std::array::from_fn(|at| word(&bytes[at * 8..]));
        let key = Key::from(high) << 64 | Key::from(low);
        let width = u64::from(family.width());
        let is_root = end == 0;
        if depth >= width || depth % u64::from(STRIDE) != 0 || depth < u64::from(end) || (is_root && depth > 0) {
            return Err(fault("its depth"));
        }
        let mut node = Node::new(key, depth as u32);
        if node.key() != key || masked(key, end) != start {
            return Err(fault("its key"));
        }
        (node.inner, node.full, node.child) = (inner, full, child);
        // Position 0 is none.
        if inner & 1 != 0 {
            return Err(fault("its prefixes"));
        }
        let impossible = node.places().find(|place| {
            let (length, slot) = place.length_and_slot();
            let beyond = depth as u32 + length > u32::from(family.width());
            // Length 0 belongs to the stride before, but for the root.
            let elsewhere = length == 0 && !is_root;
            let mapped = family == Family::V6 && depth as u32 + length >= 96 && is_mapped(node.slot_key(slot));
            beyond || elsewhere || mapped
        });
        if impossible.is_some() {
            return Err(fault("its prefixes"));
        }
        if !is_root && node.value_count() == 0 && node.child_count() < 2 {
            return Err(fault("nothing is in it"));
        }
        let (values, rest) =
            self.values.split_at_checked(node.value_count() * 4).ok_or_else(|| fault("its values are missing"))?;
        self.values = rest;
        let values: Vec<u32> =
            values.chunks_exact(4).map(|value| u32::from_le_bytes([value[0], value[1], value[2], value[3]])).collect();
        node.values = self.table.values.store(&values);
        // Each child takes 48 bytes that must still be there: nothing is reserved on the word of a bitmap.
        if node.child_count() * NODE > self.nodes.len() {
            return Err(fault("its children are missing"));
        }
        node.children = self.table.nodes.allocate(node.child_count());
        let below = depth as u32 + STRIDE;
        let mut slots = node.child;
        for at in 0..node.child_count() as u32 {
            let start = node.slot_key(slots.trailing_zeros());
            slots &= slots - 1;
            if below >= u32::from(family.width()) {
                return Err(fault("its children"));
            }
            self.load(node.children + at, family, start, below)?;
        }
        node.room = pool::room(&self.table, &node);
        *self.table.nodes.get_mut(index) = node;
        Ok(())
    }
}

/// The first eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Gives bytes the header that fits their length and content, so that what is wrong with their nodes is what is found.
/// False when they are too short for one.
#[cfg(feature = "fuzzing")]
pub fn seal(bytes: &mut Vec<u8>) -> bool {
    let Some(content) = bytes.len().checked_sub(HEADER) else { return false };
    let (nodes, values) = (content / NODE, content % NODE / 4);
    bytes.truncate(HEADER + nodes * NODE + values * 4);
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[24..28].copy_from_slice(&(nodes as u32).to_le_bytes());
    bytes[28..32].copy_from_slice(&(values as u32).to_le_bytes());
    let sum = checksum(&bytes[16..]);
    bytes[8..16].copy_from_slice(&sum.to_le_bytes());
    true
}

/// FNV-1a over words of 8 bytes in place of bytes, turned after each so that high bits reach low ones: for accidents, not for adversaries, whom the loader's checks are for.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut words = bytes.chunks_exact(8);
    for bytes in &mut words {
        sum = (sum ^ word(bytes)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
    (sum ^ word(words.remainder()) ^ (bytes.len() as u64) << 56).wrapping_mul(0x0000_0100_0000_01b3)
}
