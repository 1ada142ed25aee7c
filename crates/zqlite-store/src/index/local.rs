//! A connection's view of the indexes: which snapshot belongs to the transaction that it is in.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::index::content::Content;
use crate::index::definition::KindName;
use crate::index::keeper::Keeper;
use crate::index::own::Own;
use crate::index::shelf::{Generation, Indexes, Shelf, find};
use crate::index::{definitions, functions, tables};
use crate::watch::Watch;
use crate::{Error, Result};

/// What a connection has of indexes.
pub(crate) struct Local {
    pub(crate) own: Arc<Own>,
    view: View,
}

enum View {
    /// Sees the changes of its own transaction.
    Writer(Keeper),
    /// Of a file that other processes may write: made from what it reads itself.
    Alone(Mutex<Option<Arc<Keeper>>>),
    /// Takes the snapshot that the number names which it reads in its own transaction.
    Reader { shelf: Arc<Shelf>, latest: Mutex<Arc<Generation>> },
}

impl Local {
    /// The view of the connection that writes.
    pub(crate) fn writer(connection: &Connection, watch: &Arc<Watch>, shelf: &Arc<Shelf>) -> Result<Arc<Self>> {
        let own = Arc::new(Own::of(connection, watch)?);
        let keeper = Keeper::open(own.clone(), shelf.clone());
        Self::install(connection, own, keeper.map(View::Writer))
    }

    /// The view of a connection that reads what a writer of this process writes.
    pub(crate) fn reader(connection: &Connection, watch: &Arc<Watch>, shelf: &Arc<Shelf>) -> Result<Arc<Self>> {
        let own = Arc::new(Own::of(connection, watch)?);
        let view = View::Reader { shelf: shelf.clone(), latest: Mutex::new(shelf.published()) };
        Self::install(connection, own, Ok(view))
    }

    /// The view of a connection to a file that this process does not write.
    pub(crate) fn alone(connection: &Connection, watch: &Arc<Watch>) -> Result<Arc<Self>> {
        let own = Arc::new(Own::of(connection, watch)?);
        Self::install(connection, own, Ok(View::Alone(Mutex::default())))
    }

    fn install(connection: &Connection, own: Arc<Own>, view: Result<View>) -> Result<Arc<Self>> {
        let made = view.and_then(|view| {
            let local = Arc::new(Self { own: own.clone(), view });
            functions::register(connection, &local)?;
            tables::register(connection, &local)?;
            Ok(local)
        });
        if made.is_err() {
            own.close();
        }
        made
    }

    /// The writer's side, on the connection that writes.
    pub(crate) fn keeper(&self) -> Option<&Keeper> {
        match &self.view {
            View::Writer(keeper) => Some(keeper),
            View::Alone(_) | View::Reader { .. } => None,
        }
    }

    /// The indexes as of the connection's transaction.
    ///
    /// # Errors
    /// `ERR_SNAPSHOT_TOO_OLD`, `ERR_INDEX_ROW` for changes of its own that do not fit, and as reading fails.
    fn indexes(&self) -> Result<Arc<Indexes>> {
        match &self.view {
            View::Writer(keeper) => keeper.indexes(),
            View::Alone(keeper) => {
                let mut keeper = keeper.lock();
                let keeper = match keeper.as_ref() {
                    Some(keeper) => keeper.clone(),
                    None => keeper.insert(Arc::new(Keeper::within(self.own.clone())?)).clone(),
                };
                keeper.follow_others()?;
                keeper.indexes()
            }
            View::Reader { shelf, latest } => {
                let number = self.own.internal(definitions::number)?;
                let mut latest = latest.lock();
                if latest.number != number {
                    *latest = shelf.get(number)?;
                }
                Ok(latest.indexes.clone())
            }
        }
    }

    /// Answers from an index; what fails is told in full by the call whose statement asks.
    pub(crate) fn answer<T>(
        &self,
        name: &str,
        kind: KindName,
        f: impl FnOnce(&Content) -> Result<T>,
    ) -> rusqlite::Result<T> {
        let answer = self.indexes().and_then(|indexes| find(&indexes, name, kind).and_then(f));
        answer.map_err(|error| self.error(error))
    }

    pub(crate) fn error(&self, error: Error) -> rusqlite::Error {
        rusqlite::Error::ModuleError(self.own.fail(error))
    }

    /// Lets go of what keeps the connection from closing.
    pub(crate) fn close(&self) {
        match &self.view {
            View::Writer(keeper) => keeper.close(),
            View::Alone(keeper) => keeper.lock().iter().for_each(|keeper| keeper.close()),
            View::Reader { .. } => {}
        }
        self.own.close();
    }
}
