//! `lapsed migrate`: the store, created or brought up to date.

use super::{Context, exit::Exit, unwired};

pub(super) async fn migrate(_context: &Context) -> anyhow::Result<Exit> {
    unwired("migrate").await
}
