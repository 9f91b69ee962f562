//! `lapsed backup`: a copy of the store.

use super::{Context, args::Backup, exit::Exit, unwired};

pub(super) async fn backup(_context: &Context, _args: Backup) -> anyhow::Result<Exit> {
    unwired("backup").await
}
