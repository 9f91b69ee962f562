//! `lapsed directory`: directories, listed and released.

use super::{Context, args::DirectoryCommand, exit::Exit, unwired};

pub(super) async fn directory(_context: &Context, _args: DirectoryCommand) -> anyhow::Result<Exit> {
    unwired("directory").await
}
