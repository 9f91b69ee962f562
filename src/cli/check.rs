//! `lapsed check`: the doctor. Tries everything, changes nothing, sends no mail.

mod people;

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use tokio::time::error::Elapsed;

use super::exit::Exit;
use super::output::text;
use super::output::when::{Instant, when};
use super::{Context, setup};
use crate::causes::Causes;
use crate::config::{Config, Transport};
use crate::notify::fault::{Fault, Stage};
use crate::notify::smtp::Relay;
use crate::sources::{self, Checked};
use crate::store::{self, Access, Store};

/// No try takes longer.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// What a try found.
enum Finding {
    /// As it should be, and what was seen.
    Fine(String),
    /// It works, and somebody may be surprised.
    Doubtful(String),
    /// It does not work, and how to mend it; and what that would end a sweep with.
    Broken(String, String, Exit),
}

pub(super) async fn check(context: &Context) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let mut exit = Exit::Ok;
    let place = config
        .file
        .as_ref()
        .map_or("the environment".to_owned(), |file| {
            file.display().to_string()
        });
    tell("config", &Finding::Fine(place));
    let warnings = config.warnings().into_iter();
    let mut found: Vec<(String, Finding)> = warnings
        .map(|warning| ("config".to_owned(), Finding::Doubtful(warning)))
        .collect();
    let (opened, seen) = store(&config).await;
    found.push(("store".to_owned(), seen));
    let mut deferred = BTreeMap::new();
    if let Some(store) = opened {
        let now = context.clock.now();
        found.extend(waiting(&store).await);
        found.extend(people::doubts(&store, &config, now).await);
        deferred = left_alone(&store, context.clock.now()).await;
        store.close().await;
    }
    found.push(("templates".to_owned(), templates(&config)));
    found.push(mail(&config).await);
    found.extend(listings(&config, &deferred).await);
    for (name, finding) in &found {
        tell(name, finding);
        if let Finding::Broken(_, _, end) = finding {
            exit = exit.or(*end);
        }
    }
    let doubts = found
        .iter()
        .filter(|(_, finding)| matches!(finding, Finding::Doubtful(_)))
        .count();
    match (exit, doubts) {
        (Exit::Ok, 0) => anstream::println!("all is well"),
        (Exit::Ok, 1) => anstream::println!("all works; look at the warning"),
        (Exit::Ok, doubts) => anstream::println!("all works; look at the {doubts} warnings"),
        _ => {}
    }
    Ok(exit)
}

fn tell(name: &str, finding: &Finding) {
    let (green, yellow, red) = (AnsiColor::Green, AnsiColor::Yellow, AnsiColor::Red);
    let mark = |color: AnsiColor, word: &str| {
        let style: Style = color.on_default().bold();
        format!("{style}{word:<4}{style:#}")
    };
    match finding {
        Finding::Fine(seen) => {
            anstream::println!("{} {name}: {}", mark(green, "ok"), text::clean_lines(seen));
        }
        Finding::Doubtful(why) => anstream::println!(
            "{} {name}: {}",
            mark(yellow, "warn"),
            text::clean_lines(why)
        ),
        Finding::Broken(why, mend, _) => {
            anstream::println!("{} {name}: {}", mark(red, "FAIL"), text::clean_lines(why));
            anstream::println!("     to mend it: {}", text::clean_lines(mend));
        }
    }
}

/// Opens the store without changing anything.
async fn store(config: &Config) -> (Option<Store>, Finding) {
    let opening = Store::open(config.store.url.expose_secret(), Access::ReadOnly);
    let finding = match tokio::time::timeout(PATIENCE, opening).await {
        Ok(Ok(store)) => {
            let kind = if store.is_sqlite() {
                "SQLite"
            } else {
                "PostgreSQL"
            };
            return (
                Some(store),
                Finding::Fine(format!("{kind}, schema up to date")),
            );
        }
        Ok(Err(error)) => no_store(config, &error),
        Err(_) => Finding::Broken(
            "it does not answer".to_owned(),
            "see that the database is up and reachable from here".to_owned(),
            Exit::TempFail,
        ),
    };
    (None, finding)
}

