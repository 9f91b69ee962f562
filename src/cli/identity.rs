//! `lapsed identity`: people, listed and shown.

use super::{Context, args::IdentityCommand, exit::Exit, unwired};

pub(super) async fn identity(_context: &Context, _args: IdentityCommand) -> anyhow::Result<Exit> {
    unwired("identity").await
}
