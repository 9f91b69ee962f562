//! `lapsed check`: the doctor.

use super::{Context, exit::Exit, unwired};

pub(super) async fn check(_context: &Context) -> anyhow::Result<Exit> {
    unwired("check").await
}
