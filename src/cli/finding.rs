//! `lapsed finding`: findings, listed.

use std::io::Write;

use super::{
    Context,
    args::{FindingCommand, FindingList},
    exit::Exit,
    output::{Printer, rows::FindingRow},
    pages::pages,
    setup,
};
use crate::store::{self, Store};

pub(super) async fn finding(context: &Context, args: FindingCommand) -> anyhow::Result<Exit> {
    let FindingCommand::List(args) = args;
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let mut printer = Printer::stdout(args.listing.format, context.clock.now());
    list(&store, &args, &mut printer).await?;
    printer.finish()?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Lists the open findings, or all, the last found first.
pub(super) async fn list(
    store: &Store,
    args: &FindingList,
    printer: &mut Printer<FindingRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    pages(
        printer,
        args.listing.limit,
        async |last: Option<&store::FindingRow>, limit| {
            let before = last.map(|finding| finding.id);
            store
                .read()
                .await?
                .list_findings(args.kind, args.all, before, limit)
                .await
        },
        |finding| FindingRow::stored(finding.clone()),
    )
    .await
}
