//! `lapsed token revoke`: revokes a token at its source.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::args::TokenRevoke;
use crate::cli::exit::{Error, Exit, Failure, Result};
use crate::cli::output::print_line;
use crate::cli::setup::{self, Mode};
use crate::cli::{Context, audit, query};
use crate::config::Config;
use crate::domain::{Recipient, Status, Token};
use crate::engine::{self, Engine, RevocationOrder, RevokeRefusal};
use crate::sources;

pub(super) async fn revoke(context: &Context, config: &Config, args: TokenRevoke) -> Result<Exit> {
    let mode = Mode::new(args.dry_run);
    setup::with_engine(context, config, mode, async |engine| {
        revoke_one(engine, &args).await
    })
    .await
}

async fn revoke_one(engine: &Engine, args: &TokenRevoke) -> Result<Exit> {
    let mut tx = engine.store.begin_read().await?;
    let token = query::find_token(&mut tx, &args.id).await?;
    let recipients = engine.revocation().recipients(&mut tx, &token).await?;
    drop(tx);
    let label = query::label(&token);
    if token.status == Status::Revoked {
        print_line(&format!("{label} is already revoked; nothing was changed"))?;
        return Ok(Exit::Ok);
    }
    engine
        .revocation()
        .may_revoke(&token)
        .map_err(refusal_failure)?;
    if args.dry_run {
        let notified = address_list(&recipients);
        print_line(&format!(
            "would revoke {label} at its source and notify {notified}; nothing was changed"
        ))?;
    } else if args.yes || ask_confirmation(&token, &recipients)? {
        revoke_at_source(engine, &token, args.reason.as_deref()).await?;
    } else {
        print_line("nothing was changed")?;
    }
    Ok(Exit::Ok)
}

async fn revoke_at_source(engine: &Engine, token: &Token, reason: Option<&str>) -> Result<()> {
    let by = audit::actor();
    let order = RevocationOrder {
        token,
        by: &by,
        reason,
    };
    let revoked = engine
        .revocation()
        .revoke(order)
        .await
        .map_err(revoke_failure)?;
    let mut lines = vec![format!(
        "{} was revoked at its source.",
        query::label(token)
    )];
    match revoked.cancelled {
        0 => {}
        1 => lines.push("1 notice about it was cancelled.".to_owned()),
        count => lines.push(format!("{count} notices about it were cancelled.")),
    }
    let notified = address_list(&revoked.recipients);
    lines.push(format!("The next sweep notifies {notified}."));
    Ok(print_line(&lines.join("\n"))?)
}

/// Asks at the terminal whether to revoke the token.
fn ask_confirmation(token: &Token, recipients: &[Recipient]) -> Result<bool> {
    if !io::stdin().is_terminal() {
        let error = anyhow::anyhow!("there is no terminal to ask for confirmation");
        return Err(Failure::usage(error)
            .hint("add --yes if you are sure")
            .into());
    }
    let mut out = anstream::stderr();
    write!(
        out,
        "Revoke {} at its source? This cannot be undone. {} will be notified.\nType yes to revoke it: ",
        query::label(token),
        address_list(recipients)
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

fn address_list(recipients: &[Recipient]) -> String {
    let addresses: Vec<&str> = recipients
        .iter()
        .map(|recipient| recipient.address.as_str())
        .collect();
    match addresses.as_slice() {
        [] => "no one (no address is known)".to_owned(),
        addresses => addresses.join(", "),
    }
}

fn refusal_failure(refused: RevokeRefusal) -> Failure {
    let hint = match &refused {
        RevokeRefusal::UnknownSource(_) => {
            "revoke it in its own system; `lapsed source list` shows the configured sources"
                .to_owned()
        }
        RevokeRefusal::NotAllowed(name) => format!(
            "set `allow_revoke = true` in the [[source]] {name:?}; `lapsed source check {name}` shows whether its \
             credentials allow it"
        ),
        RevokeRefusal::OwnToken => {
            "set another token in the configuration first; then you can revoke this one".to_owned()
        }
        RevokeRefusal::NotActive(_) | RevokeRefusal::OfMachine => {
            "`lapsed token show` shows what is known about it".to_owned()
        }
    };
    Failure::failed(refused).hint(hint)
}

fn revoke_failure(error: engine::Error) -> Error {
    match error {
        engine::Error::Revoke(refused) => refusal_failure(refused).into(),
        engine::Error::Listing(error) if error.wait().is_some() => {
            Failure::unreachable(error).into()
        }
        engine::Error::Listing(error) => {
            let hint = match &error {
                sources::Error::NoSuchToken(_) => {
                    "it may have ended already; `lapsed source sync NAME` updates its status"
                }
                sources::Error::StillThere => {
                    "check it in that system; `lapsed audit list` shows the attempt"
                }
                error if !error.is_in_doubt() => {
                    "nothing was changed at the source; `lapsed audit list` shows the attempt"
                }
                _ => {
                    "the outcome is unknown; it is safe to try again; `lapsed audit list` shows the attempt"
                }
            };
            Failure::failed(error).hint(hint).into()
        }
        error => error.into(),
    }
}
