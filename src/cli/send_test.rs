//! `lapsed send-test`: one mail to prove that mail goes out.

use super::{Context, args::SendTest, exit::Exit, unwired};

pub(super) async fn send_test(_context: &Context, _args: SendTest) -> anyhow::Result<Exit> {
    unwired("send-test").await
}
