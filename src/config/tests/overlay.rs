//! Variables that override the file.

use rstest::rstest;
use secrecy::ExposeSecret;

use super::*;
use crate::telemetry::Format;

#[test]
fn a_variable_overrides_one_key_and_leaves_the_rest_of_the_section() {
    let config = load(
        "[delivery]\nlease = '10s'\nretry_min = '2m'",
        &[("LAPSED__DELIVERY__LEASE", "20s")],
    );
    assert_eq!(config.settings.delivery.lease.num_seconds(), 20);
    assert_eq!(config.settings.delivery.backoff.min.num_minutes(), 2);
}

#[test]
fn lists_are_separated_by_commas() {
    let config = load(
        "notify.admins = ['x@example.org']\nnotify.steps = ['3d']",
        &[
            (
                "LAPSED__NOTIFY__ADMINS",
                "ada@example.org, bob@example.org,",
            ),
            ("LAPSED__NOTIFY__STEPS", "14d"),
        ],
    );
    assert_eq!(
        to_strings(&config.policy.admins),
        ["ada@example.org", "bob@example.org"]
    );
    assert_eq!(to_strings(&config.policy.steps), ["14d"]);
    let none = load(
        "notify.admins = ['x@example.org']",
        &[("LAPSED__NOTIFY__ADMINS", "")],
    );
    assert!(none.policy.admins.is_empty());
}

#[rstest]
#[case("12345")]
#[case("0123")]
#[case("1e5")]
#[case("true")]
#[case("a,b,c")]
#[case(" with blanks ")]
#[case("{ file = 'x' }")]
#[case("${HOME}")]
fn a_password_is_not_changed(#[case] password: &str) {
    let config = load(
        "smtp.url = 'smtps://tokens@mail.example.org'",
        &[("LAPSED__SMTP__PASSWORD", password)],
    );
    assert_eq!(
        config.smtp.unwrap().password.unwrap().expose_secret(),
        password
    );
}

#[test]
fn a_comma_separates_only_lists() {
    let config = load("", &[("LAPSED__LOG__LEVEL", "info,lapsed::engine=debug")]);
    assert_eq!(config.log.level, "info,lapsed::engine=debug");
    let sweep = load("", &[("LAPSED__SCHEDULE__SWEEP", "0,30 8-18 * * 1,2,3")]);
    assert_eq!(sweep.settings.sweep.to_string(), "0,30 8-18 * * 1,2,3");
}

#[test]
fn numbers_and_booleans_are_read_from_texts() {
    let config = load(
        "smtp.url = 'smtp://mail.example.org'",
        &[
            ("LAPSED__SMTP__CONNECTIONS", "16"),
            ("LAPSED__SMTP__MAILS_PER_SECOND", "2.5"),
            ("LAPSED__STORE__CREATE", "false"),
        ],
    );
    let delivery = config.settings.delivery;
    assert_eq!(
        (delivery.connections, delivery.mails_per_second),
        (16, Some(2.5))
    );
    assert!(!config.store.create);
}

#[test]
fn a_variable_can_say_where_a_secret_is_and_overrides_the_file() {
    let variables = [
        ("LAPSED__SMTP__PASSWORD__ENV", "RELAY_PASSWORD"),
        ("RELAY_PASSWORD", "s3cret"),
    ];
    for in_file in ["{ file = '/nowhere' }", "'other'", "{ env = 'OTHER' }"] {
        let text =
            format!("smtp.url = 'smtps://tokens@mail.example.org'\nsmtp.password = {in_file}");
        let password = load(&text, &variables).smtp.unwrap().password.unwrap();
        assert_eq!(password.expose_secret(), "s3cret");
    }
}

#[test]
fn repeated_tables_keep_their_entries() {
    let text = "[[source]]\nname = 'one'\nkind = 'file'\npath = 'a'
                [[source]]\nname = 'two'\nkind = 'file'\npath = 'b'
                [[account]]\nname = 'acme'\nadmins = ['ada@example.org']";
    let config = load(text, &[("LAPSED__LOG__FORMAT", "json")]);
    let names: Vec<_> = config
        .sources
        .iter()
        .map(|source| source.terms.name.as_str())
        .collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(
        to_strings(&config.policy.accounts["acme"].admins),
        ["ada@example.org"]
    );
    assert_eq!(config.log.format, Format::Json);
}

#[test]
fn the_environment_alone_is_enough() {
    let variables = [MINIMUM, &[("LAPSED__STORE__URL", "postgres://u:p@h/db")]].concat();
    let config = Config::parse(
        None,
        &env(&variables),
        Secrets::Read,
        &Credentials::default(),
    )
    .unwrap();
    assert_eq!(config.store.url.expose_secret(), "postgres://u:p@h/db");
    assert!(config.file.is_none() && config.mail.directory.is_absolute());
}

#[test]
fn other_variables_are_ignored() {
    // Kubernetes sets such variables for a service named lapsed.
    load(
        "",
        &[
            ("LAPSED_SERVICE_HOST", "10.0.0.1"),
            ("LAPSED_PORT", "tcp://10.0.0.1:80"),
            ("LAPSED_", ""),
        ],
    );
}

#[test]
fn a_variable_of_thousands_of_parts_names_no_key() {
    let name = format!("LAPSED{}", "__a".repeat(20_000));
    let errors = errors_with("", &[(&name, "x")]);
    assert!(
        errors.contains("does not name a key; write LAPSED__SECTION__KEY"),
        "{errors}"
    );
    assert!(errors.len() < 500, "{errors}");
}
