//! `lapsed check`: tests everything, changes nothing and sends no mail.

mod advisory;
mod outcome;
mod user;
mod warnings;
mod web;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use nix::unistd::geteuid;
use secrecy::ExposeSecret;

use self::advisory::engine_warning;
use self::outcome::{Outcome, print_outcome};
use self::user::{become_user, find_user, is_private_to_service};
use self::warnings::{
    account_warnings, coverage_warning, delivery_warning, directory_warnings, restore_warning,
};
use self::web::check_web;
use super::args::Check;
use super::exit::{Exit, Failure, Result, STORE_DAMAGE_HINT, store_advice};
use super::output::when::format_when;
use super::upstream::{CHECK_TIMEOUT, deferred_until};
use super::{Context, setup};
use crate::causes::Causes;
use crate::clock::Clock;
use crate::config::{Config, Monitoring, Transport};
use crate::domain::{Address, FindingKind, SyncState, describe_drift};
use crate::engine;
use crate::notify::fault::{Fault, Stage};
use crate::notify::smtp::{Relay, SmtpSettings};
use crate::sources::{self, CheckReport};
use crate::store::{self, Access, Store, Tx};

const NO_ANSWER: &str = "it does not answer";
const SLOW_FIX: &str =
    "make sure that it is up and that no firewall is in between, or set a longer timeout";

pub(super) async fn check(context: &Context, args: &Check) -> Result<Exit> {
    let config = match &args.as_user {
        Some(name) => {
            let user = find_user(name)?;
            setup::load_config_as(context, || become_user(&user))?
        }
        None => setup::load_config(context)?,
    };
    let config_location = match &config.file {
        Some(file) => file.display().to_string(),
        None => "the environment".to_owned(),
    };
    print_outcome("config", &Outcome::Passed(config_location));
    let mut outcomes: Vec<(String, Outcome)> = config
        .warnings()
        .into_iter()
        .map(|warning| ("config".to_owned(), Outcome::Warning(warning)))
        .collect();
    let (opened, mut outcome) = check_store(&config).await;
    if let Some(found) = check_pages(opened.as_ref(), args.integrity).await {
        outcome = found;
    }
    outcomes.push(("store".to_owned(), outcome));
    let mut deferred = BTreeMap::new();
    if let Some(store) = opened {
        let now = context.clock.now();
        if let Err(error) = check_stored(&store, &config, now, &mut outcomes, &mut deferred).await {
            let problem = Causes(&error).to_string();
            let outcome = Outcome::failed(problem, STORE_DAMAGE_HINT, Exit::Failed);
            outcomes.push(("store".to_owned(), outcome));
        }
        store.close().await;
    }
    outcomes.push(("templates".to_owned(), check_templates(&config)));
    outcomes.push(check_mail(&config).await);
    outcomes.extend(check_monitoring(&config.monitoring));
    let web = check_web(&config.web, context.clock.now());
    outcomes.extend(web.map(|outcome| ("web".to_owned(), outcome)));
    outcomes.extend(check_upstreams(&config, &context.clock, &deferred).await);
    Ok(print_outcomes(&outcomes))
}

fn print_outcomes(outcomes: &[(String, Outcome)]) -> Exit {
    let mut exit = Exit::Ok;
    for (name, outcome) in outcomes {
        print_outcome(name, outcome);
        if let Outcome::Failed { exit: failed, .. } = outcome {
            exit = exit.worst(*failed);
        }
    }
    let warnings = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Warning(_)))
        .count();
    match (exit, warnings) {
        (Exit::Ok, 0) => anstream::println!("all is well"),
        (Exit::Ok, 1) => anstream::println!("all works, with 1 warning"),
        (Exit::Ok, count) => anstream::println!("all works, with {count} warnings"),
        _ => {}
    }
    if geteuid().is_root() {
        anstream::println!(
            "This looked as root. A service of another user may lack access to the same files: lapsed check --as USER"
        );
    }
    exit
}

/// Opens the store without changing anything.
async fn check_store(config: &Config) -> (Option<Store>, Outcome) {
    let opening = Store::open_versioned(config.store.url.expose_secret(), Access::ReadOnly);
    let outcome = match tokio::time::timeout(CHECK_TIMEOUT, opening).await {
        Ok(Ok((store, versions))) if versions.is_newer() => {
            let warning = format!(
                "it has schema version {} of a newer lapsed, which this one, with version {}, may still use; upgrade this one, too",
                versions.now, versions.known
            );
            return (Some(store), Outcome::Warning(warning));
        }
        Ok(Ok((store, _))) => {
            let kind = if store.is_sqlite() {
                "SQLite"
            } else {
                "PostgreSQL"
            };
            return (
                Some(store),
                Outcome::Passed(format!("{kind}, schema up to date")),
            );
        }
        Ok(Err(_)) if is_private_to_service(config) => Outcome::Warning(
            "not looked at: its folder is in /var/lib/private, which systemd opens for the service alone; `lapsed check` \
             as root looks at it"
                .to_owned(),
        ),
        Ok(Err(error)) => store_outcome(config, &error),
        Err(_) => Outcome::failed(
            NO_ANSWER,
            "make sure that the database is up and reachable from this machine",
            Exit::TempFail,
        ),
    };
    (None, outcome)
}

