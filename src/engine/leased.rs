//! The store as jobs and commands write to it: in pages, each of which is one transaction.
//!
//! A process can be stopped for longer than its lease lasts, without knowing. So each page of work under the sweep's
//! lease ends with a fence: it reads the lease again, and is written only if no other process has taken it.

use uuid::Uuid;

use crate::store::{self, Store, Tx};

use super::common::Error;

/// The lease that lets only one process at a time sync, judge and plan.
pub(crate) const SWEEP_LEASE: &str = "sweep";

#[derive(Clone, Copy)]
pub(super) struct LeasedStore<'a> {
    store: &'a Store,
    /// The holder of the sweep's lease; `None` for work that needs no lease.
    holder: Option<Uuid>,
}

impl<'a> LeasedStore<'a> {
    pub fn new(store: &'a Store, holder: Uuid) -> Self {
        let holder = Some(holder);
        Self { store, holder }
    }

    /// For work that may run beside a sweep.
    pub fn unleased(self) -> Self {
        Self {
            holder: None,
            ..self
        }
    }

    pub async fn begin_read(&self) -> store::Result<Tx> {
        self.store.begin_read().await
    }

    /// Opens a page, to be committed by [`LeasedStore::commit`]. Use [`page!`] where the work is one expression.
    pub async fn begin(&self) -> Result<OpenPage, Error> {
        Ok(OpenPage(self.store.begin().await?))
    }

    pub async fn empty_log(&self) -> store::Result<bool> {
        self.store.empty_log().await
    }

    /// On PostgreSQL the lease cannot change hands between the fence and the end of the commit. The lock is taken last,
    /// because a renewal of the lease waits for it.
    pub async fn commit(&self, OpenPage(mut tx): OpenPage) -> Result<(), Error> {
        if let Some(holder) = self.holder
            && !tx.lock_lease(SWEEP_LEASE, holder).await?
        {
            return Err(Error::LeaseLost);
        }
        Ok(tx.commit().await?)
    }
}

/// A transaction that only a [`LeasedStore`] can commit.
pub(super) struct OpenPage(Tx);

impl OpenPage {
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.0
    }
}

/// Awaits work that is one whole transaction, again if it lost a race. As [`Store::retrying`], for work that changes what
/// it uses.
macro_rules! retry {
    ($work:expr) => {{
        let mut retries = $crate::store::Retries::default();
        loop {
            match $work.await {
                Err(error) if retries.wait_for_another(&error).await => {}
                result => break result,
            }
        }
    }};
}
pub(super) use retry;

/// Writes one page: the work is one transaction, which is tried again if it lost a race. A macro, because the compiler
/// cannot prove that a future with an asynchronous closure may change threads.
macro_rules! page {
    ($store:expr, $tx:ident => $work:expr) => {{
        let store: $crate::engine::leased::LeasedStore<'_> = $store;
        $crate::engine::leased::retry!(async {
            let mut page = store.begin().await?;
            let $tx = page.tx();
            let value: Result<_, $crate::engine::common::Error> = async { $work }.await;
            let value = value?;
            store.commit(page).await?;
            Ok::<_, $crate::engine::common::Error>(value)
        })
    }};
}
pub(super) use page;

/// The same for work that counts. Its counts are added when they are written.
macro_rules! counted_page {
    ($store:expr, $report:ident, $tx:ident => $work:expr) => {{
        let written = $crate::engine::leased::page!($store, $tx => {
            let mut counted = $crate::engine::common::Report::default();
            let value: Result<_, $crate::engine::common::Error> = {
                let $report = &mut counted;
                async { $work }.await
            };
            Ok((value?, counted))
        });
        written.map(|(value, counted)| {
            $report.add(counted);
            value
        })
    }};
}
pub(super) use counted_page;