/// Why there is no store to look at.
fn no_store(config: &Config, error: &store::Error) -> Finding {
    let (mend, end) = match error {
        store::Error::Missing(place) if config.store.create => {
            return Finding::Doubtful(format!(
                "none at {place} yet; the first command that writes makes one"
            ));
        }
        store::Error::Older => {
            return Finding::Doubtful(
                "an older schema; the next command that writes brings it up to date".to_owned(),
            );
        }
        error if error.is_damage() => (setup::MEND_DAMAGE, Exit::Failed),
        store::Error::Open { .. } => (setup::MEND_ACCESS, Exit::TempFail),
        store::Error::Newer { .. } => ("run the newer version, or restore a backup", Exit::Config),
        _ => ("check [store] url", Exit::Config),
    };
    Finding::Broken(Causes(error).to_string(), mend.to_owned(), end)
}

/// What waits for an operator, and what failed when it was last tried.
async fn waiting(store: &Store) -> Vec<(String, Finding)> {
    let looked = async {
        let mut tx = store.read().await?;
        Ok::<_, store::Error>((tx.held_plans().await?, tx.sources().await?))
    };
    let (plans, sources) = match looked.await {
        Ok(seen) => seen,
        Err(error) => return vec![("store".to_owned(), no_answer(&error))],
    };
    let held: i64 = plans.iter().map(|(_, _, mails)| mails).sum();
    let plan = (held > 0).then(|| {
        let what = format!("{held} mails are held; `lapsed release` lets them go, or drops them");
        ("plan".to_owned(), Finding::Doubtful(what))
    });
    let sources = sources.into_iter().filter_map(|row| {
        let error = row.standing.error?;
        Some((
            format!("source {}", row.name),
            Finding::Doubtful(format!("last time: {error}")),
        ))
    });
    plan.into_iter().chain(sources).collect()
}

fn no_answer(error: &store::Error) -> Finding {
    Finding::Broken(
        Causes(error).to_string(),
        setup::MEND_DAMAGE.to_owned(),
        Exit::Failed,
    )
}

fn templates(config: &Config) -> Finding {
    match setup::templates(config) {
        Ok(_) => Finding::Fine(match &config.mail.templates {
            Some(folder) => format!(
                "built in, overridden from {}; every sample renders",
                folder.display()
            ),
            None => "built in; every sample renders".to_owned(),
        }),
        Err(error) => Finding::Broken(
            format!("{error:#}"),
            "mend the file that is named, or remove it to use the built-in one".to_owned(),
            Exit::Config,
        ),
    }
}

/// Connects, encrypts and signs in, and says good-bye; no mail is sent.
async fn mail(config: &Config) -> (String, Finding) {
    let (Transport::Smtp, Some(smtp)) = (config.mail.transport, &config.smtp) else {
        return ("mail".to_owned(), outbox(config));
    };
    let name = format!("smtp {}:{}", smtp.host, smtp.port);
    let relay = setup::smtp_settings(config, smtp).and_then(|settings| Ok(Relay::new(settings)?));
    let relay = match relay {
        Ok(relay) => relay,
        Err(error) => {
            let mend = "check the keys of [smtp]".to_owned();
            return (
                name,
                Finding::Broken(format!("{error:#}"), mend, Exit::Config),
            );
        }
    };
    let finding = match tokio::time::timeout(PATIENCE, relay.connect()).await {
        Ok(Ok(session)) => {
            let seen = if session.is_encrypted() {
                "connected, encrypted"
            } else {
                "connected, NOT encrypted"
            };
            let signed_in = if smtp.user.is_some() {
                ", signed in"
            } else {
                ""
            };
            let seen = format!("{seen}{signed_in}");
            session.quit().await;
            Finding::Fine(seen)
        }
        Ok(Err(fault)) => {
            let mend = mend_smtp(&fault);
            Finding::Broken(fault.to_string(), mend.to_owned(), Exit::TempFail)
        }
        Err(_) => Finding::Broken(
            "it does not answer".to_owned(),
            "see that the server is up and that no firewall is in between".to_owned(),
            Exit::TempFail,
        ),
    };
    (name, finding)
}

