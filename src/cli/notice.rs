//! `lapsed notice`: notices, listed.

use super::{Context, args::NoticeCommand, exit::Exit, unwired};

pub(super) async fn notice(_context: &Context, _args: NoticeCommand) -> anyhow::Result<Exit> {
    unwired("notice").await
}
