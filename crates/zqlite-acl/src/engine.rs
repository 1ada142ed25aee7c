//! The engine's state. How it changes is in `rules` and `peers`.
//!
//! Each rule has a slot; sets of rules are rows of bits (`rows`). Bulk changes put the rules into slots in the order in
//! which they decide. A rule that is added alone takes a slot behind those, in the *tail*, where order means nothing and
//! priorities are compared; when the tail has grown to a share of the rules, everything is put in order again. A rule
//! that is removed leaves its slot empty until then. What a rule says of time and of being enabled is in none of the
//! rows, so that switching it is one bit.
//!
//! Peers that no rule can tell apart share a class, and a class has a row for each side.

use std::collections::BTreeSet;
use std::sync::Arc;

use zqlite_cidr::{Address, Prefix};

use crate::classes::ClassId;
use crate::cow::{List, Map, Pages, Sorted};
use crate::intervals::Intervals;
use crate::lists::{Lazy, Lists};
use crate::names::NameLists;
use crate::peer::{Peer, PeerId};
use crate::rows::{Dense, EMPTY, RowId, Rows, Slot};
use crate::rule::{Rule, RuleId};
use crate::selector::{Label, Selector};
use crate::side::Side;
use crate::spans::Spans;

pub(crate) const SOURCE: usize = 0;
pub(crate) const DESTINATION: usize = 1;

/// How an [`Engine`] is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes that the rows of rules, and what lists are made of them, may take. A peer or address that comes when they are
    /// taken has no row; its rules are gathered for each question, which takes time in proportion to how many name it.
    pub row_memory: usize,
}

impl Default for Options {
    /// 256 MiB.
    fn default() -> Self {
        Self { row_memory: 256 << 20 }
    }
}

/// Rules, peers, and the answers that follow from them: the same as [`plain::Engine`](crate::plain::Engine) gives.
///
/// A clone is a snapshot: it takes microseconds, shares what neither changes, and never sees a change of the other.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) entries: Pages<Entry>,
    pub(crate) by_rule: Map<RuleId, Slot>,
    /// Slots below, a multiple of 64, stand in the order in which they decide.
    pub(crate) ordered: usize,
    /// Rules that exist and are enabled.
    pub(crate) enabled: Arc<Dense>,
    /// Rules that have expired by `horizon`.
    pub(crate) expired: Arc<Dense>,
    pub(crate) horizon: i64,
    /// Rules that expire at some time.
    pub(crate) expiring: Arc<Dense>,
    pub(crate) denies: Arc<Dense>,
    pub(crate) compares_owners: Arc<Dense>,
    /// Rules that say through whom.
    pub(crate) steers: Arc<Dense>,
    /// Rules of IPv4 packets, and of IPv6.
    pub(crate) families: [Arc<Dense>; 2],
    pub(crate) rows: Rows,
    pub(crate) sides: [Side; 2],
    /// Rules with `*` on both sides.
    pub(crate) any_both: Arc<Dense>,
    /// For each protocol the index of its rules in `protocol_sets`; 0 has those for all protocols.
    pub(crate) protocols: Arc<Vec<u16>>,
    pub(crate) protocol_sets: Vec<Arc<Dense>>,
    pub(crate) any_port: Arc<Dense>,
    pub(crate) ports: Intervals<u16, RowId>,
    pub(crate) selectors: Pages<Named>,
    pub(crate) by_selector: Map<Selector, u32>,
    pub(crate) spans: Spans,
    /// Of the rules in order, for questions about addresses and about peers.
    pub(crate) lists: Arc<Lazy<Lists>>,
    pub(crate) names: Arc<Lazy<NameLists>>,

    pub(crate) peers: Map<PeerId, Member>,
    pub(crate) by_address: Map<Address, PeerId>,
    pub(crate) addresses: Sorted<Address, PeerId>,
    pub(crate) bearers: Map<Label, Bearers>,
    pub(crate) routers: Map<PeerId, ()>,
    pub(crate) classes: Pages<Class>,
    pub(crate) free_classes: Vec<u32>,
    pub(crate) by_signature: Map<Arc<Signature>, u32>,
    pub(crate) by_class: Map<ClassId, u32>,
    pub(crate) next_class: ClassId,
    pub(crate) owners: Map<Box<str>, u32>,
}

