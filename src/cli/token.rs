//! `lapsed token`: tokens, listed and shown.

use std::io::{self, Write};

use chrono::{DateTime, Utc};

use super::{
    Context,
    args::{Format, TokenCommand, TokenList, TokenShow},
    exit::Exit,
    lookup,
    output::{
        Printer, View,
        rows::{FindingRow, NoticeRow, StepRow, TokenDetail, TokenRow},
        show,
    },
    pages::pages,
    revoke,
    setup::{self, store_failure},
    steps::step_rows,
};
use crate::config::Config;
use crate::domain::{Policy, TokenRef};
use crate::store::{Store, TokenFilter};

pub(super) async fn token(context: &Context, args: TokenCommand) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let now = context.clock.now();
    match args {
        TokenCommand::List(args) => {
            let store = setup::store(&config).await?;
            let mut printer = Printer::stdout(args.listing.format, now);
            list(&store, &args, now, &mut printer).await?;
            printer.finish()?;
            store.close().await;
            Ok(Exit::Ok)
        }
        TokenCommand::Show(args) => show_one(&config, &args, now).await,
        TokenCommand::Revoke(args) => revoke::revoke(context, &config, args).await,
    }
}

async fn show_one(config: &Config, args: &TokenShow, now: DateTime<Utc>) -> anyhow::Result<Exit> {
    let store = setup::store(config).await?;
    let told = Told {
        policy: setup::policy(config),
        domain: config.notify.from.email.domain(),
        now,
    };
    let (mut detail, steps) = detail(&store, &args.id, &told).await?;
    detail.page = page_of(config, &detail.token.source, &detail.token.external_id);
    print(
        args.shown.format,
        View::of_stdout(now),
        io::stdout(),
        (&detail, &steps),
    )?;
    store.close().await;
    Ok(Exit::Ok)
}

/// The page of a token at its source, where that has one.
fn page_of(config: &Config, source: &str, external_id: &str) -> Option<String> {
    let configured = config.sources.iter().find(|it| it.name == source)?;
    setup::source(configured).ok()?.source.page_of(external_id)
}

/// Lists what the filters let through, in order of source and external id; by expiry where they
/// name one.
pub(super) async fn list(
    store: &Store,
    args: &TokenList,
    now: DateTime<Utc>,
    printer: &mut Printer<TokenRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    let filter = TokenFilter {
        status: args.status,
        issuer_key: args.issuer.as_ref().map(|issuer| issuer.key().to_owned()),
        has_no_issuer: args.no_issuer,
        role: args.role.clone(),
        source: args.source.clone(),
        expires_until: args.expires_within.map(|span| now + span),
    };
    pages(
        printer,
        args.listing.limit,
        async |last: Option<&crate::store::TokenView>, limit| {
            let after = last.map(|view| &view.token);
            store
                .read()
                .await?
                .list_tokens(&filter, after, now, limit)
                .await
        },
        |view| TokenRow::listed(view, now),
    )
    .await
}

/// What telling of one token takes beside the store.
pub(super) struct Told<'a> {
    pub(super) policy: Policy,
    /// That of `[notify] from`.
    pub(super) domain: &'a str,
    pub(super) now: DateTime<Utc>,
}

/// All that is known of one token, as of one moment.
pub(super) async fn detail(
    store: &Store,
    reference: &TokenRef,
    told: &Told<'_>,
) -> anyhow::Result<(TokenDetail, Vec<StepRow>)> {
    let mut tx = store.read().await.map_err(store_failure)?;
    let token = lookup::token(&mut tx, reference).await?;
    let notices = tx.notices_about(&[token.id]).await.map_err(store_failure)?;
    let findings = tx
        .findings_of(token.id, told.now)
        .await
        .map_err(store_failure)?;
    let admins = tx
        .told_admins(std::slice::from_ref(&token))
        .await
        .map_err(store_failure)?;
    drop(tx);
    let steps = step_rows(&token, &told.policy, &notices, told.now);
    let findings: Result<Vec<_>, _> = findings.into_iter().map(FindingRow::stored).collect();
    let notices: Result<Vec<_>, _> = notices
        .iter()
        .map(|notice| NoticeRow::stored(notice, told.domain))
        .collect();
    let detail = TokenDetail {
        token: TokenRow::new(&token, findings.map_err(store_failure)?, told.now),
        notices: notices.map_err(store_failure)?,
        page: None,
        admins: admins.of(&token).to_vec(),
    };
    Ok((detail, steps))
}

pub(super) fn print(
    format: Format,
    view: View,
    out: impl Write,
    (detail, steps): (&TokenDetail, &[StepRow]),
) -> anyhow::Result<()> {
    let keys = TokenDetail::KEYS;
    Ok(show(format, view, out, (detail, keys), |sheet| {
        detail.write_to(sheet, steps);
    })?)
}