/// Looks for damage in the file of the store: at every page of it, or only if that takes less than a second.
async fn check_pages(store: Option<&Store>, is_thorough: bool) -> Option<Outcome> {
    let found = match store?.find_damage(is_thorough).await {
        Err(error) if error.is_corruption() => Some(vec![Causes(&error).to_string()]),
        Err(error) => {
            let warning = format!("its pages could not be read now: {}", Causes(&error));
            return Some(Outcome::Warning(warning));
        }
        Ok(found) => found,
    };
    match found {
        Some(damage) if !damage.is_empty() => {
            let problem = format!("the file is damaged: {}", damage.join("; "));
            Some(Outcome::failed(problem, STORE_DAMAGE_HINT, Exit::Failed))
        }
        Some(_) if is_thorough => Some(Outcome::Passed(
            "SQLite, schema up to date; every page was read and is whole".to_owned(),
        )),
        None if is_thorough => Some(Outcome::Warning("PostgreSQL: use pg_amcheck".to_owned())),
        _ => None,
    }
}

/// What it means that the store cannot be opened.
fn store_outcome(config: &Config, error: &store::Error) -> Outcome {
    let (fix, exit) = match error {
        store::Error::Missing(place) if config.store.create => {
            return Outcome::Warning(format!(
                "none at {place} yet; the first command that writes creates it"
            ));
        }
        store::Error::Older => {
            return Outcome::Warning(
                "an older schema; the next command that writes migrates it".to_owned(),
            );
        }
        store::Error::Newer { .. } => ("run the newer version, or restore a backup", Exit::Config),
        store::Error::EarlierBuild => (
            "set another file or database in [store] url; the next sweep fills it from the sources",
            Exit::Config,
        ),
        error => match store_advice(error) {
            (exit, Some(fix)) => (fix, exit),
            (exit, None) => ("correct [store] url", exit),
        },
    };
    Outcome::failed(Causes(error).to_string(), fix, exit)
}

/// Warns about faults of the database, held plans, sources whose last sync failed, directories that are held, failing
/// or stale, and issuers with unknown access. Adds the upstreams that asked us to wait to `deferred`, and until when.
async fn check_stored(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
    outcomes: &mut Vec<(String, Outcome)>,
    deferred: &mut BTreeMap<String, String>,
) -> store::Result<()> {
    let terms = config.directory_terms();
    let mut tx = store.begin_read().await?;
    let sources = tx.list_sources().await?;
    let ghosts = super::source::load_ghosts(&mut tx, config).await?;
    let directories = tx.list_directories().await?;
    let stale = engine::stale_directories(&terms, &directories, now);
    let mut warn = |name: &str, text| outcomes.push((name.to_owned(), Outcome::Warning(text)));
    let mut defer = |name: &str, sync_state: &SyncState| {
        if let Some(until) = deferred_until(sync_state, now) {
            deferred.insert(name.to_owned(), format_when(until, now, config.policy.zone));
        }
    };
    if let Some(text) = restore_warning(store, config).await {
        warn("service", text);
    }
    for (name, text) in general_warnings(&mut tx, config, now).await? {
        warn(name, text);
    }
    for row in sources {
        let name = format!("source {}", row.name);
        defer(&name, &row.sync_state);
        if row.renamed_to.is_some() && !config.has_source(&row.name) {
            continue;
        }
        if let Some(ghost) = ghosts.get(&row.name) {
            warn(&name, ghost.clone());
        } else if let Some(error) = row.sync_state.error {
            warn(&name, format!("last sync: {error}"));
        }
        for finding in tx.load_open_source_findings(&row.name).await? {
            if finding.kind == FindingKind::UnknownExpiry {
                let fix = "let the source list expires_at, or set policy_ttl for it";
                warn(&name, format!("{}; {fix}", finding.evidence));
            }
        }
    }
    for row in directories {
        let name = format!("directory {}", row.name);
        defer(&name, &row.sync_state);
        let is_configured = terms.iter().any(|terms| terms.name == row.name);
        let is_stale = is_configured && stale.contains(&row.name);
        for warning in directory_warnings(&row, is_stale, now, config.policy.zone) {
            warn(&name, warning);
        }
    }
    let covers = engine::issuer_covers(&mut tx, &config.issuers, &terms, now).await?;
    if !terms.is_empty()
        && let Some(warning) = coverage_warning(&covers)
    {
        warn("issuers", warning);
    }
    Ok(())
}

