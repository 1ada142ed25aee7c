//! The database as one thread of JavaScript holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use napi::JsString;
use napi::bindgen_prelude::{BufferSlice, Env, Function, Object};
use napi_derive::napi;
use zqlite_store::{Error, ErrorCode, Shape, Sink, Statement, Store};

use crate::guard::{guard, to_napi};
use crate::mailbox::{Mailbox, Waker};
use crate::options::{NativeMetrics, NativeOptions};
use crate::request::Sender;

/// An open database; see `lib/channel.ts` for its one user.
#[napi]
pub struct NativeDatabase {
    store: Option<Arc<Store>>,
    mailbox: Arc<Mailbox>,
    sink: Arc<dyn Sink>,
    statements: Vec<Arc<Statement>>,
    shapes: Vec<Arc<Shape>>,
    sender: u32,
}

/// Opens a database on a thread of its own. `wake` is called on the JavaScript thread when answers have come.
#[napi(ts_return_type = "Promise<NativeDatabase>")]
pub fn open_database<'env>(
    env: &'env Env,
    options: NativeOptions,
    wake: Function<'env, (), ()>,
) -> napi::Result<Object<'env>> {
    let waker: Waker = wake.build_threadsafe_function().weak::<true>().build()?;
    let mailbox = Mailbox::new(waker);
    let (deferred, promise) = env.create_deferred()?;
    spawn(move || match guard(|| Store::open(options.into())) {
        Ok(store) => deferred.resolve(move |_| Ok(NativeDatabase::new(store, mailbox))),
        Err(error) => deferred.reject(error),
    })?;
    Ok(promise)
}

fn spawn(f: impl FnOnce() + Send + 'static) -> napi::Result<()> {
    let started = std::thread::Builder::new().name("zqlite-open".into()).spawn(f);
    started.map(drop).map_err(|e| to_napi(&Error::new(ErrorCode::OutOfMemory, format!("cannot start a thread: {e}"))))
}

#[napi]
impl NativeDatabase {
    fn new(store: Arc<Store>, mailbox: Arc<Mailbox>) -> Self {
        static SENDERS: AtomicU32 = AtomicU32::new(1);
        let sender = SENDERS.fetch_add(1, Ordering::Relaxed);
        let sink = mailbox.clone();
        Self { store: Some(store), mailbox, sink, statements: Vec::new(), shapes: Vec::new(), sender }
    }

    fn store(&self) -> Result<&Arc<Store>, Error> {
        self.store.as_ref().ok_or_else(|| Error::new(ErrorCode::Closed, "the database is closed"))
    }

    /// The number by which requests name this SQL text from now on.
    #[napi]
    pub fn intern(&mut self, sql: String) -> napi::Result<u32> {
        guard(|| {
            let statement = self.store()?.statement(&sql);
            self.statements.push(statement);
            Ok(self.statements.len() as u32 - 1)
        })
    }

    /// Forgets all numbers; requests handed over before keep their statements.
    #[napi]
    pub fn forget_statements(&mut self) {
        self.statements.clear();
    }

    /// Hands requests to the lanes.
    #[napi]
    pub fn submit(&mut self, requests: BufferSlice<'_>) -> napi::Result<()> {
        guard(|| {
            let sender = Sender { sink: &self.sink, statements: &self.statements, sender: self.sender };
            let jobs = sender.read(Bytes::copy_from_slice(&requests))?;
            self.store()?.submit(jobs);
            Ok(())
        })
    }

    /// Fills `buffer` with answers and returns their text.
    #[napi]
    pub fn collect<'env>(&mut self, env: &'env Env, mut buffer: BufferSlice<'_>) -> napi::Result<JsString<'env>> {
        let collected = guard(|| Ok(self.mailbox.collect(&mut buffer)))?;
        self.shapes = collected.shapes;
        if collected.text.is_ascii() {
            return env.create_string_latin1(&collected.text);
        }
        // Lanes deliver valid UTF-8 only.
        env.create_string(String::from_utf8_lossy(&collected.text))
    }

    /// The columns of a shape that the last [`Self::collect`] named.
    #[napi]
    pub fn columns(&self, shape: u32) -> Vec<String> {
        self.shapes.iter().find(|s| s.id == shape).map(|s| s.columns.clone()).unwrap_or_default()
    }

    /// The counters now.
    #[napi]
    pub fn metrics(&self) -> napi::Result<NativeMetrics> {
        guard(|| Ok(self.store()?.metrics().into()))
    }

    /// Lets go of the database; resolves when its file is closed or others of this process keep it open.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&mut self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred()?;
        let store = self.store.take();
        spawn(move || {
            drop(store);
            deferred.resolve(|_| Ok(()));
        })?;
        Ok(promise)
    }
}

impl Drop for NativeDatabase {
    /// Closing waits for lanes, and the garbage collector must not.
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            let _ = std::thread::Builder::new().name("zqlite-close".into()).spawn(move || drop(store));
        }
    }
}
