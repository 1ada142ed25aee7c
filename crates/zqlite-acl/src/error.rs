//! What is wrong with a rule, a peer or a question: which one, which field, why.

use std::fmt;

use zqlite_cidr::{Address, ParseError};

use crate::classes::ClassId;
use crate::peer::PeerId;
use crate::rule::{PortRange, RuleId, UnknownAction};
use crate::selector::{LabelError, SelectorError};

/// A rule that cannot be used. None of the rules that were given with it is in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}, {field}{}: {fault}", Index(*.index))]
pub struct RuleError {
    /// The rule's id.
    pub rule: RuleId,
    /// What is wrong with it.
    pub field: RuleField,
    /// Which item of the field, from 0, if the field is a list and one of them is wrong.
    pub index: Option<usize>,
    /// Why it is wrong.
    pub fault: RuleFault,
}

/// A field of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the field of `Rule` of that name")]
pub enum RuleField {
    Id,
    Priority,
    Action,
    Sources,
    Destinations,
    Protocols,
    Ports,
    ExpiresAt,
    Through,
    Family,
}

impl fmt::Display for RuleField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleField::Id => "id",
            RuleField::Priority => "priority",
            RuleField::Action => "action",
            RuleField::Sources => "sources",
            RuleField::Destinations => "destinations",
            RuleField::Protocols => "protocols",
            RuleField::Ports => "ports",
            RuleField::ExpiresAt => "expiry",
            RuleField::Through => "through",
            RuleField::Family => "family",
        })
    }
}

/// Why a rule cannot be used. The last five are for those who make rules from text and untyped numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// Two rules have this id.
    #[error("another rule has this id")]
    Duplicate,
    /// No source or no destination: the rule could never match, and whoever wrote it may have meant all.
    #[error("at least one selector is needed; * selects everything")]
    Empty,
    /// The range ends before it begins.
    #[error("the range {} to {} ends before it begins", .0.low, .0.high)]
    InvertedPorts(PortRange),
    /// A deny of some ways to a peer or address, or of some of its packets: then there would be no one answer for all of them.
    #[error("only a rule that allows can have one")]
    AllowOnly,
    /// The text is no selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The text is no label.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The text is no action.
    #[error(transparent)]
    Action(#[from] UnknownAction),
    /// The number is no version of IP.
    #[error("4 or 6 is needed")]
    Family,
    /// The number is no integer from `lowest` to `highest`.
    #[error("an integer from {lowest} to {highest} is needed")]
    Number {
        /// The lowest number that would do.
        lowest: i64,
        /// The highest number that would do.
        highest: i64,
    },
}

/// A peer that cannot be used. None of the peers that were given with it has been taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer {peer}, {field}{}: {fault}", Index(*.index))]
pub struct PeerError {
    /// The peer's id.
    pub peer: PeerId,
    /// What is wrong with it.
    pub field: PeerField,
    /// Which item of the field, from 0, if the field is a list and one of them is wrong.
    pub index: Option<usize>,
    /// Why it is wrong.
    pub fault: PeerFault,
}

/// A field of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the field of `Peer` of that name")]
pub enum PeerField {
    Id,
    Addresses,
    Labels,
    Owner,
    Routes,
}

impl fmt::Display for PeerField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerField::Id => "id",
            PeerField::Addresses => "addresses",
            PeerField::Labels => "labels",
            PeerField::Owner => "owner",
            PeerField::Routes => "routes",
        })
    }
}

/// Why a peer cannot be used. The last two are for those who make peers from text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// Two peers given together have this id.
    #[error("another peer given with it has this id")]
    Duplicate,
    /// An address belongs to one peer.
    #[error("peer {by} has the address {address}")]
    AddressTaken {
        /// The address.
        address: Address,
        /// Whose it is.
        by: PeerId,
    },
    /// An owner without a name; two such would be the same.
    #[error("an owner has a name")]
    NamelessOwner,
    /// The text is no address or prefix.
    #[error(transparent)]
    Address(#[from] ParseError),
    /// The text is no label.
    #[error(transparent)]
    Label(#[from] LabelError),
}

/// A question about what is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UnknownId {
    /// No peer has this id.
    #[error("there is no peer {0}")]
    Peer(PeerId),
    /// No rule has this id.
    #[error("there is no rule {0}")]
    Rule(RuleId),
    /// No class has this id, or no longer.
    #[error("there is no class {0}")]
    Class(ClassId),
}

/// A change that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// One of its rules.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// One of its peers.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It is about a rule that is not there.
    #[error(transparent)]
    Unknown(#[from] UnknownId),
}

/// `[3]` behind the name of a list.
struct Index(Option<usize>);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}
