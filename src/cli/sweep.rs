//! `lapsed sweep`: one pass.

use super::{Context, args::Sweep, exit::Exit, unwired};

pub(super) async fn sweep(_context: &Context, _args: Sweep) -> anyhow::Result<Exit> {
    unwired("sweep").await
}
