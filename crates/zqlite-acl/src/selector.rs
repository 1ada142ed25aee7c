//! What a rule says about one side of the traffic: anything, addresses, or a label.

use std::fmt;
use std::str::FromStr;

use zqlite_cidr::{AddressRange, Excerpt, HostBits, ParseError, Prefix};

/// One alternative of a rule's sources or destinations. The crate's documentation says what each matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// `*`: any peer and any address.
    Any,
    /// `10.0.0.0/8`; an address alone is the prefix of its full length.
    Prefix(Prefix),
    /// `10.0.0.1-10.0.0.9`
    Range(AddressRange),
    /// `tag:web`
    Label(Label),
}

impl Selector {
    /// Reads `*`, an address, a prefix, a range or a label.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text == "*" {
            Ok(Selector::Any)
        } else if begins_like_a_label(text) {
            Ok(Selector::Label(Label::parse(text)?))
        } else if text.contains('-') {
            Ok(Selector::Range(AddressRange::parse(text)?))
        } else {
            Ok(Selector::Prefix(Prefix::parse(text, HostBits::Reject)?))
        }
    }

    /// The addresses that this selector names; `None` for `*` and labels.
    pub fn addresses(&self) -> Option<AddressRange> {
        match self {
            Selector::Any | Selector::Label(_) => None,
            Selector::Prefix(prefix) => Some((*prefix).into()),
            Selector::Range(range) => Some(*range),
        }
    }
}

/// Letters and a colon, unless they are an IPv6 group such as `dead:`.
fn begins_like_a_label(text: &str) -> bool {
    text.split_once(':').is_some_and(|(kind, _)| {
        kind.bytes().all(|byte| byte.is_ascii_alphabetic()) && !kind.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Any => f.write_str("*"),
            Selector::Prefix(prefix) => prefix.fmt(f),
            Selector::Range(range) => range.fmt(f),
            Selector::Label(label) => label.fmt(f),
        }
    }
}

/// A text that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It is not `*` and does not begin like a label, and is no address, prefix or range either.
    #[error(transparent)]
    Addresses(#[from] ParseError),
    /// It begins like a label.
    #[error(transparent)]
    Label(#[from] LabelError),
}

/// A name that peers bear and rules select: `tag:web`, `group:ops`, `user:ann@example.com`, `peer:laptop`.
///
/// The name after the colon has 1 to 255 bytes, without blanks and control characters. Labels are equal when their
/// bytes are; nothing is folded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    kind: LabelKind,
    name: Box<str>,
}

/// What a label says of a peer. To the rules all kinds are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelKind {
    /// `tag:`, a role of a machine.
    Tag,
    /// `group:`, users taken together.
    Group,
    /// `user:`, a person.
    User,
    /// `peer:`, one machine.
    Peer,
}

impl LabelKind {
    const ALL: [LabelKind; 4] = [LabelKind::Tag, LabelKind::Group, LabelKind::User, LabelKind::Peer];

    const fn text(self) -> &'static str {
        match self {
            LabelKind::Tag => "tag",
            LabelKind::Group => "group",
            LabelKind::User => "user",
            LabelKind::Peer => "peer",
        }
    }
}

impl Label {
    /// Bytes that the name of a label may have.
    pub const LONGEST_NAME: usize = 255;

    /// Reads `kind:name`.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let fail =
            |position, fault| LabelError { position, fault, excerpt: Excerpt::around(text.as_bytes(), position) };
        let (kind, name) = text.split_once(':').ok_or_else(|| fail(0, LabelFault::UnknownKind))?;
        let kind = LabelKind::ALL
            .into_iter()
            .find(|known| known.text() == kind)
            .ok_or_else(|| fail(0, LabelFault::UnknownKind))?;
        let start = text.len() - name.len();
        if name.is_empty() {
            return Err(fail(start, LabelFault::Unnamed));
        }
        if name.len() > Self::LONGEST_NAME {
            return Err(fail(start, LabelFault::TooLong));
        }
        match name.char_indices().find(|(_, character)| character.is_whitespace() || character.is_control()) {
            Some((offset, _)) => Err(fail(start + offset, LabelFault::Character)),
            None => Ok(Self { kind, name: name.into() }),
        }
    }

    /// Which kind of label it is.
    pub fn kind(&self) -> LabelKind {
        self.kind
    }

    /// The text after the colon.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::parse(text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.text(), self.name)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a label: {excerpt}, byte {position}: {fault}")]
pub struct LabelError {
    /// Offset in bytes, from 0, of what is wrong.
    pub position: usize,
    /// Why it is wrong.
    pub fault: LabelFault,
    /// The text near `position`.
    pub excerpt: Excerpt,
}

/// Why a text is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LabelFault {
    /// What stands before the colon, or no colon at all.
    #[error("a label begins with tag:, group:, user: or peer:")]
    UnknownKind,
    /// Nothing behind the colon.
    #[error("the name is empty")]
    Unnamed,
    /// More than [`Label::LONGEST_NAME`] bytes.
    #[error("a name has at most {} bytes", Label::LONGEST_NAME)]
    TooLong,
    /// A blank or a control character in the name.
    #[error("a name has no blanks and no control characters")]
    Character,
}