/// Warnings about the database, replicas, held plans, mails and accounts.
async fn general_warnings(
    tx: &mut Tx,
    config: &Config,
    now: DateTime<Utc>,
) -> store::Result<Vec<(&'static str, String)>> {
    let mut warnings = Vec::new();
    if let Some(version) = tx.load_engine_version().await? {
        warnings.extend(engine_warning(&version).map(|warning| ("store", warning)));
    }
    if let Some(drift) = describe_drift(&tx.list_replicas().await?, now) {
        let fix = "give all of them the same configuration, and restart them";
        warnings.push(("replicas", format!("{drift}; {fix}")));
    }
    let plans = tx.list_held_plans().await?;
    let held: i64 = plans.iter().map(|(_, _, mails)| mails).sum();
    if held > 0 {
        let warning = format!("{held} mails are held; `lapsed release` sends or discards them");
        warnings.push(("plan", warning));
    }
    let delivery = delivery_warning(tx, config, now).await?;
    warnings.extend(delivery.map(|warning| ("delivery", warning)));
    let accounts = account_warnings(tx, config).await?.into_iter();
    warnings.extend(accounts.map(|warning| ("config", warning)));
    Ok(warnings)
}

fn check_monitoring(monitoring: &Monitoring) -> Vec<(String, Outcome)> {
    let heartbeat = monitoring.heartbeat.as_ref().map(|heartbeat| {
        let server = heartbeat.server();
        Outcome::Passed(format!(
            "a request to {server} after each good sweep; none was sent now"
        ))
    });
    let textfile = monitoring.textfile.as_ref().map(|file| {
        let folder = file.parent().unwrap_or(file);
        match tempfile::tempfile_in(folder) {
            Ok(_) => Outcome::Passed(format!("metrics are written to {}", file.display())),
            Err(error) => Outcome::failed(
                format!("cannot write to {}: {error}", folder.display()),
                "create the folder, or give this user write access",
                Exit::Config,
            ),
        }
    });
    let named = |name: &str, outcome: Option<Outcome>| Some((name.to_owned(), outcome?));
    let outcomes = [named("heartbeat", heartbeat), named("textfile", textfile)];
    outcomes.into_iter().flatten().collect()
}

fn check_templates(config: &Config) -> Outcome {
    let folder = config.mail.templates.as_deref();
    let checked = setup::load_templates(config);
    let pages = || Ok(crate::web::check_templates(folder).map_err(Failure::config)?);
    match checked.and_then(|_| pages()) {
        Ok(()) => Outcome::Passed(match &config.mail.templates {
            Some(folder) => format!(
                "built in, overridden from {}; every sample renders",
                folder.display()
            ),
            None => "built in; every sample renders".to_owned(),
        }),
        Err(error) => Outcome::failed(
            format!("{error:#}"),
            "correct the named file, or remove it to use the built-in one",
            Exit::Config,
        ),
    }
}

/// Connects to the mail server and signs in; sends no mail.
async fn check_mail(config: &Config) -> (String, Outcome) {
    let (Transport::Smtp, Some(smtp)) = (config.mail.transport, &config.smtp) else {
        return ("mail".to_owned(), check_outbox(config));
    };
    let name = format!("smtp {}:{}", smtp.host, smtp.port);
    let relay = match Relay::new(smtp.clone()) {
        Ok(relay) => relay,
        Err(error) => {
            let problem = Causes(&error).to_string();
            let outcome = Outcome::failed(problem, "check the keys of [smtp]", Exit::Config);
            return (name, outcome);
        }
    };
    let admin = config.policy.admins.first();
    let outcome = match tokio::time::timeout(CHECK_TIMEOUT, check_relay(&relay, smtp, admin)).await
    {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(fault)) => Outcome::failed(fault.to_string(), smtp_fix(&fault), Exit::TempFail),
        Err(_) => Outcome::failed(
            NO_ANSWER,
            "make sure that the server is up and that no firewall is in between",
            Exit::TempFail,
        ),
    };
    (name, outcome)
}

