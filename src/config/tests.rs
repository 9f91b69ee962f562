//! What operators write, and the values or messages they get.

mod example;
mod fingerprint;
mod ldap;
mod messages;
mod mutations;
mod overlay;
mod reach;
mod reading;
mod service;
mod values;

use super::*;

/// The smallest valid configuration, as variables, so that the file of a test contains only its subject.
const MINIMUM: &[(&str, &str)] = &[
    ("LAPSED__NOTIFY__FROM", "tokens@example.org"),
    ("LAPSED__MAIL__TRANSPORT", "file"),
];

fn env(variables: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

/// Parses a file in /etc and these variables only.
fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let path = Path::new("/etc/lapsed.toml");
    Config::parse(
        Some((path, text.as_bytes())),
        &env(variables),
        Secrets::Read,
        &Credentials::default(),
    )
}

/// Adds the text to the minimal configuration and loads it.
fn load(text: &str, variables: &[(&str, &str)]) -> Config {
    parse(text, &[MINIMUM, variables].concat()).unwrap_or_else(|error| panic!("{error}"))
}

/// The problems reported if the text is added to the minimal configuration.
fn errors_of(text: &str) -> String {
    errors_with(text, &[])
}

fn errors_with(text: &str, variables: &[(&str, &str)]) -> String {
    let error = parse(text, &[MINIMUM, variables].concat()).unwrap_err();
    error.to_string().replace("/etc/lapsed.toml", "lapsed.toml")
}

fn to_strings<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
