//! Completes the names of sources, directories and findings in a shell.
//!
//! Where the configuration or the store cannot be read, nothing is completed: a shell has no place for an error.

use std::path::PathBuf;

use clap_complete::Shell;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Zsh};
use secrecy::ExposeSecret;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::domain::LOCAL_SOURCE;
use crate::store::{self, Access, FindingFilter, FindingRow, Store, Tx};
use crate::text;

/// The completion script sets it, with the name of the shell.
const VARIABLE: &str = "LAPSED_COMPLETE";
const MAX_FINDINGS: i64 = 100;

/// Completes a command line, and exits, if a completion script calls.
pub(super) fn complete_and_exit(command: fn() -> clap::Command) {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

pub(super) fn script(shell: Shell) -> std::io::Result<Vec<u8>> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::PowerShell => &Powershell,
        _ => &Zsh,
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "lapsed", "lapsed", "lapsed", &mut script)?;
    Ok(script)
}

pub(super) fn source_names() -> Vec<CompletionCandidate> {
    let names = |config: Config| config.sources.into_iter().map(|source| source.terms.name);
    candidates(load_config().into_iter().flat_map(names))
}

pub(super) fn directory_names() -> Vec<CompletionCandidate> {
    let names = |config: Config| {
        let directories = config.directories.into_iter();
        directories.map(|directory| directory.terms.name)
    };
    candidates(load_config().into_iter().flat_map(names))
}

pub(super) fn upstream_names() -> Vec<CompletionCandidate> {
    let mut names = source_names();
    names.extend(directory_names());
    names
}

/// Sources that may no longer be configured, without the built-in one.
pub(super) fn stored_source_names() -> Vec<CompletionCandidate> {
    let names = read_store(async |tx| tx.list_source_names().await);
    candidates(names.into_iter().filter(|name| name != LOCAL_SOURCE))
}

pub(super) fn finding_ids() -> Vec<CompletionCandidate> {
    let (filter, now) = (FindingFilter::default(), Clock::system().now());
    let findings = read_store(async |tx| tx.list_findings(filter, None, now, MAX_FINDINGS).await);
    let candidate = |finding: FindingRow| {
        let help = format!("{} {}", finding.kind, text::clean_name(&finding.token_name));
        CompletionCandidate::new(finding.id.to_string()).help(Some(help.into()))
    };
    findings.into_iter().map(candidate).collect()
}

/// What the store has; nothing if it cannot be read.
fn read_store<T: Default>(read: impl AsyncFnOnce(&mut Tx) -> store::Result<T>) -> T {
    let Some(config) = load_config() else {
        return T::default();
    };
    let work = async {
        let store = Store::open(config.store.url.expose_secret(), Access::ReadOnly).await?;
        let mut tx = store.begin_read().await?;
        let found = read(&mut tx).await;
        drop(tx);
        store.close().await;
        found
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .ok()
        .and_then(|runtime| runtime.block_on(work).ok())
        .unwrap_or_default()
}

fn candidates(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    names.map(CompletionCandidate::new).collect()
}

/// The configuration of the command line that is being completed.
fn load_config() -> Option<Config> {
    Config::load_without_secrets(config_path().as_deref(), &config::environment()).ok()
}

fn config_path() -> Option<PathBuf> {
    let words: Vec<_> = std::env::args_os().collect();
    let joined = words
        .iter()
        .find_map(|word| word.to_str()?.strip_prefix("--config="));
    let after = || {
        let option = words.iter().position(|word| word == "--config")?;
        words.get(option + 1).map(PathBuf::from)
    };
    joined.map(PathBuf::from).or_else(after)
}
