//! Decisions: which rule is the first to match.
//!
//! The rows of source, destination and port and the set of the protocol are intersected, summaries first, and the first
//! common bit of a live rule is the answer; in the tail, where slots have no order, the best one is.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};

use zqlite_cidr::{Address, Family};

use crate::batch::End;
use crate::engine::{Class, DESTINATION, Engine, Entry, SOURCE};
use crate::error::UnknownId;
use crate::lists::{Found, Lists, service};
use crate::names::Named;
use crate::peer::PeerId;
use crate::query::{Columns, Decision, Explanation, MatchingRule, Query};
use crate::rows::{DenseView, FACTORED, Row, RowId, Rows, Slot, ones};
use crate::rule::{Action, Rule, RuleId};
use crate::selector::Selector;

/// One side of a question.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) row: RowId,
    pub(crate) owner: u32,
    who: Who,
}

#[derive(Clone, Copy)]
enum Who {
    Class(u32),
    /// An address that belongs to nobody, and the class of the router that traffic to it goes through; without, any will do.
    Nobody(Address, Option<u32>),
}

/// The packets that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Packets {
    /// Between any addresses of two peers.
    Any,
    /// From an address of this family to another.
    Of(Family),
    /// From an address of one family to one of the other: only rules without a family match.
    Mixed,
}

impl Packets {
    pub(crate) fn between(source: Family, destination: Family) -> Self {
        if source == destination { Packets::Of(source) } else { Packets::Mixed }
    }
}

/// What is asked of the rules. What is `None` may be anything.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) source: Option<Endpoint>,
    pub(crate) destination: Option<Endpoint>,
    pub(crate) service: Option<(u8, u16)>,
    pub(crate) packets: Packets,
    pub(crate) at: i64,
}

/// Rows of a question, found.
struct Sets<'a> {
    source: Option<Row<'a>>,
    destination: Option<Row<'a>>,
    port: Option<Row<'a>>,
    protocol: u8,
    packets: Packets,
    owners_differ: bool,
    /// Where the traffic arrives, if there is a rule to which it matters through whom.
    arrival: Option<Who>,
    /// Whether rules may have expired since that had not at the time of the question.
    before_horizon: bool,
}

impl Engine {
    /// May one peer reach the other, or an address that it routes?
    pub fn decide(&self, query: &Query<PeerId>) -> Result<Decision, UnknownId> {
        let source = self.member(query.source)?;
        let destination = self.member(query.destination)?;
        let decision = self.decide_by_names(source, destination, query).unwrap_or_else(|| {
            self.decision(&question(self.class(SOURCE, source), self.class(DESTINATION, destination), query))
        });
        if decision.allowed || !self.routes(destination) {
            return Ok(decision);
        }
        let from = self.class(SOURCE, source);
        let routed = self.routed(from, query);
        Ok(routed.map_or(decision, |address| self.decision(&question(from, self.behind(address, destination), query))))
    }

    /// May one address reach the other? An address of a peer stands for that peer, without its routes.
    pub fn decide_addresses(&self, query: &Query<Address>) -> Decision {
        self.decide_by_lists(query).unwrap_or_else(|| self.decided_by_rows(query))
    }

    /// As [`decide`](Self::decide), for many questions. `put` is given the number of each, ascending, and its answer.
    pub fn decide_batch(
        &self,
        questions: Columns<'_, PeerId>,
        at: i64,
        mut put: impl FnMut(usize, Result<Decision, UnknownId>),
    ) {
        let ask = |index: usize| questions.query(index, at);
        let Some(names) = self.names.get(self, questions.len()) else {
            return (0..questions.len())
                .filter_map(ask)
                .enumerate()
                .for_each(|(index, query)| put(index, self.decide(&query)));
        };
        let settled = self.entries.len() <= self.ordered;
        let routed = |destination: PeerId| {
            self.routers.len() > 0 && self.member(destination).is_ok_and(|class| self.routes(class))
        };
        let (denies, ids) = (self.denies.view(), names.ids.as_slice());
        names.decide_each(self, questions, at, |index, found| {
            let Some(query) = ask(index) else { return };
            match found {
                Found::Rule(slot) if settled => {
                    let decision = of_slot(slot, denies, ids);
                    let ask = !decision.allowed && routed(query.destination);
                    put(index, if ask { self.decide(&query) } else { Ok(decision) });
                }
                _ => put(index, self.decide(&query)),
            }
        });
    }

