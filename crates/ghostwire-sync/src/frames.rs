//! What goes over the wire: messages made of shared pieces, each record encoded once for all its readers.
//!
//! An [`Answer`] is what recipients of a view have in common. A [`Frame`] is one recipient's message: its own head,
//! and references into the answer with the recipient's own record left out.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::Handle;
use crate::table::Table;
use crate::view::Stamp;

/// Which of the candidates go into an answer.
#[derive(Debug)]
pub(crate) enum Keep {
    All,
    /// New to the reader, or changed after batch `seq`.
    ChangedSince {
        seq: u64,
        gained: RoaringBitmap,
    },
    /// Changed after `stamp`.
    ChangedAfter(Stamp),
}

/// The second list of a message.
#[derive(Debug)]
pub(crate) enum Trailer {
    None,
    /// Ids that are no longer visible, with their handles.
    Removed(Vec<(Handle, Arc<str>)>),
    /// All the ids that are visible.
    Visible(Arc<RoaringBitmap>),
}

/// How to make an answer, taken down under the lock of the state and carried out without it.
#[derive(Debug)]
pub(crate) struct Plan {
    /// As they were when the plan was made.
    pub(crate) records: Table,
    pub(crate) candidates: Arc<RoaringBitmap>,
    pub(crate) keep: Keep,
    pub(crate) trailer: Trailer,
}

/// A plan that the first of its readers carries out; from then on it is only the bytes, and the plan's copy of the table is free.
#[derive(Debug)]
pub(crate) struct Answer(Mutex<Body>);

#[derive(Debug)]
enum Body {
    Planned(Plan),
    Encoded(Arc<Encoded>),
}

impl Answer {
    pub(crate) fn new(plan: Plan) -> Self {
        Self(Mutex::new(Body::Planned(plan)))
    }

    fn encoded(&self) -> Arc<Encoded> {
        let mut body = self.0.lock();
        let encoded = match &*body {
            Body::Encoded(encoded) => return Arc::clone(encoded),
            Body::Planned(plan) => Arc::new(plan.encode()),
        };
        *body = Body::Encoded(Arc::clone(&encoded));
        encoded
    }
}

#[derive(Debug)]
struct Encoded {
    records: List,
    trailer: Option<(TrailerKind, List)>,
}

#[derive(Clone, Copy, Debug)]
enum TrailerKind {
    Removed,
    Visible,
}

/// The elements of a JSON list, each with a comma before it, by ascending handle.
#[derive(Debug, Default)]
struct List {
    handles: Vec<Handle>,
    elements: Vec<Bytes>,
}

impl List {
    fn push(&mut self, handle: Handle, element: Bytes) {
        self.handles.push(handle);
        self.elements.push(element);
    }
}

impl Plan {
    fn encode(&self) -> Encoded {
        let mut records = List::default();
        for handle in &*self.candidates {
            let Some(record) = self.records.get(handle) else { continue };
            let keep = match &self.keep {
                Keep::All => true,
                Keep::ChangedSince { seq, gained } => record.seq > *seq || gained.contains(handle),
                Keep::ChangedAfter(stamp) => record.stamp > *stamp,
            };
            if keep {
                records.push(handle, record.element.clone());
            }
        }
        let trailer = match &self.trailer {
            Trailer::None => None,
            Trailer::Removed(ids) => {
                let mut list = List::default();
                for (handle, id) in ids {
                    list.push(*handle, id_element(id));
                }
                Some((TrailerKind::Removed, list))
            }
            Trailer::Visible(members) => {
                let mut list = List::default();
                for handle in &**members {
                    if let Some(record) = self.records.get(handle) {
                        list.push(handle, id_element(&record.id));
                    }
                }
                Some((TrailerKind::Visible, list))
            }
        };
        Encoded { records, trailer }
    }
}

fn id_element(id: &str) -> Bytes {
    format!(",{}", json_string(id)).into()
}

/// `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The kinds of messages that carry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Full,
    Delta,
    /// A delta that answers a resume, sent even if nothing changed.
    Resumed,
}

