//! `lapsed token`: tokens, listed and shown.

use super::{Context, args::TokenCommand, exit::Exit, unwired};

pub(super) async fn token(_context: &Context, _args: TokenCommand) -> anyhow::Result<Exit> {
    unwired("token").await
}
