//! `lapsed release`: sends the mails of held plans, or discards them.

use chrono::{DateTime, Utc};

use super::args::Release;
use super::exit::{Exit, Result};
use super::output::print_line;
use super::setup::{self, Mode};
use super::{Context, actor};
use crate::store::Store;

pub(super) async fn release(context: &Context, args: Release) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let settled = setup::with_store(&config, Mode::Write, async |store| {
        settle_held_plans(store, args.discard, context.clock.now()).await
    });
    print_line(&settled.await?)?;
    Ok(Exit::Ok)
}

/// Releases or discards every held plan and returns the message to print.
pub(super) async fn settle_held_plans(
    store: &Store,
    discard: bool,
    now: DateTime<Utc>,
) -> Result<String> {
    let mut tx = store.begin().await?;
    let plans = tx.list_held_plans().await?;
    let count = tx.settle_held_plans(discard).await?;
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
        actor::record_action(&mut tx, now, (action, &plan.to_string()), Some(&notices)).await?;
    }
    tx.commit().await?;
    Ok(if discard {
        format!("discarded {notices}: suppressed, and never sent")
    } else {
        format!("released {notices}: the next sweep sends what is due")
    })
}
