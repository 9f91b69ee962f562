//! `lapsed token revoke`: ends a token where it lives.

use std::io::{self, BufRead, IsTerminal, Write};

use super::{
    Context, actor,
    args::TokenRevoke,
    exit::{Exit, Failure},
    lookup,
    output::{say, text},
    setup::{self, engine_failure, store_failure},
};
use crate::config::Config;
use crate::domain::{Recipient, Status, Token};
use crate::engine::{self, Engine, Order, Refused};
use crate::sources;

pub(super) async fn revoke(
    context: &Context,
    config: &Config,
    args: TokenRevoke,
) -> anyhow::Result<Exit> {
    let (store, scratch) = if args.dry_run {
        setup::store_to_look_at(config).await?
    } else {
        (setup::store(config).await?, None)
    };
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let mut tx = engine.store.read().await.map_err(store_failure)?;
    let token = lookup::token(&mut tx, &args.id).await?;
    let concerned = engine.concerned(&mut tx, &token).await;
    drop(tx);
    let concerned = concerned.map_err(engine_failure)?;
    let exit = if token.status == Status::Revoked {
        say(&format!(
            "{} is revoked already; nothing was changed",
            named(&token)
        ))?;
        Exit::Ok
    } else {
        engine.may_revoke(&token).map_err(refusal)?;
        if args.dry_run {
            say(&format!(
                "would end {} at its source, and tell {}; nothing was changed",
                named(&token),
                people(&concerned)
            ))?;
            Exit::Ok
        } else if args.yes || confirmed(&token, &concerned)? {
            act(&engine, &token, args.reason.as_deref()).await?
        } else {
            say("nothing was changed")?;
            Exit::Ok
        }
    };
    engine.store.close().await;
    drop(scratch);
    Ok(exit)
}

async fn act(engine: &Engine, token: &Token, reason: Option<&str>) -> anyhow::Result<Exit> {
    let by = actor::name();
    let order = Order {
        token,
        by: &by,
        reason,
    };
    let revoked = engine.revoke(order).await.map_err(failure)?;
    let mut said = vec![format!("{} has ended at its source.", named(token))];
    match revoked.cancelled {
        0 => {}
        1 => said.push("1 notice about it will not be sent.".to_owned()),
        count => said.push(format!("{count} notices about it will not be sent.")),
    }
    said.push(format!("The next sweep tells {}.", people(&revoked.told)));
    say(&said.join("\n"))?;
    Ok(Exit::Ok)
}

/// Asks at the terminal.
fn confirmed(token: &Token, concerned: &[Recipient]) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let error = anyhow::anyhow!("there is no terminal to ask at");
        return Err(Failure::usage(error)
            .hint("say --yes where you are sure")
            .into());
    }
    let mut out = anstream::stderr();
    write!(
        out,
        "End {} at its source? It cannot be undone. {} will be told.\nType yes to end it: ",
        named(token),
        people(concerned)
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// `ci-deploy (rancher/token-x7k2p)`.
fn named(token: &Token) -> String {
    format!(
        "{} ({}/{})",
        text::name(token.label()),
        token.source,
        text::clean_lines(&token.external_id)
    )
}

fn people(recipients: &[Recipient]) -> String {
    let addresses: Vec<&str> = recipients.iter().map(|it| it.address.as_str()).collect();
    match addresses.as_slice() {
        [] => "nobody: there is no address to tell".to_owned(),
        addresses => addresses.join(", "),
    }
}

fn refusal(refused: Refused) -> Failure {
    let hint = match &refused {
        Refused::UnknownSource(_) => {
            "end it where it lives; `lapsed source list` shows the sources that are configured"
                .to_owned()
        }
        Refused::NotAllowed(name) => format!(
            "set `allow_revoke = true` in the [[source]] {name:?}; `lapsed source check {name}` shows whether its \
             credentials can"
        ),
        Refused::OwnToken => {
            "write another token into the configuration first; then this one is like all others"
                .to_owned()
        }
        Refused::NotActive(_) => "`lapsed token show` tells what is known of it".to_owned(),
    };
    Failure::failed(refused).hint(hint)
}

fn failure(error: engine::Error) -> Failure {
    match error {
        engine::Error::Revoke(refused) => refusal(refused),
        engine::Error::Listing(error) if error.wait().is_some() => Failure::unreachable(error),
        engine::Error::Listing(error) => {
            let hint = match &error {
                sources::Error::NoSuchToken(_) => {
                    "it may have ended already: `lapsed source sync NAME` learns what became of it"
                }
                sources::Error::StillThere => {
                    "look at it there; `lapsed audit list` keeps the attempt"
                }
                error if !error.is_in_doubt() => {
                    "this order has changed nothing at the source; `lapsed audit list` keeps the attempt"
                }
                _ => {
                    "nothing is settled; `lapsed audit list` keeps the attempt, and another try does no harm"
                }
            };
            Failure::failed(error).hint(hint)
        }
        error => engine_failure(error),
    }
}
