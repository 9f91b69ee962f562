//! `lapsed explain`: why a notice was, or was not, sent.

use super::{Context, args::Explain, exit::Exit, unwired};

pub(super) async fn explain(_context: &Context, _args: Explain) -> anyhow::Result<Exit> {
    unwired("explain").await
}