/// Goes as far as a mail to an administrator can go without sending it.
async fn check_relay(
    relay: &Relay,
    smtp: &SmtpSettings,
    admin: Option<&Address>,
) -> Result<Outcome, Fault> {
    let mut session = relay.connect().await?;
    let connected = if session.is_encrypted() {
        "connected, encrypted"
    } else {
        "connected, NOT encrypted"
    };
    let signed_in = if smtp.user.is_some() {
        ", signed in"
    } else {
        ""
    };
    let taken = session.probe(admin).await;
    session.quit().await;
    Ok(match taken {
        Ok(()) if admin.is_some() => Outcome::Passed(format!(
            "{connected}{signed_in}, takes mail to an administrator"
        )),
        Ok(()) => Outcome::Passed(format!("{connected}{signed_in}, takes the sender")),
        Err(fault) if fault.is_transient() => Outcome::Warning(format!(
            "{connected}{signed_in}, but a mail would wait: {fault}"
        )),
        Err(fault) => return Err(fault),
    })
}

fn check_outbox(config: &Config) -> Outcome {
    let folder = &config.mail.directory;
    let parent = folder.ancestors().find(|ancestor| ancestor.exists());
    let is_writable = parent.is_some_and(|parent| tempfile::tempfile_in(parent).is_ok());
    if is_writable {
        Outcome::Passed(format!("mails are written to {}", folder.display()))
    } else {
        Outcome::failed(
            format!("cannot write to {}", folder.display()),
            "give this user write access, or set another folder in [mail] directory",
            Exit::Config,
        )
    }
}

async fn check_upstreams(
    config: &Config,
    clock: &Clock,
    deferred: &BTreeMap<String, String>,
) -> Vec<(String, Outcome)> {
    let mut outcomes = Vec::new();
    for configured in &config.sources {
        let name = format!("source {}", configured.terms.name);
        let until = deferred.get(&name);
        let proxy = configured.proxy.as_deref();
        let check = setup::build_source(configured)
            .map(|watched| async move { Ok(watched.check().await?.with_proxy(proxy)) });
        outcomes.push((name, upstream_outcome(until, check).await));
    }
    for configured in &config.directories {
        let name = format!("directory {}", configured.terms.name);
        let until = deferred.get(&name);
        let proxy = configured.proxy.as_deref();
        let check = setup::build_directory(configured, clock)
            .map(|watched| async move { Ok(watched.directory.check().await?.with_proxy(proxy)) });
        outcomes.push((name, upstream_outcome(until, check).await));
    }
    outcomes
}

async fn upstream_outcome(
    deferred_until: Option<&String>,
    check: Result<impl Future<Output = Result<CheckReport, sources::Error>>, sources::Error>,
) -> Outcome {
    if let Some(until) = deferred_until {
        let warning = format!("it asked us to wait until {until}, so it was not contacted");
        return Outcome::Warning(warning);
    }
    let check = match check {
        Ok(check) => check,
        Err(error) => {
            return Outcome::upstream_failed(&error, Exit::Config);
        }
    };
    match tokio::time::timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(report)) => match report
            .rights
            .into_iter()
            .find_map(|right| Some((right.what, right.missing?)))
        {
            Some((what, missing)) => {
                Outcome::Warning(format!("{}; cannot {what}: {missing}", report.summary))
            }
            None if report.notes.is_empty() => Outcome::Passed(report.summary),
            None => Outcome::Warning(format!("{}; {}", report.summary, report.notes.join("; "))),
        },
        Ok(Err(error)) => Outcome::upstream_failed(&error, Exit::Failed),
        Err(_) => Outcome::failed(NO_ANSWER, SLOW_FIX, Exit::Failed),
    }
}

/// How to fix what keeps us from the mail server.
fn smtp_fix(fault: &Fault) -> &'static str {
    match fault.stage {
        Stage::Connect => "check host and port in [smtp] url, and that no firewall is in between",
        Stage::Tls => {
            "check that the certificate is valid for this host; set [smtp] ca_file for a private authority; use \
             smtps:// for port 465, and smtp:// with tls=required for port 587"
        }
        Stage::Greeting | Stage::Hello => {
            "the server rejects this client: ask its administrator, or set [smtp] hello_name to this host's full name"
        }
        Stage::Auth => "check the user in [smtp] url and the password",
        Stage::Mail | Stage::Rcpt if fault.code == Some(530) => {
            "the server wants a login: put a user into [smtp] url and set [smtp] password"
        }
        Stage::Mail => {
            "the server rejects the sender: check [notify] from and [smtp] envelope_from, and what this login may send"
        }
        Stage::Rcpt => {
            "the server rejects the recipient: check [notify] admins, and whether it relays for this machine or login"
        }
        _ => "ask the administrator of the mail server",
    }
}
