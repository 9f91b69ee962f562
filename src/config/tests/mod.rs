//! What operators write, and what they get or are told.

mod example;
mod ldap;
mod messages;
mod mutations;
mod overlay;
mod values;

use super::*;

/// The least that is a configuration, as variables, so that a test's file is its own.
const LEAST: &[(&str, &str)] = &[
    ("LAPSED__NOTIFY__FROM", "tokens@example.org"),
    ("LAPSED__MAIL__TRANSPORT", "file"),
];

fn env(variables: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

/// What a file in /etc and these variables, and nothing else, amount to.
fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let path = Path::new("/etc/lapsed.toml");
    Config::parse(Some((path, text.as_bytes())), &env(variables))
}

/// What it gives laid over the least configuration.
fn load(text: &str, variables: &[(&str, &str)]) -> Config {
    parse(text, &[LEAST, variables].concat()).unwrap_or_else(|error| panic!("{error}"))
}

/// What somebody is told who adds this to the least configuration.
fn told(text: &str) -> String {
    told_with(text, &[])
}

fn told_with(text: &str, variables: &[(&str, &str)]) -> String {
    let error = parse(text, &[LEAST, variables].concat()).unwrap_err();
    error.to_string().replace("/etc/lapsed.toml", "lapsed.toml")
}

fn shown<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
