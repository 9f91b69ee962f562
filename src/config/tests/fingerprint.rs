//! Which configurations count as the same for replicas.

use rstest::rstest;

use super::*;

const TWO_SOURCES: &str = "
[notify]
steps = ['14d', '1d']
admins = ['ada@example.org', 'bob@example.org']
[smtp]
url = 'smtps://tokens@mail.example.org'
password = 'p1'
mails_per_second = 2
[[source]]
name = 'a'
kind = 'rancher'
url = 'https://rancher.example.org'
token = 'token-abc:secret1'
[[source]]
name = 'b'
kind = 'file'
path = 'b.csv'
owners = 'owners.csv'
";

fn fingerprint(text: &str) -> String {
    load(text, &[]).fingerprint
}

#[test]
fn order_spelling_secrets_and_paths_do_not_count() {
    let same = "
log.level = 'debug'
log.format = 'json'
http.listen = '0.0.0.0:9000'
store.url = 'postgres://db2/lapsed'
[[source]]
path   = '/data/other.csv'
owners = '/data/owners.csv'
kind   = 'file'
name   = 'b'
[[source]]
name = 'a'
token = 'token-xyz:secret2'
proxy = 'http://proxy.example.org:3128'
kind = 'rancher'
timeout = '30000ms'
url = 'https://rancher.example.org/'
[smtp]
mails_per_second = 2.0
password = 'p2'
url = 'smtps://tokens@mail.example.org:465'
hello_name = 'this-machine.example.org'
[schedule]
sweep = '* * * * *'
heartbeat = { url = 'https://hc-ping.com/1' }
[notify]
merge_ahead = '60m'
admins = ['bob@example.org', 'ada@example.org']
steps = ['24h', '2weeks']
";
    let first = fingerprint(TWO_SOURCES);
    assert_eq!(first, fingerprint(same));
    assert_eq!(first.len(), 12);
    assert!(first.chars().all(|c| c.is_ascii_hexdigit()), "{first}");
}

#[test]
fn a_variable_counts_as_the_key_in_the_file() {
    let variables = [
        ("LAPSED__NOTIFY__STEPS", "1d,14d"),
        ("LAPSED__SMTP__MAILS_PER_SECOND", "2"),
    ];
    let text = TWO_SOURCES
        .replace("steps = ['14d', '1d']", "")
        .replace("mails_per_second = 2", "");
    assert_eq!(
        load(&text, &variables).fingerprint,
        fingerprint(TWO_SOURCES)
    );
}

#[test]
fn a_default_that_is_written_out_does_not_count() {
    let written = "
        [notify]
        steps = ['7d', '1d']
        admins = []
        admin_digest = '09:00'
        max_per_sweep = 1000
        [delivery]
        lease = '30s'
        [policy]
        max_ttl = 'off'
        sso_revoked = 'flag'";
    assert_eq!(fingerprint(written), fingerprint(""));
}

#[rstest]
#[case::step("'14d'", "'13d'")]
#[case::admin("bob@", "eve@")]
#[case::rate("second = 2", "second = 3")]
#[case::relay("mail.example.org", "relay.example.org")]
#[case::upstream("rancher.example.org", "other.example.org")]
#[case::name("name = 'b'", "name = 'c'")]
#[case::missing_file("owners = 'owners.csv'", "")]
#[case::new_key("[smtp]", "[smtp]\npipelining = false")]
fn a_setting_that_differs_counts(#[case] old: &str, #[case] new: &str) {
    assert!(TWO_SOURCES.contains(old));
    let other = TWO_SOURCES.replace(old, new);
    assert_ne!(fingerprint(TWO_SOURCES), fingerprint(&other));
}

#[test]
fn keys_that_moved_to_another_source_count() {
    let text = |a: &str, b: &str| {
        format!(
            "[[source]]\nname = 'a'\nkind = 'file'\npath = 'a.csv'\n{a}
             [[source]]\nname = 'b'\nkind = 'file'\npath = 'b.csv'\n{b}"
        )
    };
    let life = "policy_ttl = '90d'";
    assert_ne!(fingerprint(&text(life, "")), fingerprint(&text("", life)));
}
