//! `lapsed identity erase`: erases what is known of a person.

use crate::cli::args::IdentityErase;
use crate::cli::exit::{Exit, Failure, Result};
use crate::cli::output::print_line;
use crate::cli::setup::{self, Mode};
use crate::cli::{Context, audit, report};
use crate::config::Config;
use crate::engine::{self, EraseRefusal, Erasure, OperatorNote};
use crate::notify::wording::quantity;

pub(super) async fn erase(
    context: &Context,
    config: &Config,
    args: &IdentityErase,
) -> Result<Exit> {
    let _log = setup::start_log(context, config)?;
    setup::with_engine(context, config, Mode::Normal, async |engine| {
        let actor = audit::actor();
        let note = OperatorNote {
            by: &actor,
            reason: args.reason.as_deref(),
        };
        let stop = context.stop.graceful(config.stop_timeout);
        let erase = engine.erasure();
        let erased = engine
            .under_sweep_lease(stop, erase.run(&args.email, note))
            .await;
        let erased = erased.map_err(|error| match error {
            engine::Error::Erase(refusal) => {
                let hint = hint(&refusal);
                Failure::failed(refusal).hint(hint)
            }
            error => Failure::failed(error),
        })?;
        let Some(erasure) = erased else {
            return Ok(report::print_busy());
        };
        let is_log_empty = erase.empty_log(stop).await;
        print_line(&summary(&erasure, is_log_empty, engine.store.is_sqlite()))?;
        Ok(Exit::Ok)
    })
    .await
}

fn hint(refusal: &EraseRefusal) -> &'static str {
    match refusal {
        EraseRefusal::StillNamed(_) => "remove the person there, sync it, and erase them then",
        EraseRefusal::Unreadable { .. } => "try again when the source can be read",
        EraseRefusal::MailInFlight => {
            "try again later; `lapsed notice list --recipient EMAIL` shows the mail"
        }
        EraseRefusal::Unknown => {
            "`lapsed identity list` and `lapsed notice list` show who is known"
        }
    }
}

fn summary(erasure: &Erasure, is_log_empty: bool, is_sqlite: bool) -> String {
    let mut lines = vec![format!(
        "erased; the ledger and the audit trail now have {} instead of the address",
        erasure.pseudonym
    )];
    if erasure.cancelled > 0 {
        let cancelled = quantity(erasure.cancelled, "unsent notice");
        lines.push(format!("{cancelled} cancelled"));
    }
    if erasure.revoked > 0 {
        let revoked = quantity(erasure.revoked, "token");
        lines.push(format!("{revoked} of the token service revoked"));
    }
    if !is_log_empty {
        lines.push(
            "the store's write-ahead log was not emptied and may still have the address: run `lapsed migrate` when \
             nothing else uses the store"
                .to_owned(),
        );
    }
    lines.push(
        if is_sqlite {
            "Backups made before still have the address; delete them, or erase again after a restore."
        } else {
            "Backups made before still have the address, and so does the database until its next VACUUM."
        }
        .to_owned(),
    );
    lines.join("\n")
}
