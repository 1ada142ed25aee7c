//! Access rules: who may reach whom, on which protocol and port, and who therefore sees whom.
//!
//! # How a question is decided
//! Of the rules that match, the one with the highest priority decides; at equal priority a deny goes before an allow.
//! When none matches the answer is deny. The order in which rules were given never matters. A rule matches when it is
//! enabled, not expired, one of its sources matches the source, one of its destinations the destination, and protocol
//! and port are among its own. Time is an argument of every question, in milliseconds since 1970.
//!
//! # What a selector matches
//! A *peer* is one machine. A prefix or range matches it when it holds *any* of its addresses, and a label when the peer
//! bears it: for allow and deny alike, and on all of its addresses. So a deny for the IPv4 address of a peer cannot be
//! passed by using its IPv6 address.
//!
//! An *address* that belongs to no peer stands for itself: `*`, prefixes and ranges match it. It has no label and no
//! owner. An address that belongs to a peer stands for that peer.
//!
//! A *routed prefix* of a peer, a subnet that it forwards to, is not the machine but other addresses behind it. As a
//! destination a peer stands for itself and for each address that it routes; it may be reached when it or at least one
//! of them may be. For rules that only allow this is the same as asking whether a destination lies over a route. With
//! denies it stays exact: denying one host of a subnet does not hide the router, denying all of the subnet does, if the
//! router itself may not be reached. Routes have no meaning for a source: what comes from a subnet is asked for by address.
//! Whether an address that is routed also belongs to a peer makes no difference to the router.
//!
//! A rule that names labels to go *through* matches only where the traffic arrives at a peer that bears one of them: the
//! destination itself, or the router of the address that is asked about. Asked by address, without a router, it matches
//! when some peer that routes the address bears one. Only rules that allow can have such labels: so what is allowed for an
//! address is what at least one of its routers lets in.
//!
//! # Families
//! A rule of a family matches packets from an IPv4 address to another, or from an IPv6 address to another. Asked by address,
//! both have to be of it. A question about peers is about any of their addresses, and there the rule matches as if it had
//! no family: name one only where both sides have an address of it. Only rules that allow can have one.
//!
//! # Ports
//! Each question has a port, and a rule with ports matches only if its ranges hold it. Protocols without ports (ICMP)
//! are asked for with port 0, so a rule that is to match them should name no ports.

mod affected;
mod batch;
mod classes;
mod comparison;
mod conflicts;
mod cow;
mod decide;
mod difference;
mod engine;
mod error;
mod filter;
mod intervals;
mod lanes;
mod list_builder;
mod lists;
mod merge;
mod names;
mod parties;
mod peer;
mod peers;
pub mod plain;
mod query;
mod ranks;
mod rows;
mod rule;
mod rules;
mod selector;
mod side;
mod spans;
mod store;
mod traffic;
mod turn;
mod unused;
mod visible;

pub use affected::Change;
pub use classes::ClassId;
pub use conflicts::Conflict;
pub use difference::{Difference, DifferenceRow, PairCounts, Party, Passage};
pub use engine::{Engine, Options};
pub use error::{ChangeError, PeerError, PeerFault, PeerField, RuleError, RuleFault, RuleField, UnknownId};
pub use filter::FilterRule;
pub use peer::{Peer, PeerId};
pub use query::{Columns, Decision, Direction, Explanation, MatchingRule, Query};
pub use rule::{Action, PortRange, Rule, RuleId, UnknownAction};
pub use selector::{Label, LabelError, LabelFault, LabelKind, Selector, SelectorError};
pub use unused::{UnusedReason, UnusedRule};
