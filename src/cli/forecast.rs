//! `lapsed forecast`: what will expire and who will be told when.

use super::{Context, args::Forecast, exit::Exit, unwired};

pub(super) async fn forecast(_context: &Context, _args: Forecast) -> anyhow::Result<Exit> {
    unwired("forecast").await
}
