//! A published batch on its way from JavaScript.

use std::sync::Arc;

use ghostwire_sync::{Batch, Filter, Put, RecipientChange, ViewChange};
use napi::bindgen_prelude::{Either, Uint8ArraySlice, Uint32ArraySlice};
use napi_derive::napi;

use crate::guard::{Error, bug, from_sync, in_batch};
use crate::number::{count, handle};

/// JSON as text, or as its UTF-8 bytes.
type Json<'a> = Either<String, Uint8ArraySlice<'a>>;

/// Changes that become visible together.
#[napi(object, object_to_js = false)]
pub struct SyncBatch<'a> {
    pub revision: f64,
    pub puts: Option<Vec<SyncPut<'a>>>,
    pub removes: Option<Uint32ArraySlice<'a>>,
    #[napi(ts_type = "Array<string | Uint8Array>")]
    pub filters: Option<Vec<Json<'a>>>,
    pub views: Option<Vec<SyncView<'a>>>,
    pub recipients: Option<Vec<SyncRecipient<'a>>>,
    pub urgent: Option<bool>,
}

/// A record that is new or has changed.
#[napi(object, object_to_js = false)]
pub struct SyncPut<'a> {
    pub handle: f64,
    pub id: String,
    #[napi(ts_type = "string | Uint8Array")]
    pub record: Json<'a>,
    pub changed_at: Option<f64>,
}

/// A view that is edited or, with `drop`, forgotten.
#[napi(object, object_to_js = false)]
pub struct SyncView<'a> {
    pub view: f64,
    pub add: Option<Uint32ArraySlice<'a>>,
    pub remove: Option<Uint32ArraySlice<'a>>,
    /// The place of its new filter in the batch's list.
    pub filter: Option<f64>,
    pub drop: Option<bool>,
}

/// A recipient that is shown a view or, with `revoked`, forgotten.
#[napi(object, object_to_js = false)]
pub struct SyncRecipient<'a> {
    pub handle: f64,
    pub view: Option<f64>,
    #[napi(js_name = "self", ts_type = "string | Uint8Array")]
    pub own: Option<Json<'a>>,
    pub revoked: Option<bool>,
}

impl SyncBatch<'_> {
    pub(crate) fn convert(&self) -> Result<Batch, Error> {
        self.checked().map_err(in_batch)
    }

    fn checked(&self) -> Result<Batch, Error> {
        let filter = |json: &Json<'_>| Filter::new(bytes(json)).map(Arc::new).map_err(from_sync);
        let filters = each(&self.filters, filter)?;
        Ok(Batch {
            revision: count("revision", self.revision)?,
            puts: each(&self.puts, SyncPut::convert)?,
            removes: self.removes.as_deref().unwrap_or_default().to_vec(),
            views: each(&self.views, |view| view.convert(&filters))?,
            recipients: each(&self.recipients, SyncRecipient::convert)?,
            urgent: self.urgent.unwrap_or(false),
        })
    }
}

impl SyncPut<'_> {
    fn convert(&self) -> Result<Put, Error> {
        let changed_at = self.changed_at.map(|revision| count("changedAt", revision)).transpose()?;
        Put::new(handle("handle", self.handle)?, &self.id, bytes(&self.record), changed_at).map_err(from_sync)
    }
}

impl SyncView<'_> {
    fn convert(&self, filters: &[Arc<Filter>]) -> Result<ViewChange, Error> {
        let view = handle("view", self.view)?;
        if self.drop == Some(true) {
            return Ok(ViewChange::Drop { view });
        }
        let set = |handles: &Option<Uint32ArraySlice<'_>>| handles.as_deref().unwrap_or_default().iter().collect();
        let filter = match self.filter {
            None => None,
            Some(place) => {
                let found = filters.get(handle("filter", place)? as usize).cloned();
                Some(found.ok_or_else(|| {
                    bug(format!("view {view} names filter {place}, and the batch has {}", filters.len()))
                })?)
            }
        };
        Ok(ViewChange::Edit { view, add: set(&self.add), remove: set(&self.remove), filter })
    }
}

impl SyncRecipient<'_> {
    fn convert(&self) -> Result<RecipientChange, Error> {
        let recipient = handle("handle", self.handle)?;
        if self.revoked == Some(true) {
            return Ok(RecipientChange::Revoke { handle: recipient });
        }
        let view =
            self.view.ok_or_else(|| bug(format!("recipient {recipient} has neither a view nor revoked: true")))?;
        RecipientChange::set(recipient, handle("view", view)?, self.own.as_ref().map(bytes)).map_err(from_sync)
    }
}

fn bytes<'a>(json: &'a Json<'_>) -> &'a [u8] {
    match json {
        Either::A(text) => text.as_bytes(),
        Either::B(bytes) => bytes,
    }
}

fn each<A, B>(list: &Option<Vec<A>>, convert: impl Fn(&A) -> Result<B, Error>) -> Result<Vec<B>, Error> {
    list.iter().flatten().map(convert).collect()
}