fn outbox(config: &Config) -> Finding {
    let folder = &config.mail.directory;
    let parent = folder.ancestors().find(|ancestor| ancestor.exists());
    let is_writable = parent.is_some_and(|parent| tempfile::tempfile_in(parent).is_ok());
    if is_writable {
        Finding::Fine(format!("mails are written to {}", folder.display()))
    } else {
        Finding::Broken(
            format!("cannot write to {}", folder.display()),
            "let this user write there, or name another folder in [mail] directory".to_owned(),
            Exit::Config,
        )
    }
}

/// Sources that asked to be left alone, and until when. Where the store does not tell, none.
async fn left_alone(store: &Store, now: DateTime<Utc>) -> BTreeMap<String, String> {
    let Ok(mut tx) = store.read().await else {
        return BTreeMap::new();
    };
    let rows = tx.sources().await.unwrap_or_default().into_iter();
    let deferred = rows.filter_map(|row| {
        let until = row.standing.deferred_until.filter(|until| *until > now)?;
        Some((row.name, when(Instant(until), now)))
    });
    deferred.collect()
}

/// Every source and directory, by its own check.
async fn listings(config: &Config, deferred: &BTreeMap<String, String>) -> Vec<(String, Finding)> {
    let mut found = Vec::new();
    for configured in &config.sources {
        let name = format!("source {}", configured.name);
        if let Some(until) = deferred.get(&configured.name) {
            let said = format!("it asked to be left alone until {until}, and was");
            found.push((name, Finding::Doubtful(said)));
            continue;
        }
        let seen = match setup::source(configured) {
            Ok(watched) => listing(tokio::time::timeout(PATIENCE, watched.check()).await),
            Err(error) => {
                Finding::Broken(Causes(&error).to_string(), MEND.to_owned(), Exit::Config)
            }
        };
        found.push((name, seen));
    }
    for configured in &config.directories {
        let seen = match setup::directory(configured) {
            Ok(built) => listing(tokio::time::timeout(PATIENCE, built.directory.check()).await),
            Err(error) => {
                Finding::Broken(Causes(&error).to_string(), MEND.to_owned(), Exit::Config)
            }
        };
        found.push((format!("directory {}", configured.name), seen));
    }
    found
}

/// What to do about a source or directory.
const MEND: &str = "mend it, or what the configuration says of it";

fn listing(seen: Result<Result<Checked, sources::Error>, Elapsed>) -> Finding {
    let mend = MEND.to_owned();
    match seen {
        Ok(Ok(seen)) => match seen
            .rights
            .into_iter()
            .find_map(|right| Some((right.what, right.missing?)))
        {
            Some((what, missing)) => {
                Finding::Doubtful(format!("{}; cannot {what}: {missing}", seen.summary))
            }
            None => Finding::Fine(seen.summary),
        },
        Ok(Err(error)) => Finding::Broken(Causes(&error).to_string(), mend, Exit::Failed),
        Err(_) => Finding::Broken("it does not answer".to_owned(), mend, Exit::Failed),
    }
}

/// How to mend what stands between us and the relay.
fn mend_smtp(fault: &Fault) -> &'static str {
    match fault.stage {
        Stage::Connect => "check host and port in [smtp] url, and that no firewall is in between",
        Stage::Tls => {
            "check that the certificate is valid and made for this host; [smtp] ca_file names a private \
             authority; smtps:// is for port 465, smtp:// with tls=required for 587"
        }
        Stage::Greeting | Stage::Hello => {
            "the server turns us away: ask its administrator, or set [smtp] hello_name to this host's full name"
        }
        Stage::Auth => "check the user in [smtp] url and the password",
        _ => "ask the administrator of the mail server",
    }
}
