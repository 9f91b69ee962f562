//! `lapsed import`: tokens from a file into the built-in store.

use super::{Context, args::Import, exit::Exit, unwired};

pub(super) async fn import(_context: &Context, _args: Import) -> anyhow::Result<Exit> {
    unwired("import").await
}
