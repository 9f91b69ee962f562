//! `lapsed finding`: findings, listed.

use super::{Context, args::FindingCommand, exit::Exit, unwired};

pub(super) async fn finding(_context: &Context, _args: FindingCommand) -> anyhow::Result<Exit> {
    unwired("finding").await
}
