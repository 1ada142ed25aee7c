//! The database as one thread of JavaScript holds it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use napi::bindgen_prelude::{Buffer, BufferSlice, Env, Function, JsValue, Object, ToNapiValue};
use napi::sys;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use zqlite_store::{
    Answer, BackupOptions, BackupProgress, Cancel, Error, ErrorCode, Record, Shape, Sink, Statement, Store, SyncLane,
};

use crate::acl_index::NativeAclIndex;
use crate::bitmap_index::NativeBitmapIndex;
use crate::call::{Call, function};
use crate::cidr_index::NativeCidrIndex;
use crate::guard::{guard, to_napi};
use crate::mailbox::{Collected, Mailbox, Waker, hand_over};
use crate::options::{NativeMetrics, NativeOptions, millis};
use crate::request::{Handles, Sender};

/// An open database; see `lib/channel.ts` for its one user.
#[napi]
pub struct NativeDatabase {
    /// Shared with the function of [`reader`](Self::reader). JavaScript calls one thing after the other, so that it is never
    /// borrowed twice.
    session: Rc<RefCell<Session>>,
    handles: Handles,
    backups: HashMap<u32, Cancel>,
    mailbox: Arc<Mailbox>,
    /// Tells the indexes that were asked for here.
    closed: Rc<Cell<bool>>,
}

/// What calls are made of, and those that are synchronous.
struct Session {
    /// Before the store, whose connections must be closed first.
    sync: Option<SyncLane>,
    /// Of synchronous calls; JavaScript writes to the one and reads the other between them.
    sync_request: Buffer,
    sync_answer: Buffer,
    /// Answers of a synchronous call that wait for a larger buffer.
    sync_answers: VecDeque<Answer>,
    store: Option<Arc<Store>>,
    sink: Arc<dyn Sink>,
    statements: Vec<Arc<Statement>>,
    shapes: Vec<Arc<Shape>>,
    sender: u32,
    /// Carried by every call: a thread that ended takes no answers, and its work must not hold a lane.
    ended: Cancel,
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

fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the database is closed")
}

fn spawn(f: impl FnOnce() + Send + 'static) -> napi::Result<()> {
    let started = std::thread::Builder::new().name("zqlite-open".into()).spawn(f);
    started.map(drop).map_err(|e| to_napi(&Error::new(ErrorCode::OutOfMemory, format!("cannot start a thread: {e}"))))
}

/// How well the database is.
#[napi(object)]
pub struct NativeHealth {
    /// The error, as it is thrown, if it cannot be read.
    pub failure: Option<String>,
    pub elapsed_ms: f64,
}

/// How far a backup is, in pages.
#[napi(object)]
pub struct NativeProgress {
    pub remaining: u32,
    pub total: u32,
}

impl From<BackupProgress> for NativeProgress {
    fn from(p: BackupProgress) -> Self {
        Self { remaining: p.remaining, total: p.total }
    }
}

/// How a backup is made; times are in milliseconds.
#[napi(object)]
pub struct NativeBackup {
    pub timeout: Option<f64>,
    pub path: String,
    pub overwrite: bool,
    pub pages: u32,
    pub pause: f64,
}

#[napi]
impl NativeDatabase {
    fn new(store: Arc<Store>, mailbox: Arc<Mailbox>) -> Self {
        static SENDERS: AtomicU32 = AtomicU32::new(1);
        let sender = SENDERS.fetch_add(1, Ordering::Relaxed);
        let session = Session {
            sync: None,
            sync_request: Buffer::from(Vec::new()),
            sync_answer: Buffer::from(Vec::new()),
            sync_answers: VecDeque::new(),
            store: Some(store),
            sink: mailbox.clone(),
            statements: Vec::new(),
            shapes: Vec::new(),
            sender,
            ended: Cancel::default(),
        };
        Self {
            session: Rc::new(RefCell::new(session)),
            handles: Handles::default(),
            backups: HashMap::new(),
            mailbox,
            closed: Rc::default(),
        }
    }

    fn store(&self) -> Result<Arc<Store>, Error> {
        self.session.borrow().store().cloned()
    }

    /// The number of the store, which all objects of the process on the same file share.
    #[napi(getter)]
    pub fn store_number(&self) -> napi::Result<u32> {
        guard(|| Ok(self.store()?.number()))
    }

    /// The number by which requests name this SQL text from now on.
    #[napi]
    pub fn intern(&mut self, sql: String) -> napi::Result<u32> {
        guard(|| {
            let mut session = self.session.borrow_mut();
            let statement = session.store()?.statement(&sql);
            session.statements.push(statement);
            Ok(session.statements.len() as u32 - 1)
        })
    }

    /// Forgets all numbers; requests handed over before keep their statements.
    #[napi]
    pub fn forget_statements(&mut self) {
        self.session.borrow_mut().statements.clear();
    }

