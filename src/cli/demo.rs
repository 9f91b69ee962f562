//! `lapsed demo`: the tour.

use super::{Context, args::Demo, exit::Exit, unwired};

pub(super) async fn demo(_context: &Context, _args: Demo) -> anyhow::Result<Exit> {
    unwired("demo").await
}
