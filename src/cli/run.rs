//! `lapsed run`: the daemon.

use super::{Context, exit::Exit, unwired};

pub(super) async fn run(_context: &Context) -> anyhow::Result<Exit> {
    unwired("run").await
}