    /// Hands requests to the lanes.
    #[napi]
    pub fn submit(&mut self, requests: BufferSlice<'_>) -> napi::Result<()> {
        guard(|| {
            let session = self.session.borrow();
            let jobs = session.sender().read(Bytes::copy_from_slice(&requests), &mut self.handles)?;
            session.store()?.submit(jobs);
            Ok(())
        })
    }

    /// Fills `buffer` with answers and returns their text.
    #[napi(ts_return_type = "string")]
    pub fn collect(&mut self, mut buffer: BufferSlice<'_>) -> napi::Result<AnswerText> {
        let collected = guard(|| Ok(self.mailbox.collect(&mut buffer)))?;
        Ok(self.session.borrow_mut().text(collected))
    }

    /// Where synchronous calls find their request and leave their answer, from now on: to ask for two buffers anew costs more
    /// than a short call.
    #[napi]
    pub fn bind_sync(&mut self, request: Buffer, answer: Buffer) {
        let mut session = self.session.borrow_mut();
        (session.sync_request, session.sync_answer) = (request, answer);
    }

    /// A function that runs one reading request of as many bytes on the calling thread, and answers as [`Self::collect`] does. A
    /// method takes a fifth of a short call more.
    #[napi(ts_return_type = "(length: number) => string")]
    pub fn reader<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), AnswerText>> {
        let session = Rc::clone(&self.session);
        function(env, "read", move |call: &Call<1>| Ok(session.borrow_mut().read(call.get(0)?)?))
    }

    /// Runs one writing request of that many bytes on the calling thread, which waits for the commit, and answers as
    /// [`Self::collect`] does.
    #[napi(ts_return_type = "string")]
    pub fn write_sync(&mut self, length: u32) -> napi::Result<AnswerText> {
        guard(|| self.session.borrow_mut().write(length))
    }

    /// The rest of the answer to the last synchronous call.
    #[napi(ts_return_type = "string")]
    pub fn collect_sync(&mut self) -> napi::Result<AnswerText> {
        guard(|| Ok(self.session.borrow_mut().hand_over()))
    }

    /// Gives a call up that was handed over with the flag for it.
    #[napi]
    pub fn cancel(&self, token: u32) -> napi::Result<()> {
        guard(|| {
            if let Some(cancel) = self.handles.cancels.get(&token) {
                cancel.cancel();
                self.store()?.sweep();
            }
            Ok(())
        })
    }

    /// Forgets what can be said of an answered call.
    #[napi]
    pub fn settled(&mut self, token: u32) {
        self.handles.cancels.remove(&token);
        self.handles.flows.remove(&token);
    }

    /// The reader of a stream is done with a chunk, or wants no more.
    #[napi]
    pub fn pull(&self, token: u32, more: bool) {
        if let Some(flow) = self.handles.flows.get(&token) {
            if more { flow.take() } else { flow.end() }
        }
    }

    /// Asks whether the database is well, beside all lanes.
    #[napi(ts_return_type = "Promise<NativeHealth>")]
    pub fn health<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred()?;
        let store = guard(|| self.store())?;
        store.health(move |health| {
            deferred.resolve(move |_| {
                Ok(NativeHealth {
                    failure: health.failure.map(|e| to_napi(&e).reason.to_string()),
                    elapsed_ms: health.elapsed.as_secs_f64() * 1000.0,
                })
            });
        });
        Ok(promise)
    }

    /// Copies the database to another file on a thread of its own.
    #[napi(ts_return_type = "Promise<NativeProgress>")]
    pub fn backup<'env>(
        &mut self,
        env: &'env Env,
        id: u32,
        options: NativeBackup,
        progress: Function<'env, NativeProgress, ()>,
    ) -> napi::Result<Object<'env>> {
        let progress: ThreadsafeFunction<NativeProgress, (), NativeProgress, napi::Status, false, true> =
            progress.build_threadsafe_function().weak::<true>().build()?;
        let (deferred, promise) = env.create_deferred()?;
        let store = guard(|| self.store())?;
        let cancel = Cancel::default();
        self.backups.insert(id, cancel.clone());
        let deadline = options.timeout.map(|timeout| Instant::now() + millis(timeout));
        spawn(move || {
            let options = BackupOptions {
                path: options.path.into(),
                overwrite: options.overwrite,
                pages: options.pages,
                pause: millis(options.pause),
                cancel,
                deadline,
            };
            let mut told = |at: BackupProgress| {
                progress.call(at.into(), ThreadsafeFunctionCallMode::NonBlocking);
            };
            let result = guard(|| store.backup(&options, &mut told));
            drop(store);
            match result {
                Ok(done) => deferred.resolve(move |_| Ok(NativeProgress::from(done))),
                Err(error) => deferred.reject(error),
            }
        })?;
        Ok(promise)
    }

    /// Gives a backup up.
    #[napi]
    pub fn cancel_backup(&mut self, id: u32) {
        if let Some(cancel) = self.backups.remove(&id) {
            cancel.cancel();
        }
    }

    /// The columns of a shape that the last [`Self::collect`] named.
    #[napi]
    pub fn columns(&self, shape: u32) -> Vec<String> {
        self.session.borrow().shapes.iter().find(|s| s.id == shape).map(|s| s.columns.clone()).unwrap_or_default()
    }

    /// The index of kind `cidr` with this name.
    #[napi]
    pub fn cidr_index(&self, name: String) -> napi::Result<NativeCidrIndex> {
        guard(|| {
            let index = self.store()?.indexes().cidr(name);
            index.check()?;
            Ok(NativeCidrIndex::of(index, self.closed.clone()))
        })
    }

    /// The index of kind `bitmap` with this name.
    #[napi]
    pub fn bitmap_index(&self, name: String) -> napi::Result<NativeBitmapIndex> {
        guard(|| {
            let index = self.store()?.indexes().bitmap(name);
            index.check()?;
            Ok(NativeBitmapIndex::of(index, self.closed.clone()))
        })
    }

    /// The index of kind `acl` with this name.
    #[napi]
    pub fn acl_index(&self, name: String) -> napi::Result<NativeAclIndex> {
        guard(|| {
            let index = self.store()?.indexes().acl(name);
            index.check()?;
            Ok(NativeAclIndex::of(index, self.closed.clone()))
        })
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
        self.closed.set(true);
        self.backups.drain().for_each(|(_, cancel)| cancel.cancel());
        let store = self.session.borrow_mut().leave();
        spawn(move || {
            drop(store);
            deferred.resolve(|_| Ok(()));
        })?;
        Ok(promise)
    }
}

