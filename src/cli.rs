//! The command line: parses the arguments, runs the command and returns its exit code.
//!
//! Each command has a module with a function `(&Context, arguments) -> Result<Exit>`.

mod account;
mod address;
mod args;
mod audit;
mod check;
mod complete;
mod config;
mod demo;
mod directory;
mod exit;
mod explain;
mod finding;
mod forecast;
mod health;
mod identity;
mod import;
mod mail;
mod maintain;
mod manual;
mod monitoring;
mod notice;
mod output;
mod policy;
mod preference;
mod presence;
mod query;
mod replica;
mod report;
mod run;
mod service;
mod setup;
mod source;
mod steps;
mod stop;
mod sweep;
#[cfg(test)]
mod tests;
mod token;
mod upstream;

mod user;
mod web;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

pub use self::args::command;

use self::args::{Cli, Color, Command};
use self::exit::{Exit, Result, print_error};
use self::setup::Context;
use self::stop::{Stop, end_on_signal};
use crate::clock::Clock;
use crate::telemetry::report_panics;
use crate::text;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    report_panics();
    complete::complete_and_exit(command);
    let cli = match Cli::parse_args(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            print_usage(&error);
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            return exit.into();
        }
    };
    match cli.global.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    let context = Context {
        global: cli.global,
        clock: Clock::system(),
        stop: Stop::default(),
    };
    run_command(&context, cli.command)
        .unwrap_or_else(|error| print_error(&error, anstream::stderr()))
        .into()
}

/// Prints a help text or an error, which may repeat arguments: those must not control the terminal.
fn print_usage(error: &clap::Error) {
    let plain = error.render().to_string();
    let clean = text::clean_lines(&plain);
    // A closed pipe behind `--help` is not a failure.
    let _ = if plain.trim_end() == clean.trim_end() {
        error.print()
    } else {
        writeln!(std::io::stderr(), "{}", clean.trim_end())
    };
}

/// Runs a command, in an asynchronous runtime if it needs one.
fn run_command(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Completions(args) => maintain::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Config(command) => config::config(&command),
        command => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("cannot start the asynchronous runtime")?;
            // The daemon handles its signals itself.
            let is_daemon = matches!(command, Command::Run);
            let work = Box::pin(dispatch(context, command));
            let result = runtime.block_on(async {
                if is_daemon {
                    work.await
                } else {
                    end_on_signal(&context.stop, work).await
                }
            });
            // A read of standard input cannot be cancelled.
            runtime.shutdown_background();
            result
        }
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Run => run::run(context).await,
        Command::Sweep(args) => Box::pin(sweep::sweep(context, args)).await,
        Command::Import(args) => import::import(context, args).await,
        Command::Token(command) => token::token(context, command).await,
        Command::Account(command) => account::account(context, command).await,
        Command::User(command) => user::user(context, command).await,
        Command::Policy(command) => policy::policy(context, command).await,
        Command::Preference(command) => preference::preference(context, command).await,
        Command::Service(command) => service::service(context, command).await,
        Command::Notice(command) => notice::notice(context, command).await,
        Command::Address(command) => address::address(context, command).await,
        Command::Finding(command) => finding::finding(context, command).await,
        Command::Identity(command) => identity::identity(context, command).await,
        Command::Directory(command) => directory::directory(context, command).await,
        Command::Source(command) => Box::pin(source::source(context, command)).await,
        Command::Audit(command) => audit::audit(context, command).await,
        Command::Replica(command) => replica::replica(context, command).await,
        Command::Forecast(args) => forecast::forecast(context, args).await,
        Command::Explain(args) => explain::explain(context, args).await,
        Command::Check(args) => check::check(context, &args).await,
        Command::Preview(args) => mail::preview(context, &args),
        Command::SendTest(args) => mail::send_test(context, args).await,
        Command::Release(args) => sweep::release(context, args).await,
        Command::Migrate => maintain::migrate(context).await,
        Command::Backup(args) => maintain::backup(context, args).await,
        Command::Move(args) => Box::pin(maintain::move_store(context, args)).await,
        Command::Demo(args) => Box::pin(demo::demo(context, args)).await,
        Command::Completions(args) => maintain::completions(&args),
        Command::Config(command) => config::config(&command),
        Command::Man(args) => manual::man(&args),
    }
}
