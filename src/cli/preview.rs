//! `lapsed preview`: the mails with sample data.

use super::{Context, args::Preview, exit::Exit, unwired};

pub(super) async fn preview(_context: &Context, _args: Preview) -> anyhow::Result<Exit> {
    unwired("preview").await
}