impl Session {
    fn store(&self) -> Result<&Arc<Store>, Error> {
        self.store.as_ref().ok_or_else(closed)
    }

    /// The store, which is to be closed; it is not used from here any more.
    fn leave(&mut self) -> Option<Arc<Store>> {
        self.sync = None;
        self.store.take()
    }

    fn sender(&self) -> Sender<'_> {
        Sender { sink: &self.sink, statements: &self.statements, sender: self.sender, ended: &self.ended }
    }

    fn request(&self, length: u32) -> Result<Bytes, Error> {
        let request = self.sync_request.get(..length as usize);
        request.map(Bytes::copy_from_slice).ok_or_else(|| Error::new(ErrorCode::Internal, "a request is cut off"))
    }

    fn read(&mut self, length: u32) -> Result<AnswerText, Error> {
        let queued = Instant::now();
        let store = self.store.as_ref().ok_or_else(closed)?;
        let call = self.sender().one(self.request(length)?)?;
        if self.sync.is_none() {
            self.sync = Some(store.sync_lane()?);
        }
        let answer = match self.sync.as_mut() {
            Some(lane) => lane.run(call, queued),
            None => Err(Error::new(ErrorCode::Internal, "there is no synchronous connection")),
        };
        Ok(self.answer(answer))
    }

    fn write(&mut self, length: u32) -> Result<AnswerText, Error> {
        let (work, deadline) = self.sender().write(self.request(length)?)?;
        let answer = self.store()?.write_sync(work, deadline);
        Ok(self.answer(answer))
    }

    fn answer(&mut self, answer: Result<Vec<Record>, Error>) -> AnswerText {
        self.sync_answers.clear();
        match answer {
            Ok(records) => {
                let last = records.len().saturating_sub(1);
                let records = records.into_iter().enumerate();
                self.sync_answers.extend(records.map(|(i, r)| Answer { token: 0, result: Ok(r), last: i == last }));
            }
            Err(error) => self.sync_answers.push_back(Answer { token: 0, result: Err(error), last: true }),
        }
        self.hand_over()
    }

    fn hand_over(&mut self) -> AnswerText {
        let collected = hand_over(&mut self.sync_answers, &mut self.sync_answer);
        self.text(collected)
    }

    fn text(&mut self, Collected { text, shapes }: Collected) -> AnswerText {
        self.shapes = shapes;
        AnswerText(text)
    }
}

/// The text that answers cut theirs from.
pub struct AnswerText(Vec<u8>);

impl ToNapiValue for AnswerText {
    unsafe fn to_napi_value(env: sys::napi_env, Self(text): Self) -> napi::Result<sys::napi_value> {
        let env = Env::from_raw(env);
        if text.is_ascii() {
            return env.create_string_latin1(&text).map(|text| text.raw());
        }
        // Lanes deliver valid UTF-8 only.
        env.create_string(String::from_utf8_lossy(&text)).map(|text| text.raw())
    }
}

impl Drop for NativeDatabase {
    /// Closing waits for lanes, and the garbage collector must not.
    fn drop(&mut self) {
        self.backups.values().for_each(Cancel::cancel);
        let mut session = self.session.borrow_mut();
        session.ended.cancel();
        if let Some(store) = session.leave() {
            let _ = std::thread::Builder::new().name("zqlite-close".into()).spawn(move || drop(store));
        }
    }
}
