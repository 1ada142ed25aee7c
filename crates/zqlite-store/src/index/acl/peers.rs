//! What rows say of peers: an address, a label, an owner or a prefix that is routed, a row a fact.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::Value;
use zqlite_acl::{Label, Peer, PeerField, PeerId};
use zqlite_cidr::{Address, HostBits, Prefix};

use crate::index::acl::parse::Parsed;

/// What a row says of a peer.
#[derive(Debug)]
pub(super) enum Fact {
    Address(Address),
    Label(Label),
    Owner(Box<str>),
    Route(Prefix),
}

impl Fact {
    /// Of the columns `peer` and the one for `field`. Rows with NULL say nothing.
    pub(super) fn of(field: PeerField, values: &[Value]) -> Parsed<Option<(PeerId, Self)>> {
        let peer = match values.first() {
            None | Some(Value::Null) => None,
            Some(Value::Integer(id)) => {
                Some(PeerId::try_from(*id).map_err(|_| (0, "a peer has a number from 0 to 2^32-1".to_owned()))?)
            }
            Some(_) => return Err((0, "a peer is a number".to_owned())),
        };
        let text = match values.get(1) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Text(text)) => text,
            Some(_) => return Err((1, "it is a text".to_owned())),
        };
        let fact = match field {
            PeerField::Labels => Label::parse(text).map(Self::Label).map_err(|error| error.to_string()),
            PeerField::Owner => Ok(Self::Owner(text.as_str().into())),
            PeerField::Routes => {
                Prefix::parse(text, HostBits::Reject).map(Self::Route).map_err(|error| error.to_string())
            }
            PeerField::Addresses | PeerField::Id => {
                Address::parse(text).map(Self::Address).map_err(|error| error.to_string())
            }
        };
        Ok(peer.zip(Some(fact.map_err(|reason| (1, reason))?)))
    }
}

/// What the rows say of a peer, by row id.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerRows {
    addresses: BTreeMap<i64, Address>,
    labels: BTreeMap<i64, Label>,
    owners: BTreeMap<i64, Box<str>>,
    routes: BTreeMap<i64, Prefix>,
}

impl PeerRows {
    /// Whether the row had said nothing yet.
    pub(super) fn insert(&mut self, row: i64, fact: Fact) -> bool {
        match fact {
            Fact::Address(address) => self.addresses.insert(row, address).is_none(),
            Fact::Label(label) => self.labels.insert(row, label).is_none(),
            Fact::Owner(owner) => self.owners.insert(row, owner).is_none(),
            Fact::Route(route) => self.routes.insert(row, route).is_none(),
        }
    }

    /// Whether the row had said something.
    pub(super) fn remove(&mut self, row: i64, field: PeerField) -> bool {
        match field {
            PeerField::Labels => self.labels.remove(&row).is_some(),
            PeerField::Owner => self.owners.remove(&row).is_some(),
            PeerField::Routes => self.routes.remove(&row).is_some(),
            PeerField::Addresses | PeerField::Id => self.addresses.remove(&row).is_some(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { addresses, labels, owners, routes } = self;
        addresses.is_empty() && labels.is_empty() && owners.is_empty() && routes.is_empty()
    }

    /// All of it as one peer; the same thing may be said twice.
    ///
    /// # Errors
    /// A row that names another owner than one before it.
    pub(super) fn peer(&self, id: PeerId) -> Result<Peer, (i64, String)> {
        let owner = self.owners.values().next();
        if let Some((row, _)) = self.owners.iter().find(|(_, other)| Some(*other) != owner) {
            return Err((*row, format!("peer {id} has another owner already")));
        }
        Ok(Peer {
            id,
            addresses: distinct(&self.addresses),
            labels: distinct(&self.labels),
            owner: owner.cloned(),
            routes: distinct(&self.routes),
        })
    }

    /// The row that says the address that [`Self::peer`] has at this place.
    pub(super) fn row_of_address(&self, index: Option<usize>) -> Option<i64> {
        let addresses = distinct(&self.addresses);
        let wanted = index.and_then(|index| addresses.get(index)).or_else(|| addresses.first())?;
        self.addresses.iter().find(|(_, address)| *address == wanted).map(|(row, _)| *row)
    }
}

fn distinct<T: Ord + Clone>(facts: &BTreeMap<i64, T>) -> Vec<T> {
    facts.values().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