    /// As [`decide_addresses`](Self::decide_addresses), for many questions about IPv4 addresses, which are numbers, the first
    /// octet highest. `put` is given the number of each question, ascending, and its answer.
    pub fn decide_v4_batch(&self, questions: Columns<'_, u32>, at: i64, put: impl FnMut(usize, Decision)) {
        self.decide_columns(questions, at, put);
    }

    /// As [`decide_v4_batch`](Self::decide_v4_batch), for IPv6 addresses of four words, the highest first, of which IPv4-mapped
    /// ones are IPv4.
    pub fn decide_v6_batch(&self, questions: Columns<'_, [u32; 4]>, at: i64, put: impl FnMut(usize, Decision)) {
        self.decide_columns(questions, at, put);
    }

    #[inline]
    fn decide_columns<E: End>(&self, questions: Columns<'_, E>, at: i64, mut put: impl FnMut(usize, Decision)) {
        let ask = |index: usize| Some(questions.query(index, at)?.map(End::address));
        let Some(lists) = self.lists.get(self, questions.len()) else {
            let queries = (0..questions.len()).filter_map(ask).enumerate();
            return queries.for_each(|(index, query)| put(index, self.decide_addresses(&query)));
        };
        let settled = self.entries.len() <= self.ordered && self.peers.len() == 0;
        let (denies, ids) = (self.denies.view(), lists.ids.as_slice());
        lists.decide_each(self, questions, at, |index, found| match found {
            Found::Rule(slot) if settled => put(index, of_slot(slot, denies, ids)),
            found => {
                let Some(query) = ask(index) else { return };
                put(index, self.decided_beside_lists(found, lists, &query));
            }
        });
    }

    /// As [`decide`](Self::decide), with each rule that matches. If the peer itself may not be reached but an address
    /// that it routes may, the explanation is of that address.
    pub fn explain(&self, query: &Query<PeerId>) -> Result<Explanation, UnknownId> {
        let source = self.member(query.source)?;
        let destination = self.member(query.destination)?;
        let from = self.class(SOURCE, source);
        let itself = self.explanation(&question(from, self.class(DESTINATION, destination), query));
        if itself.decision.allowed || !self.routes(destination) {
            return Ok(itself);
        }
        Ok(self.routed(from, query).map_or(itself, |address| Explanation {
            routed: Some(address),
            ..self.explanation(&question(from, self.behind(address, destination), query))
        }))
    }

    /// As [`decide_addresses`](Self::decide_addresses), with each rule that matches.
    pub fn explain_addresses(&self, query: &Query<Address>) -> Explanation {
        let source = self.at_address(SOURCE, query.source);
        let destination = self.at_address(DESTINATION, query.destination);
        let packets = Packets::between(query.source.family(), query.destination.family());
        self.explanation(&Question { packets, ..question(source, destination, query) })
    }

    /// Where the class of a peer is.
    pub(crate) fn member(&self, id: PeerId) -> Result<u32, UnknownId> {
        self.peers.get(&id).map(|member| member.class).ok_or(UnknownId::Peer(id))
    }

    pub(crate) fn at_address(&self, side: usize, address: Address) -> Endpoint {
        let holder = if self.peers.len() == 0 { None } else { self.by_address.get(&address) };
        match holder.and_then(|id| self.peers.get(id)) {
            Some(member) => self.class(side, member.class),
            None => self.nobody(side, address),
        }
    }

    pub(crate) fn nobody(&self, side: usize, address: Address) -> Endpoint {
        Endpoint { row: self.sides[side].row(address), owner: 0, who: Who::Nobody(address, None) }
    }

    /// An address as a destination that is reached through a router of this class.
    pub(crate) fn behind(&self, address: Address, router: u32) -> Endpoint {
        Endpoint { who: Who::Nobody(address, Some(router)), ..self.nobody(DESTINATION, address) }
    }

