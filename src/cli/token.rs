//! `lapsed token`: lists, shows and revokes tokens.

use std::io::{self, Write};

use chrono::{DateTime, Utc};

use super::args::{Format, TokenCommand, TokenList, TokenShow};
use super::exit::{Exit, Result};
use super::output::rows::{FindingRow, NoticeRow, StepRow, TokenDetail, TokenRow};
use super::output::{Printer, View, print_one};
use super::pages::print_pages;
use super::setup::{self, Mode};
use super::steps::step_rows;
use super::{Context, lookup, revoke};
use crate::config::Config;
use crate::domain::{Policy, TokenRef};
use crate::store::{Store, TokenFilter};

pub(super) async fn token(context: &Context, args: TokenCommand) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let now = context.clock.now();
    match args {
        TokenCommand::List(args) => {
            let mut printer = Printer::stdout(args.options.format, now);
            setup::with_store(&config, Mode::Write, async |store| {
                list(store, &args, now, &mut printer).await
            })
            .await?;
            printer.finish()?;
            Ok(Exit::Ok)
        }
        TokenCommand::Show(args) => show_one(&config, &args, now).await,
        TokenCommand::Revoke(args) => revoke::revoke(context, &config, args).await,
    }
}

async fn show_one(config: &Config, args: &TokenShow, now: DateTime<Utc>) -> Result<Exit> {
    let context = DetailContext {
        policy: config.policy.clone(),
        domain: config.mail_identity.from.email.domain(),
        now,
    };
    let (mut detail, steps) = setup::with_store(config, Mode::Write, async |store| {
        load_detail(store, &args.id, &context).await
    })
    .await?;
    detail.page = page_url(config, &detail.token.source, &detail.token.external_id);
    print(
        args.options.format,
        View::for_stdout(now),
        io::stdout(),
        (&detail, &steps),
    )?;
    Ok(Exit::Ok)
}

/// The URL of the token's page at its source, if the source has such pages.
fn page_url(config: &Config, source: &str, external_id: &str) -> Option<String> {
    let source_config = config
        .sources
        .iter()
        .find(|configured| configured.terms.name == source)?;
    setup::build_source(source_config)
        .ok()?
        .source
        .token_page(external_id)
}

/// Lists the tokens that match the filters, by source and external id, or by expiry if they limit it.
pub(super) async fn list(
    store: &Store,
    args: &TokenList,
    now: DateTime<Utc>,
    printer: &mut Printer<TokenRow, impl Write, impl Write>,
) -> Result<()> {
    let filter = TokenFilter {
        status: args.status,
        issuer_key: args.issuer.as_ref().map(|issuer| issuer.key().to_owned()),
        has_no_issuer: args.no_issuer,
        role: args.role.clone(),
        source: args.source.clone(),
        expires_until: args.expires_within.map(|span| now + span),
    };
    print_pages(
        printer,
        args.options.limit,
        async |last: Option<&crate::store::TokenView>, limit| {
            let after = last.map(|view| &view.token);
            store
                .begin_read()
                .await?
                .list_tokens(&filter, after, now, limit)
                .await
        },
        |view| TokenRow::from_view(view, now),
    )
    .await
}

/// What [`load_detail`] needs beside the store.
pub(super) struct DetailContext<'a> {
    pub(super) policy: Policy,
    /// The domain of `[notify] from`.
    pub(super) domain: &'a str,
    pub(super) now: DateTime<Utc>,
}

/// One token with its steps, notices and findings.
pub(super) async fn load_detail(
    store: &Store,
    reference: &TokenRef,
    context: &DetailContext<'_>,
) -> Result<(TokenDetail, Vec<StepRow>)> {
    let mut tx = store.begin_read().await?;
    let token = lookup::find_token(&mut tx, reference).await?;
    let notices = tx.list_notices_of_tokens(&[token.id]).await?;
    let findings = tx.list_findings_of_token(token.id, context.now).await?;
    let admins = tx.load_account_admins(std::slice::from_ref(&token)).await?;
    drop(tx);
    let steps = step_rows(&token, &context.policy, &notices, context.now);
    let findings = findings.into_iter().map(FindingRow::from).collect();
    let notices = notices
        .iter()
        .map(|notice| NoticeRow::from_stored(notice, context.domain));
    let detail = TokenDetail {
        token: TokenRow::new(&token, findings, context.now),
        notices: notices.collect(),
        page: None,
        admins: admins.for_token(&token).to_vec(),
    };
    Ok((detail, steps))
}

pub(super) fn print(
    format: Format,
    view: View,
    out: impl Write,
    (detail, steps): (&TokenDetail, &[StepRow]),
) -> Result<()> {
    let keys = TokenDetail::KEYS;
    Ok(print_one(format, view, out, (detail, keys), |sheet| {
        detail.write_to(sheet, steps);
    })?)
}