/// A rule in its slot.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The lower decides first.
    pub(crate) order: (u64, RuleId),
    /// `i64::MAX` for never; nothing is asked about that time.
    pub(crate) expires_at: i64,
    /// `enabled` is not kept here.
    pub(crate) rule: Arc<Rule>,
    /// The selectors that each side names, without `*`.
    pub(crate) named: [Arc<[u32]>; 2],
    /// The labels that it goes through, as selectors.
    pub(crate) through: Arc<[u32]>,
}

/// A selector that rules name, without `*`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    /// The rules that name it on each side.
    pub(crate) uses: [List<Slot>; 2],
    /// Classes that it selects; some have gone since.
    pub(crate) classes: List<ClassRef>,
    /// Classes that route an address that it selects; some have gone since.
    pub(crate) routers: List<ClassRef>,
}

/// A class, or one that was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassRef {
    pub(crate) index: u32,
    pub(crate) number: ClassId,
}

/// A peer and its place among the members of its class.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) class: u32,
    pub(crate) at: u32,
    pub(crate) peer: Arc<Peer>,
}

/// Peers that the rules cannot tell apart. Without members the place is free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    pub(crate) rows: [RowId; 2],
    /// 0: none, or no rule compares owners.
    pub(crate) owner: u32,
    pub(crate) routes: bool,
    pub(crate) number: ClassId,
    pub(crate) signature: Arc<Signature>,
    pub(crate) members: Arc<Vec<PeerId>>,
}

/// All that the rules can know of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    /// The selectors that select it, ascending.
    pub(crate) selectors: Box<[u32]>,
    pub(crate) routed: BTreeSet<Behind>,
    pub(crate) owner: u32,
}

/// What lies behind a router.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Behind {
    /// Addresses that these selectors select.
    Alike(Box<[u32]>),
    /// A route in which the rules tell many kinds of addresses apart: working out whether two such are alike would take
    /// longer than keeping them apart.
    Route(Prefix),
}

/// The peers that bear a label, and some that no longer do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bearers {
    pub(crate) count: usize,
    pub(crate) peers: Arc<Vec<PeerId>>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::with_options(Options::default())
    }
}

impl Engine {
    /// Without rules and peers: everything is denied.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`new`](Self::new), with other options.
    pub fn with_options(options: Options) -> Self {
        Self {
            options,
            entries: Pages::default(),
            by_rule: Map::default(),
            ordered: 0,
            enabled: Arc::default(),
            expired: Arc::default(),
            horizon: i64::MIN,
            expiring: Arc::default(),
            denies: Arc::default(),
            compares_owners: Arc::default(),
            steers: Arc::default(),
            families: Default::default(),
            rows: Rows::new(0, options.row_memory),
            sides: Default::default(),
            any_both: Arc::default(),
            protocols: Arc::new(vec![0; 256]),
            protocol_sets: vec![Arc::default()],
            any_port: Arc::default(),
            ports: Intervals::new(EMPTY),
            selectors: Pages::default(),
            by_selector: Map::default(),
            spans: Spans::default(),
            lists: Arc::default(),
            names: Arc::default(),
            peers: Map::default(),
            by_address: Map::default(),
            addresses: Sorted::default(),
            bearers: Map::default(),
            routers: Map::default(),
            classes: Pages::default(),
            free_classes: Vec::new(),
            by_signature: Map::default(),
            by_class: Map::default(),
            next_class: 0,
            owners: Map::default(),
        }
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.by_rule.len()
    }

    /// The peers that route something, in no order.
    pub(crate) fn routers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.routers.iter().map(|(id, ())| *id)
    }

    /// Bytes that the rows and lists of rules take.
    pub fn row_bytes(&self) -> usize {
        self.rows.bytes() + self.list_bytes()
    }

    /// Bytes that lists of rules take.
    pub(crate) fn list_bytes(&self) -> usize {
        self.lists.bytes() + self.names.bytes()
    }

    /// A rule as it is now.
    pub fn rule(&self, id: RuleId) -> Option<Rule> {
        let slot = *self.by_rule.get(&id)?;
        let rule = self.entries.get(slot)?.rule.as_ref().clone();
        Some(Rule { enabled: self.enabled.contains(slot), ..rule })
    }

    /// A peer.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(&id).map(|member| member.peer.as_ref())
    }
}

impl Entry {
    /// The last bit of the order, which is at hand when the rule itself may be far in memory.
    #[inline]
    pub(crate) fn allows(&self) -> bool {
        self.order.0 & 1 == 1
    }
}

impl Class {
    pub(crate) fn is(&self, class: ClassRef) -> bool {
        self.number == class.number && !self.members.is_empty()
    }
}
