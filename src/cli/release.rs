//! `lapsed release`: a held plan, let go or dropped.

use super::{Context, args::Release, exit::Exit, unwired};

pub(super) async fn release(_context: &Context, _args: Release) -> anyhow::Result<Exit> {
    unwired("release").await
}