    pub(crate) fn class(&self, side: usize, index: u32) -> Endpoint {
        let (row, owner) = self.classes.get(index).map_or((0, 0), |class| (class.rows[side], class.owner));
        Endpoint { row, owner, who: Who::Class(index) }
    }

    fn decision(&self, question: &Question) -> Decision {
        decided(self.first(question))
    }

    /// The answer where lists do not know all.
    #[cold]
    #[inline(never)]
    fn decided_beside_lists(&self, found: Found, lists: &Lists, query: &Query<Address>) -> Decision {
        let decision = if self.is_held(query) { None } else { self.answered_of_nobody(found, lists, query) };
        decision.unwrap_or_else(|| self.decided_by_rows(query))
    }

    fn decided_by_rows(&self, query: &Query<Address>) -> Decision {
        let source = self.at_address(SOURCE, query.source);
        let destination = self.at_address(DESTINATION, query.destination);
        let packets = Packets::between(query.source.family(), query.destination.family());
        self.decision(&Question { packets, ..question(source, destination, query) })
    }

    /// Whether one of the addresses is a peer's.
    #[inline]
    fn is_held(&self, query: &Query<Address>) -> bool {
        let held = |address: &Address| self.by_address.get(address).is_some();
        self.peers.len() > 0 && (held(&query.source) || held(&query.destination))
    }

    /// By lists of rules, where they know.
    #[inline]
    fn decide_by_lists(&self, query: &Query<Address>) -> Option<Decision> {
        let lists = self.lists.get(self, 1)?;
        if self.is_held(query) { None } else { self.answered_of_nobody(lists.decide(self, query), lists, query) }
    }

    /// What lists have found about addresses that belong to nobody, and the tail.
    #[inline]
    fn answered_of_nobody(&self, found: Found, lists: &Lists, query: &Query<Address>) -> Option<Decision> {
        self.answered(found, &lists.ids, || {
            let source = self.nobody(SOURCE, query.source);
            let packets = Packets::between(query.source.family(), query.destination.family());
            Question { packets, ..question(source, self.nobody(DESTINATION, query.destination), query) }
        })
    }

    /// By lists of rules of the selectors that two classes have, where they know.
    #[inline]
    fn decide_by_names(&self, source: u32, destination: u32, query: &Query<PeerId>) -> Option<Decision> {
        let names = self.names.get(self, 1)?;
        let asked = self.named([source, destination], query)?;
        self.answered(names.decide(self, asked), &names.ids, || {
            question(self.class(SOURCE, source), self.class(DESTINATION, destination), query)
        })
    }

