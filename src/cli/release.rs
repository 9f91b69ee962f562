//! `lapsed release`: a held plan, let go or dropped.

use chrono::{DateTime, Utc};

use super::{
    Context, actor,
    args::Release,
    exit::Exit,
    output::say,
    setup::{self, store_failure},
};
use crate::store::Store;

pub(super) async fn release(context: &Context, args: Release) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    say(&settle(&store, args.discard, context.clock.now()).await?)?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Lets every held plan go, or drops it, and tells how much that was.
pub(super) async fn settle(
    store: &Store,
    discard: bool,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let mut tx = store.begin().await.map_err(store_failure)?;
    let plans = tx.held_plans().await.map_err(store_failure)?;
    let count = tx.settle_held(discard).await.map_err(store_failure)?;
    if plans.is_empty() && count == 0 {
        return Ok("nothing is held; nothing was changed".to_owned());
    }
    let notices = if count == 1 {
        "1 notice".to_owned()
    } else {
        format!("{count} notices")
    };
    let action = if discard {
        "plan.discard"
    } else {
        "plan.release"
    };
    for (plan, ..) in &plans {
        actor::audit(&mut tx, now, (action, &plan.to_string()), Some(&notices)).await?;
    }
    tx.commit().await.map_err(store_failure)?;
    Ok(if discard {
        format!("discarded {notices}: they are suppressed and will never be sent")
    } else {
        format!("released {notices}: the next sweep sends what is due")
    })
}