/// Makes one recipient's message of `answer`; `None` for a delta that has nothing to say to this recipient.
/// `epoch` is a JSON string, `own` a JSON object, `filter` a member of one with the comma before it.
pub(crate) fn frame(
    kind: Kind,
    epoch: &str,
    revision: u64,
    (own, filter): (Option<&Bytes>, Option<&Bytes>),
    answer: &Answer,
    recipient: Handle,
) -> Option<Frame> {
    let encoded = answer.encoded();
    let skip = |list: &List| list.handles.binary_search(&recipient).ok();
    let skipped = [skip(&encoded.records), encoded.trailer.as_ref().and_then(|(_, list)| skip(list))];
    let (name, open): (_, &'static [u8]) = match kind {
        Kind::Full => ("full", b",\"peers\":["),
        Kind::Delta | Kind::Resumed => ("delta", b",\"changed\":["),
    };
    let between: &'static [u8] = match (kind, &encoded.trailer) {
        (Kind::Full, _) => b"]}",
        (_, None) => b"],\"removed\":[]}",
        (_, Some((TrailerKind::Removed, _))) => b"],\"removed\":[",
        (_, Some((TrailerKind::Visible, _))) => b"],\"removed\":[],\"visible\":[",
    };
    let end: &'static [u8] = if encoded.trailer.is_some() { b"]}" } else { b"" };

    let mut head = format!("{{\"type\":\"{name}\",\"epoch\":{epoch},\"revision\":{revision}").into_bytes();
    if own.is_some() || kind == Kind::Full {
        head.extend_from_slice(b",\"self\":");
        head.extend_from_slice(own.map_or(b"null", |own| own));
    }

    let mut frame = Frame {
        header: Bytes::new(),
        head: head.into(),
        filter: filter.cloned().unwrap_or_default(),
        open,
        encoded,
        between,
        end,
        skipped,
        at: Place::default(),
    };
    if kind == Kind::Delta
        && own.is_none()
        && filter.is_none()
        && frame.count(RECORDS) == 0
        && frame.count(TRAILER) == 0
    {
        return None;
    }
    let payload = frame.pieces(Place { section: 1, ..Place::default() }).map(|piece| piece.len() as u64).sum();
    let mut header = Vec::with_capacity(10);
    let text = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    // Writing to memory does not fail.
    let _ = text.format(payload, &mut header);
    frame.header = header.into();
    frame.at = frame.settle(Place::default());
    Some(frame)
}

/// One WebSocket message on its way out: the frame header, then JSON text in pieces.
#[derive(Debug)]
pub struct Frame {
    header: Bytes,
    head: Bytes,
    filter: Bytes,
    open: &'static [u8],
    encoded: Arc<Encoded>,
    between: &'static [u8],
    end: &'static [u8],
    /// The recipient's own place in the two lists.
    skipped: [Option<usize>; 2],
    at: Place,
}

/// The next byte to write: byte `offset` of element `index` of a section (header, head, filter, open, records, between,
/// trailer, end).
/// A settled place is at a byte that exists, or at section [`SECTIONS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    section: usize,
    index: usize,
    offset: usize,
}

const SECTIONS: usize = 8;
const RECORDS: usize = 4;
const TRAILER: usize = 6;
/// Pieces handed to the kernel at once; Linux takes up to 1024.
const SLICES: usize = 128;

impl Frame {
    /// The JSON text, copied.
    pub fn payload(&self) -> Vec<u8> {
        self.pieces(self.settle(Place { section: 1, ..Place::default() })).flatten().copied().collect()
    }

    /// Whether there is something left to write.
    pub(crate) fn has_remaining(&self) -> bool {
        self.at.section < SECTIONS
    }

    /// Bytes left to write.
    pub(crate) fn remaining(&self) -> usize {
        self.pieces(self.at).map(<[u8]>::len).sum()
    }

    /// Writes as much as the socket takes at once, at least one byte. Nothing is lost if the caller stops polling.
    pub(crate) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(self.pieces(self.at)) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let written = ready!(Pin::new(socket).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(piece) = self.piece(self.at) {
            if bytes < piece.len() {
                self.at.offset += bytes;
                return;
            }
            bytes -= piece.len();
            self.at = self.settle(Place { index: self.at.index + 1, offset: 0, ..self.at });
        }
    }

    fn pieces(&self, from: Place) -> impl Iterator<Item = &[u8]> {
        let mut at = self.settle(from);
        std::iter::from_fn(move || {
            let piece = self.piece(at)?;
            at = self.settle(Place { index: at.index + 1, offset: 0, ..at });
            Some(piece)
        })
    }

    /// The rest of the element at a settled place.
    fn piece(&self, at: Place) -> Option<&[u8]> {
        let element: &[u8] = match at.section {
            0 => &self.header,
            1 => &self.head,
            2 => &self.filter,
            3 => self.open,
            5 => self.between,
            7 => self.end,
            section => self.list(section)?.0.elements.get(at.index)?,
        };
        element.get(at.offset..)
    }

    /// The next place at or after `at` where there is a byte.
    fn settle(&self, mut at: Place) -> Place {
        while at.section < SECTIONS {
            if let Some((list, skipped)) = self.list(at.section) {
                if Some(at.index) == skipped {
                    at.index += 1;
                }
                // The first element that is written goes without the comma before it.
                let first = usize::from(skipped == Some(0));
                if at.index < list.elements.len() {
                    at.offset = at.offset.max(usize::from(at.index == first));
                    return at;
                }
            } else if at.index == 0 && self.piece(at).is_some_and(|piece| !piece.is_empty()) {
                return at;
            }
            at = Place { section: at.section + 1, ..Place::default() };
        }
        at
    }

    fn list(&self, section: usize) -> Option<(&List, Option<usize>)> {
        match section {
            RECORDS => Some((&self.encoded.records, self.skipped[0])),
            TRAILER => self.encoded.trailer.as_ref().map(|(_, list)| (list, self.skipped[1])),
            _ => None,
        }
    }

    fn count(&self, section: usize) -> usize {
        self.list(section).map_or(0, |(list, skipped)| list.elements.len() - usize::from(skipped.is_some()))
    }
}