    /// A question about two classes in the terms of lists by selector.
    #[inline]
    pub(crate) fn named(&self, classes: [u32; 2], query: &Query<PeerId>) -> Option<Named<'_>> {
        let selectors = |class: u32| self.classes.get(class).map(|class| class.signature.selectors.as_ref());
        let [source, destination] = classes;
        let service = service(query.protocol, query.port);
        Some(Named { selectors: [selectors(source)?, selectors(destination)?], service, at: query.at })
    }

    /// What lists have found, and the tail.
    #[inline]
    fn answered(&self, found: Found, ids: &[RuleId], question: impl FnOnce() -> Question) -> Option<Decision> {
        match found {
            Found::Unsure => None,
            Found::Rule(slot) if self.entries.len() <= self.ordered => Some(of_slot(slot, self.denies.view(), ids)),
            Found::Rule(slot) => {
                let (question, first) = (question(), slot.and_then(|slot| self.entries.get(slot)));
                Some(decided(self.with_rows(&question, |found| self.first_in_tail(&question, found, first))))
            }
        }
    }

    fn explanation(&self, question: &Question) -> Explanation {
        let rules: Vec<&Rule> = self.matching(question).filter_map(|slot| self.rule_in(slot)).collect();
        let first = rules.first();
        let decision = Decision {
            allowed: first.is_some_and(|rule| rule.action == Action::Allow),
            rule: first.map(|rule| rule.id),
        };
        let matching = rules.iter().enumerate().map(|(index, rule)| MatchingRule {
            rule: rule.id,
            action: rule.action,
            priority: rule.priority,
            shadowed: index > 0,
        });
        Explanation { decision, routed: None, matching: matching.collect() }
    }

    pub(crate) fn rule_in(&self, slot: Slot) -> Option<&Rule> {
        self.entries.get(slot).map(|entry| entry.rule.as_ref())
    }

    /// The rule that decides.
    fn first(&self, question: &Question) -> Option<&Entry> {
        self.with_rows(question, |found| {
            let mut best: Option<&Entry> = None;
            let _ = self.scan(found, 0..self.ordered / 64, &mut |slot| match self.live(slot, question.at) {
                Some(entry) => {
                    best = Some(entry);
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            });
            self.first_in_tail(question, found, best)
        })
    }

    /// The rule that decides, of one that is the best of those in order and of those in the tail.
    fn first_in_tail<'a>(
        &'a self,
        question: &Question,
        found: &Sets<'_>,
        mut best: Option<&'a Entry>,
    ) -> Option<&'a Entry> {
        if self.entries.len() > self.ordered {
            let _ = self.scan(found, self.ordered / 64..self.entries.len().div_ceil(64), &mut |slot| {
                if let Some(entry) = self.live(slot, question.at)
                    && best.is_none_or(|best| entry.order < best.order)
                {
                    best = Some(entry);
                }
                ControlFlow::Continue(())
            });
        }
        best
    }

    /// The slots of the rules that match, in the order in which they decide.
    pub(crate) fn matching(&self, question: &Question) -> std::vec::IntoIter<Slot> {
        let mut slots = Vec::new();
        self.with_rows(question, |found| {
            let _ = self.scan(found, 0..self.entries.len().div_ceil(64), &mut |slot| {
                if self.live(slot, question.at).is_some() {
                    slots.push(slot);
                }
                ControlFlow::Continue(())
            });
        });
        if slots.last().is_some_and(|&last| last as usize >= self.ordered) {
            slots.sort_by_key(|&slot| self.entries.get(slot).map(|entry| entry.order));
        }
        slots.into_iter()
    }

    /// The rule in a slot whose bits are set, unless it has expired.
    #[inline]
    fn live(&self, slot: Slot, at: i64) -> Option<&Entry> {
        self.entries.get(slot).filter(|entry| at < entry.expires_at || entry.expires_at == i64::MAX)
    }

    /// Rows that were not built are gathered first.
    #[inline]
    fn with_rows<T>(&self, question: &Question, ask: impl FnOnce(&Sets<'_>) -> T) -> T {
        let owner = |end: Option<Endpoint>| end.map_or(0, |end| end.owner);
        let both = question.source.is_some() && question.destination.is_some();
        let owners_differ =
            both && (owner(question.source) == 0 || owner(question.source) != owner(question.destination));
        let port = question.service.map(|(_, port)| self.ports.get(port).unwrap_or(0));
        let factored = |end: Option<Endpoint>| end.is_some_and(|end| end.row == FACTORED);
        let mut found = Sets {
            source: None,
            destination: None,
            port: None,
            protocol: question.service.map_or(0, |(protocol, _)| protocol),
            packets: question.packets,
            owners_differ,
            arrival: question.destination.filter(|_| !self.steers.is_empty()).map(|end| end.who),
            before_horizon: question.at < self.horizon,
        };
        let row = |end: Option<Endpoint>| end.map(|end| self.rows.view(end.row));
        if !factored(question.source) && !factored(question.destination) && port != Some(FACTORED) {
            found.source = row(question.source);
            found.destination = row(question.destination);
            found.port = port.map(|port| self.rows.view(port));
            return ask(&found);
        }
        let gather = |side: usize, end: Option<Endpoint>| {
            end.filter(|end| end.row == FACTORED).map(|end| self.gather(self.naming(side, end.who)))
        };
        let source = gather(SOURCE, question.source);
        let destination = gather(DESTINATION, question.destination);
        let gathered_port = question.service.filter(|_| port == Some(FACTORED)).map(|(_, port)| {
            let holds = |slot: &Slot| {
                self.rule_in(*slot).is_some_and(|rule| rule.ports.iter().any(|range| range.contains(port)))
            };
            self.gather((0..self.entries.len() as Slot).filter(holds).collect())
        });
        found.source = source.as_ref().map(|(rows, row)| rows.view(*row)).or_else(|| row(question.source));
        found.destination =
            destination.as_ref().map(|(rows, row)| rows.view(*row)).or_else(|| row(question.destination));
        found.port =
            gathered_port.as_ref().map(|(rows, row)| rows.view(*row)).or_else(|| port.map(|port| self.rows.view(port)));
        ask(&found)
    }

    /// A row for one question.
    fn gather(&self, slots: Vec<Slot>) -> (Rows, RowId) {
        let mut rows = Rows::new(self.rows.capacity(), usize::MAX);
        let row = rows.build(slots, None);
        (rows, row)
    }

    fn naming(&self, side: usize, who: Who) -> Vec<Slot> {
        match who {
            Who::Class(index) => {
                self.classes.get(index).map_or(Vec::new(), |class| self.slots(side, &class.signature.selectors))
            }
            Who::Nobody(address, _) => self.slots(side, &self.selecting(address)),
        }
    }

    /// Visits the slots of these words that all rows have and whose rules are enabled, ascending.
    #[inline]
    fn scan(
        &self,
        found: &Sets<'_>,
        words: Range<usize>,
        visit: &mut impl FnMut(Slot) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (any_source, any_destination) = (self.sides[SOURCE].any.view(), self.sides[DESTINATION].any.view());
        let (any_both, any_port) = (self.any_both.view(), self.any_port.view());
        let (enabled, expired) = (self.enabled.view(), self.expired.view());
        let set = self.protocols.get(usize::from(found.protocol)).copied().unwrap_or(0);
        let protocol = self.protocol_sets.get(usize::from(set)).filter(|_| found.port.is_some());
        let protocol = protocol.map(|set| set.view());
        for group in words.start / 64..words.end.div_ceil(64) {
            let source = found.source.map(|row| row.group(group));
            let destination = found.destination.map(|row| row.group(group));
            // Most words have some rule with `*` on one side, few have one with `*` on both. So the words that matter are
            // those of the two rows, and those few.
            let mut mask = match (source, destination) {
                (Some(source), Some(destination)) => {
                    (source.mask & (destination.mask | any_destination.mask(group)))
                        | (destination.mask & any_source.mask(group))
                        | any_both.mask(group)
                }
                (Some(source), None) => source.mask | any_source.mask(group),
                (None, Some(destination)) => destination.mask | any_destination.mask(group),
                (None, None) => u64::MAX,
            } & enabled.mask(group);
            if group == words.start / 64 {
                mask &= u64::MAX << (words.start % 64);
            }
            if group == words.end / 64 {
                mask &= (1 << (words.end % 64)) - 1;
            }
            if mask == 0 {
                continue;
            }
            let port = found.port.map(|row| row.group(group));
            if let (Some(port), Some(protocol)) = (port, protocol) {
                mask &= (port.mask | any_port.mask(group)) & protocol.mask(group);
            }
            while mask != 0 {
                let at = mask.trailing_zeros() as usize;
                mask &= mask - 1;
                let word = group * 64 + at;
                let mut bits = source.map_or(u64::MAX, |it| it.word(at) | any_source.word(word))
                    & destination.map_or(u64::MAX, |it| it.word(at) | any_destination.word(word));
                if bits == 0 {
                    continue;
                }
                bits &= enabled.word(word);
                if let (Some(port), Some(protocol)) = (port, protocol) {
                    bits &= (port.word(at) | any_port.word(word)) & protocol.word(word);
                }
                if found.owners_differ {
                    bits &= !self.compares_owners.word(word);
                }
                if !found.before_horizon {
                    bits &= !expired.word(word);
                }
                bits &= !match found.packets {
                    Packets::Any => 0,
                    Packets::Of(Family::V4) => self.families[1].word(word),
                    Packets::Of(Family::V6) => self.families[0].word(word),
                    Packets::Mixed => self.families[0].word(word) | self.families[1].word(word),
                };
                if let Some(arrival) = found.arrival {
                    for bit in ones(bits & self.steers.word(word)) {
                        let slot = (word * 64 + bit) as Slot;
                        if self.entries.get(slot).is_some_and(|entry| !self.arrives(entry, arrival)) {
                            bits &= !(1 << bit);
                        }
                    }
                }
                while bits != 0 {
                    visit((word * 64) as Slot + bits.trailing_zeros())?;
                    bits &= bits - 1;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The first address that the destination routes and that may be reached.
    ///
    /// Only where a rule that could match begins or ends does the answer change, so only these addresses are asked about.
    fn routed(&self, source: Endpoint, query: &Query<PeerId>) -> Option<Address> {
        let member = self.peers.get(&query.destination)?;
        let (destination, class) = (&member.peer, member.class);
        let service = Some((query.protocol, query.port));
        let question =
            Question { source: Some(source), destination: None, service, packets: Packets::Any, at: query.at };
        let rules: Vec<&Rule> = self
            .matching(&question)
            .filter_map(|slot| self.rule_in(slot))
            .filter(|rule| !rule.same_owner && rule.destinations.iter().any(is_no_label))
            .collect();
        if rules.iter().all(|rule| rule.action == Action::Deny) {
            return None;
        }
        let mut kinds = BTreeSet::new();
        for &route in &destination.routes {
            kinds.insert(route.first());
            for range in rules.iter().flat_map(|rule| &rule.destinations).filter_map(Selector::addresses) {
                let ends = [Some(range.first()), range.last().next()];
                kinds.extend(ends.into_iter().flatten().filter(|end| route.contains(*end)));
            }
        }
        kinds.into_iter().find(|&kind| {
            let destination = Some(self.behind(kind, class));
            self.first(&Question { destination, ..question }).is_some_and(Entry::allows)
        })
    }

    /// Whether a peer that the rule goes through is where the traffic arrives.
    fn arrives(&self, entry: &Entry, arrival: Who) -> bool {
        match arrival {
            Who::Class(class) | Who::Nobody(_, Some(class)) => self.goes_through(entry, class),
            Who::Nobody(address, None) => {
                let classes = self.selected(&entry.through).filter_map(|index| self.classes.get(index));
                let routers = classes.filter(|class| class.routes).flat_map(|class| class.members.iter());
                let mut peers = routers.filter_map(|id| self.peer(*id));
                entry.through.is_empty() || peers.any(|peer| peer.routes.iter().any(|route| route.contains(address)))
            }
        }
    }

    /// Whether a rule may go through peers of a class.
    pub(crate) fn goes_through(&self, entry: &Entry, class: u32) -> bool {
        let bears = |class: &Class| entry.through.iter().any(|id| class.signature.selectors.binary_search(id).is_ok());
        entry.through.is_empty() || self.classes.get(class).is_some_and(bears)
    }

    /// Whether some rule is of packets of one family.
    pub(crate) fn compares_families(&self) -> bool {
        self.families.iter().any(|rules| !rules.is_empty())
    }

    pub(crate) fn routes(&self, class: u32) -> bool {
        self.classes.get(class).is_some_and(|class| class.routes)
    }
}

/// The answer of the rule in a slot. Nothing branches on whether there is one.
#[inline]
fn of_slot(slot: Option<Slot>, denies: DenseView<'_>, ids: &[RuleId]) -> Decision {
    let (there, slot) = (slot.is_some(), slot.unwrap_or(0));
    let rule = ids.get(slot as usize).copied().unwrap_or(0);
    Decision { allowed: there & !denies.contains(slot), rule: there.then_some(rule) }
}

fn decided(rule: Option<&Entry>) -> Decision {
    Decision { allowed: rule.is_some_and(Entry::allows), rule: rule.map(|entry| entry.order.1) }
}

fn is_no_label(selector: &Selector) -> bool {
    !matches!(selector, Selector::Label(_))
}

fn question<E>(source: Endpoint, destination: Endpoint, query: &Query<E>) -> Question {
    let service = Some((query.protocol, query.port));
    Question { source: Some(source), destination: Some(destination), service, packets: Packets::Any, at: query.at }
}
