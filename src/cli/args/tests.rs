use clap::CommandFactory;

use super::*;
use crate::domain::Status;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::parse_args(line.split_whitespace())
}

fn usage_error(line: &str) -> String {
    let error = parse(line).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

/// The command and all its subcommands, each with its path.
fn all_commands(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
    let path = format!("{path} {}", command.get_name());
    let mut all = vec![(path.trim().to_owned(), command.clone())];
    for sub in command.get_subcommands() {
        all.extend(all_commands(sub, &path));
    }
    all
}

#[test]
fn the_command_tree_is_valid() {
    Cli::command().debug_assert();
    command().debug_assert();
}

#[test]
fn every_command_is_in_exactly_one_group() {
    let mut grouped: Vec<_> = GROUPS
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    let command = Cli::command();
    let mut known: Vec<_> = command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    grouped.sort_unstable();
    known.sort_unstable();
    assert_eq!(grouped, known);
}

#[test]
fn every_command_has_examples_and_every_example_parses() {
    for (path, command) in all_commands(&Cli::command(), "") {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let examples: Vec<_> = help
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .flat_map(|line| line.split(" | "))
            .filter(|part| part.starts_with("lapsed "))
            .map(|part| part.split(" > ").next().unwrap())
            .collect();
        assert!(!examples.is_empty(), "{path} has no example");
        for example in examples {
            parse(example).unwrap_or_else(|error| panic!("{path}: {example}: {error}"));
            assert!(
                path == "lapsed" || example.starts_with(&path),
                "{path} shows another command: {example}"
            );
        }
    }
}

#[test]
fn every_argument_has_a_help_text() {
    for (path, command) in all_commands(&Cli::command(), "") {
        assert!(command.get_about().is_some(), "{path}");
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{path} {}",
                argument.get_id()
            );
        }
    }
}

#[test]
fn root_help() {
    let help = command().term_width(100).render_help().to_string();
    insta::assert_snapshot!(help, @"
    Watches API tokens: warns before they expire, marks expired ones, and flags tokens whose issuer has
    lost access

    Usage: lapsed [OPTIONS] <COMMAND>

    Start:
      demo         Try lapsed with sample data in a new folder
      check        Test configuration, store, mail server, sources and directories
      import       Import tokens from a CSV, JSON or JSON lines file

    Watch:
      run          Run the daemon: sweep on schedule until stopped
      sweep        Sweep once, then exit (for cron or a Kubernetes CronJob)
      release      Send the mails of a held plan, or discard them

    Inspect:
      token        List, show, issue, regenerate, update, verify, revoke or remove tokens
      notice       List notices: planned, sent and failed; retry failed ones
      address      List the addresses that count as dead; clear one
      finding      List findings: what is wrong with tokens now; acknowledge one
      identity     List people and their status at the directories; rebind or erase one
      directory    List, check and sync directories; decide on held changes
      source       List, check and sync sources; rename one, or remove what is no longer configured
      forecast     Show what will expire, and who will be notified when
      explain      Show why the notices of a token, or to a person, were or were not sent
      audit        List what operators did, and why
      replica      List the daemons that use the store

    Token service:
      account      Manage the accounts of the token service
      user         Manage the users of the token service
      policy       Compare the tokens that exist with the policy of the token service
      preference   Show or set how a person wants to be notified
      service      Resume the token service after a restore

    Mail:
      preview      Render the mails with sample data
      send-test    Send a test mail

    Maintain:
      migrate      Create the store, or migrate it to this version
      backup       Copy the store to a file, also while the daemon runs (SQLite)
      move         Move the store from SQLite to PostgreSQL, or back
      config       Print an example configuration, or the built-in mail templates
      completions  Print the completion script for a shell
      man          Print the manual pages

    Options:
          --config <FILE>  Configuration file [default: $LAPSED_CONFIG, ./lapsed.toml,
                           /etc/lapsed/lapsed.toml]
          --color <WHEN>   Use colors: auto, always or never; auto respects NO_COLOR [default: auto]
      -v, --verbose...     Log more: -v is debug, -vv is trace; overrides `[log] level`
      -h, --help           Print help
      -V, --version        Print version

    Examples:
      # try it with sample data in a new folder
      lapsed demo

      # show what the next sweep would do
      lapsed sweep --dry-run

      # list the tokens that expire within a week
      lapsed token list --status active --expires-within 7d

    `lapsed COMMAND --help` shows the options and examples of a command.
    Exit codes: 0 done, 1 something failed or is held, 2 wrong usage, 75 try again later,
    78 wrong configuration.
    ");
}

#[test]
fn a_listing_is_parsed_into_domain_values() {
    let cli = parse(
        "lapsed token list --status active --issuer Ada@Example.org --expires-within 36h --limit 5 \
         --format jsonl --config x.toml -vv",
    )
    .unwrap();
    let Command::Token(TokenCommand::List(list)) = cli.command else {
        panic!("{:?}", cli.command)
    };
    assert_eq!(list.status, Some(Status::Active));
    assert_eq!(list.issuer, Some("ada@example.org".parse().unwrap()));
    assert_eq!(list.expires_within, Some(chrono::TimeDelta::hours(36)));
    assert_eq!(
        (list.options.limit, list.options.format),
        (Some(5), Format::Jsonl)
    );
    assert_eq!(cli.global.config, Some("x.toml".into()));
    assert_eq!(cli.global.log_level(), Some(tracing::Level::TRACE));
}

#[test]
fn a_token_reference_is_parsed() {
    let cli = parse("lapsed token show exports/ci-deploy").unwrap();
    let Command::Token(TokenCommand::Show(show)) = cli.command else {
        panic!("{:?}", cli.command)
    };
    assert_eq!(show.id, "exports/ci-deploy");
    assert_eq!(show.options.format, Format::Table);
}

#[test]
fn a_wrong_word_gets_a_suggestion() {
    for (line, nearest) in [
        ("lapsed token list --status actve", "active"),
        ("lapsed notice list --state plannd", "planned"),
        ("lapsed finding list --kind sso-revoked", "sso_revoked"),
        ("lapsed identity list --status disabeld", "disabled"),
        ("lapsed token list --format jsn", "json"),
        ("lapsed preview expirin", "expiring"),
        ("lapsed swep", "sweep"),
        ("lapsed sweep --dryrun", "--dry-run"),
    ] {
        let text = usage_error(line);
        assert!(
            text.contains("similar") && text.contains(nearest),
            "{line}: {text}"
        );
    }
}

#[test]
fn a_wrong_value_gets_an_example_of_a_right_one() {
    for (line, expected) in [
        ("lapsed token list --expires-within 7", "7d, 36h or 90m"),
        ("lapsed token list --issuer ada", "name@example.org"),
        (
            "lapsed token revoke ci-deploy --at-source",
            "SOURCE/EXTERNAL_ID",
        ),
        ("lapsed explain /", "SOURCE/EXTERNAL_ID"),
        ("lapsed token list --limit 0", "1.."),
        ("lapsed forecast --days 0", "1..=3650"),
        ("lapsed send-test nobody", "name@example.org"),
    ] {
        let text = usage_error(line);
        assert!(text.contains(expected), "{line}: {text}");
    }
}
