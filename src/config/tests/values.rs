//! How valid values are read.

use chrono::{NaiveTime, TimeDelta};
use rstest::rstest;
use secrecy::ExposeSecret;

use super::*;
use crate::notify::smtp::Tls;

#[test]
fn a_minimal_configuration_gets_the_documented_defaults() {
    let config = load("", &[]);
    assert_eq!(
        config.store.url.expose_secret(),
        "sqlite:///var/lib/lapsed/lapsed.db"
    );
    assert!(config.store.create && config.store.is_sqlite());
    assert_eq!(config.settings.sweep.to_string(), "* * * * *");
    assert_eq!(to_strings(&config.policy.steps), ["7d", "1d"]);
    assert_eq!(config.policy.admin_digest, NaiveTime::from_hms_opt(9, 0, 0));
    assert_eq!(config.mail.directory, Path::new("/etc/outbox"));
    assert_eq!(config.http.listen, Some("127.0.0.1:8484".parse().unwrap()));
    assert!(config.smtp.is_none());
}

#[test]
fn steps_are_sorted_and_duplicates_removed() {
    let config = load(
        "[notify]
         steps = ['1d', '30d', '24h', '0d']
         admins = ['Ada@example.org', 'ada@EXAMPLE.org', 'bob@example.org']",
        &[],
    );
    assert_eq!(to_strings(&config.policy.steps), ["30d", "1d", "0d"]);
    assert_eq!(
        to_strings(&config.policy.admins),
        ["Ada@example.org", "bob@example.org"]
    );
}

#[test]
fn there_are_at_most_ten_steps() {
    let steps = |count: u8| {
        let steps: Vec<_> = (1..=count).map(|days| format!("'{days}d'")).collect();
        format!("[notify]\nsteps = [{}]", steps.join(", "))
    };
    load(&steps(10), &[]);
    let refused = errors_of(&steps(11));
    assert!(
        refused.contains("notify.steps: has at most 10 entries"),
        "{refused}"
    );
}

#[test]
fn sources_and_accounts_have_steps_of_their_own() {
    let config = load(
        "[[source]]
         name = 'exports'
         kind = 'file'
         path = 'tokens.csv'
         steps = ['30d', '90d']
         [[source]]
         name = 'other'
         kind = 'file'
         path = 'other.csv'
         [[account]]
         name = 'Acme'
         steps = ['1d']",
        &[],
    );
    let policy = &config.policy;
    assert_eq!(policy.source_steps.len(), 1);
    assert_eq!(to_strings(&policy.source_steps["exports"]), ["90d", "30d"]);
    let account = &policy.accounts["acme"];
    assert_eq!(account.name, "Acme");
    assert_eq!(to_strings(account.steps.as_deref().unwrap()), ["1d"]);
    let empty = errors_of("[[account]]\nname = 'acme'\nsteps = []");
    assert!(empty.contains("needs at least one entry"), "{empty}");
}

#[test]
fn addresses_beyond_ascii_are_read() {
    let config = load(
        "[notify]
         reply_to = 'IT <it@müller.example>'
         admins = ['jörg@example.org', 'ada@müller.example', 'ADA@XN--MLLER-KVA.example']",
        &[],
    );
    let reply_to = config.mail_identity.reply_to.unwrap();
    assert_eq!(reply_to.to_string(), "IT <it@xn--mller-kva.example>");
    let admins = ["jörg@example.org", "ada@xn--mller-kva.example"];
    assert_eq!(to_strings(&config.policy.admins), admins);
}

#[test]
fn off_disables_the_digest_and_the_listener() {
    let config = load(
        "[notify]\nadmin_digest = 'off'\n[http]\nlisten = 'off'",
        &[],
    );
    assert_eq!(config.policy.admin_digest, None);
    assert_eq!(config.http.listen, None);
}

#[rstest]
#[case("sqlite:lapsed.db", "sqlite:///etc/lapsed.db")]
#[case("sqlite://data/lapsed.db", "sqlite:///etc/data/lapsed.db")]
#[case("sqlite:///srv/lapsed.db", "sqlite:///srv/lapsed.db")]
#[case("sqlite:/srv/a b#c.db", "sqlite:///srv/a%20b%23c.db")]
#[case("sqlite:///srv/a%20b%3F.db", "sqlite:///srv/a%20b%3F.db")]
#[case("postgres://u:p@h/db", "postgres://u:p@h/db")]
#[case(
    "postgresql:///db?host=/run/postgresql",
    "postgresql:///db?host=/run/postgresql"
)]
fn the_store_path_does_not_depend_on_the_working_directory(
    #[case] url: &str,
    #[case] expected: &str,
) {
    let config = load(&format!("store.url = '{url}'"), &[]);
    assert_eq!(config.store.url.expose_secret(), expected);
}

#[test]
fn relative_paths_are_resolved_against_the_folder_of_the_file() {
    let config = load(
        "mail.templates = 'templates'
         [[source]]\nname = 'exports'\nkind = 'file'\npath = 'in/tokens.csv'
         [[directory]]\nname = 'hr'\nkind = 'file'\npath = '/srv/people.csv'",
        &[],
    );
    assert_eq!(
        config.mail.templates.as_deref(),
        Some(Path::new("/etc/templates"))
    );
    let crate::sources::Kind::File(file) = &config.sources[0].kind else {
        panic!("no file");
    };
    assert_eq!(file.path, Path::new("/etc/in/tokens.csv"));
    let crate::directories::Kind::File(file) = &config.directories[0].kind else {
        panic!("no file");
    };
    assert_eq!(file.path, Path::new("/srv/people.csv"));
    assert_eq!(
        (
            config.directories[0].terms.breaker_min,
            config.directories[0].terms.breaker_share
        ),
        (3, 0.1)
    );
}

#[test]
fn okta_has_a_private_key_and_an_optional_key_id() {
    let okta = |keys: &str| {
        let text = "[[directory]]\nname = 'o'\nkind = 'okta'\nurl = 'https://acme.okta.com'\nclient_id = '0oa1'";
        let config = load(&format!("{text}\n{keys}"), &[]);
        let crate::directories::Kind::Okta(okta) = &config.directories[0].kind else {
            panic!("no Okta");
        };
        okta.clone()
    };
    let named = okta("private_key = 's3cret'\nkey_id = 'k1'");
    assert_eq!(named.url.as_str(), "https://acme.okta.com/");
    assert_eq!(named.client_id, "0oa1");
    assert_eq!(named.private_key.expose_secret(), "s3cret");
    assert_eq!(named.key_id.as_deref(), Some("k1"));
    assert_eq!(okta("private_key = '{}'").key_id, None);
    assert!(!format!("{named:?}").contains("s3cret"));
}

#[test]
fn entra_takes_a_client_secret_or_a_certificate() {
    use crate::directories::entra::{Cloud, Credential};
    let kind = |keys: &str| {
        let keys = format!(
            "tenant = 'example.org'\nclient_id = '{}'\n{keys}",
            uuid::Uuid::nil()
        );
        let text = format!("[[directory]]\nname = 'entra'\nkind = 'entra'\n{keys}");
        let config = load(&text, &[]);
        let crate::directories::Kind::Entra(entra) = &config.directories[0].kind else {
            panic!("no Entra ID");
        };
        entra.clone()
    };
    let by_secret = kind("client_secret = 'Abc8Q~s3cret'");
    let Credential::Secret(secret) = &by_secret.credential else {
        panic!("no secret");
    };
    assert_eq!(secret.expose_secret(), "Abc8Q~s3cret");
    assert_eq!((by_secret.cloud, by_secret.url), (Cloud::Global, None));
    let by_certificate = kind("certificate = 'entra.pem'\ncloud = 'us-dod'");
    let Credential::Certificate(file) = &by_certificate.credential else {
        panic!("no certificate");
    };
    assert_eq!(file, Path::new("/etc/entra.pem"));
    assert_eq!(by_certificate.cloud, Cloud::UsDod);
}

#[test]
fn nocodb_takes_a_login_or_a_database_or_both() {
    let kind = |keys: &str| {
        let source =
            "[[source]]\nname = 'bases'\nkind = 'nocodb'\nurl = 'https://nocodb.example.org'\n";
        let config = load(&format!("{source}{keys}"), &[]);
        let crate::sources::Kind::NocoDb(nocodb) = config.sources[0].kind.clone() else {
            panic!("no NocoDB");
        };
        (nocodb.login.is_some(), nocodb.database)
    };
    let login = "email = 'lapsed@example.org'\npassword = 's3cret'";
    let database = "database = 'sqlite:noco.db'";
    assert!(matches!(kind(login), (true, None)));
    let (signs_in, url) = kind(database);
    assert_eq!(
        (signs_in, url.unwrap().expose_secret()),
        (false, "sqlite:///etc/noco.db")
    );
    assert!(matches!(
        kind(&format!("{login}\n{database}")),
        (true, Some(_))
    ));
    let missing = |keys: &str| {
        errors_of(&format!(
            "[[source]]\nname = 'bases'\nkind = 'nocodb'\n{keys}"
        ))
    };
    let errors = missing("email = 'lapsed@example.org'\ndatabase = 'sqlite:noco.db'");
    assert!(
        errors.contains("password is missing") && errors.contains("url is missing"),
        "{errors}"
    );
    assert!(!errors.contains("unknown key"), "{errors}");
    assert!(missing("url = 'https://nocodb.example.org'").contains("email is missing"));
}

fn server(url: &str) -> (String, u16, Tls, Option<String>, Option<String>) {
    let smtp = load(&format!("smtp.url = '{url}'"), &[]).smtp.unwrap();
    let password = smtp
        .password
        .map(|secret| secret.expose_secret().to_owned());
    (smtp.host, smtp.port, smtp.tls, smtp.user, password)
}

#[rstest]
#[case("smtps://mail.example.org", "mail.example.org", 465, Tls::Implicit)]
#[case(
    "smtps://mail.example.org:2465/",
    "mail.example.org",
    2465,
    Tls::Implicit
)]
#[case("smtp://mail.example.org", "mail.example.org", 587, Tls::Required)]
#[case(
    "smtp://mail.example.org:25?tls=required",
    "mail.example.org",
    25,
    Tls::Required
)]
#[case(
    "smtp://10.0.0.1:25?tls=opportunistic",
    "10.0.0.1",
    25,
    Tls::Opportunistic
)]
#[case("smtp://[::1]:25?tls=none", "::1", 25, Tls::None)]
fn the_smtp_url_sets_host_port_and_encryption(
    #[case] url: &str,
    #[case] host: &str,
    #[case] port: u16,
    #[case] tls: Tls,
) {
    assert_eq!(server(url), (host.to_owned(), port, tls, None, None));
}

#[test]
fn user_and_password_in_the_url_are_percent_decoded() {
    let (host, _, _, user, password) =
        server("smtps://tokens%40example.org:s%2F3%3Acret@mail.example.org");
    assert_eq!(host, "mail.example.org");
    assert_eq!(user.as_deref(), Some("tokens@example.org"));
    assert_eq!(password.as_deref(), Some("s/3:cret"));
}

#[rstest]
#[case("delivery", "lease", "2h", "at least 1s, at most 1h")]
#[case("delivery", "retry_min", "2d", "at least 1s, at most 1d")]
#[case("delivery", "retry_max", "8d", "at least 1s, at most 7d")]
#[case("delivery", "give_up", "366d", "at least 1s, at most 365d")]
#[case("delivery", "stop_timeout", "61m", "at least 1s, at most 1h")]
#[case("smtp", "timeout", "1000y", "at least 1s, at most 1h")]
#[case("smtp", "final_timeout", "1d", "at least 1s, at most 1h")]
#[case("notify", "merge_ahead", "8d", "at least 0s, at most 7d")]
#[case("policy", "revoke_after", "2y", "at least 1h, at most 365d")]
#[case("policy", "max_ttl", "200y", "at least 1m, at most 36500d")]
#[case("[source]", "timeout", "2h", "at least 1s, at most 1h")]
#[case("[source]", "policy_ttl", "1h", "at least 1d, at most 36500d")]
#[case("[directory]", "timeout", "2h", "at least 1s, at most 1h")]
#[case("[directory]", "absence_grace", "2y", "at least 0s, at most 365d")]
#[case("[directory]", "fresh_for", "2y", "at least 1m, at most 365d")]
fn a_duration_that_cannot_work_is_refused(
    #[case] section: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] limits: &str,
) {
    let errors = errors_of(&format!("[{section}]\n{key} = '{value}'"));
    let section = section.trim_matches(['[', ']']);
    let path = [format!("{section}.{key}"), format!("{section}[0].{key}")];
    let expected = path.map(|path| format!("{path}: {value} is out of range; {limits}"));
    assert!(
        expected.iter().any(|text| errors.contains(text)),
        "{errors}"
    );
}

#[test]
fn zero_means_no_limit() {
    let smtp = "smtp.url = 'smtp://mail.example.org'\nsmtp.messages_per_connection = 0\n";
    let config = load(&format!("{smtp}smtp.mails_per_second = 0.5"), &[]);
    assert_eq!(config.settings.delivery.messages_per_connection, 0);
    assert_eq!(config.settings.delivery.mails_per_second, Some(0.5));
    assert_eq!(load(smtp, &[]).settings.delivery.mails_per_second, None);
    let smtp = config.smtp.unwrap();
    assert_eq!(smtp.session.timeout, std::time::Duration::from_secs(30));
    assert_eq!(smtp.session.envelope_from.to_string(), "tokens@example.org");
}

#[test]
fn tokens_are_only_flagged_unless_sso_revoked_is_revoke() {
    use crate::domain::RevocationPolicy;

    let policy = |text: &str| load(text, &[]).settings.response;
    assert_eq!(policy(""), None);
    let flag = "policy.sso_revoked = 'flag'\npolicy.revoke_after = '1h'";
    assert_eq!(policy(flag), None);
    assert_eq!(
        policy("policy.sso_revoked = 'revoke'"),
        Some(RevocationPolicy {
            revoke_after: TimeDelta::days(3),
            max_per_day: 10,
        })
    );
    let all = "[policy]\nsso_revoked = 'revoke'\nrevoke_after = '12h'\nmax_revocations_per_day = 1";
    assert_eq!(
        policy(all),
        Some(RevocationPolicy {
            revoke_after: TimeDelta::hours(12),
            max_per_day: 1,
        })
    );
}

#[test]
fn durations_have_units() {
    let config = load(
        "policy.max_ttl = '90d'\npolicy.unused_after = 'off'\nnotify.merge_ahead = '1h 30m'",
        &[],
    );
    assert_eq!(config.policy.rules.max_ttl, Some(TimeDelta::days(90)));
    assert_eq!(config.policy.rules.unused_after, None);
    assert_eq!(config.policy.merge_ahead, TimeDelta::minutes(90));
}

#[test]
fn secrets_are_read_from_files_variables_and_credentials() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("url"),
        "postgres://lapsed:s3cret@db/lapsed\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("smtp"), "pa55word\n").unwrap();
    let text = "store.url = { file = 'url' }
                [smtp]
                url = { env = 'RELAY' }
                password = { credential = 'smtp' }";
    let variables = [
        MINIMUM,
        &[
            ("RELAY", "smtps://tokens@mail.example.org"),
            ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()),
        ],
    ]
    .concat();
    let path = folder.path().join("lapsed.toml");
    let config = Config::parse(
        Some((&path, text.as_bytes())),
        &env(&variables),
        Secrets::Read,
        &Credentials::default(),
    )
    .unwrap();
    assert_eq!(
        config.store.url.expose_secret(),
        "postgres://lapsed:s3cret@db/lapsed"
    );
    let smtp = config.smtp.unwrap();
    assert_eq!(smtp.user.as_deref(), Some("tokens"));
    assert_eq!(smtp.password.unwrap().expose_secret(), "pa55word");
}

#[test]
fn debug_output_contains_no_secret() {
    let text = "store.url = 'postgres://lapsed:hidden1@db/lapsed'
                smtp.url = 'smtps://tokens:hidden2@mail.example.org'";
    let one = format!("{:#?}", load(text, &[]));
    let text = "smtp.url = 'smtps://tokens@mail.example.org'\nsmtp.password = 'hidden3'";
    let two = format!("{:#?}", load(text, &[]));
    for secret in ["hidden1", "hidden2", "hidden3"] {
        assert!(!one.contains(secret) && !two.contains(secret), "{secret}");
    }
    assert!(one.contains("mail.example.org"), "the rest is shown");
}

#[test]
fn a_named_file_comes_first_and_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for name in ["cli", "variable", "first", "second"] {
        std::fs::write(file(name), name).unwrap();
    }
    let variable = env(&[("LAPSED_CONFIG", file("variable").to_str().unwrap())]);
    let places = |names: &[&str]| names.iter().map(|name| file(name)).collect::<Vec<_>>();
    let found = |cli: Option<&str>, env: &HashMap<String, String>, names: &[&str]| {
        let places = places(names);
        let cli = cli.map(file);
        find(cli.as_deref(), env, places.iter().map(PathBuf::as_path))
            .map(|found| found.map(|(_, bytes)| String::from_utf8(bytes).unwrap()))
    };
    let none = HashMap::new();
    assert_eq!(
        found(Some("cli"), &variable, &["first"]).unwrap().unwrap(),
        "cli"
    );
    assert_eq!(
        found(None, &variable, &["first"]).unwrap().unwrap(),
        "variable"
    );
    assert_eq!(
        found(None, &none, &["first", "second"]).unwrap().unwrap(),
        "first"
    );
    assert_eq!(
        found(None, &none, &["gone", "second"]).unwrap().unwrap(),
        "second"
    );
    assert_eq!(found(None, &none, &["gone"]).unwrap(), None);
    let error = found(Some("gone"), &none, &["first"]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot read the configuration"),
        "{error}"
    );
}

#[test]
fn valid_but_odd_settings_give_warnings() {
    let warnings = load(
        "notify.max_per_sweep = 0\nhttp.listen = '[::]:8484'\nmail.transport = 'smtp'
         [smtp]\nurl = 'smtp://tokens:x@mail.example.org?tls=none'",
        &[("LAPSED__MAIL__TRANSPORT", "smtp")],
    )
    .warnings();
    let keys: Vec<_> = warnings
        .iter()
        .filter_map(|warning| warning.split(' ').next())
        .collect();
    assert_eq!(
        keys,
        [
            "notify.admins",
            "notify.max_per_sweep",
            "smtp.url",
            "http.listen"
        ]
    );
    let harmless = load(
        "[notify]\nadmins = ['a@example.org']\nbase_url = 'https://lapsed.example.org'
         [smtp]\nurl = 'smtp://127.0.0.1:25?tls=none'",
        &[("LAPSED__MAIL__TRANSPORT", "smtp")],
    );
    assert_eq!(harmless.warnings(), Vec::<String>::new());
}

#[test]
fn a_scim_server_has_a_url_a_token_and_a_ca_file() {
    let config = load(
        "[[directory]]
         name = 'idp'
         kind = 'scim'
         url = 'https://idp.example.org/scim/v2'
         token = 's3cret'
         ca_file = 'ca.pem'
         allowed_groups = ['cdn-admins']",
        &[],
    );
    let directory = &config.directories[0];
    let crate::directories::Kind::Scim(scim) = &directory.kind else {
        panic!("no SCIM server");
    };
    assert_eq!(scim.url.as_str(), "https://idp.example.org/scim/v2");
    assert_eq!(scim.token.expose_secret(), "s3cret");
    assert_eq!(scim.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(directory.terms.allowed_groups, ["cdn-admins"]);
    assert!(!format!("{config:?}").contains("s3cret"));
}

const KEYCLOAK: &str = "[[directory]]\nname = 'sso'\nkind = 'keycloak'\n";

#[test]
fn keycloak_has_a_url_a_realm_and_a_client() {
    let config = load(
        &format!(
            "{KEYCLOAK}url = 'https://sso.example.org/auth'\nrealm = 'example'\nclient_id = 'lapsed'
             client_secret = 's3cret'\nca_file = 'ca.pem'\nallowed_groups = ['/ops/admins']"
        ),
        &[],
    );
    let directory = &config.directories[0];
    assert_eq!(directory.terms.allowed_groups, ["/ops/admins"]);
    let crate::directories::Kind::Keycloak(keycloak) = &directory.kind else {
        panic!("no Keycloak");
    };
    assert_eq!(keycloak.url.as_str(), "https://sso.example.org/auth");
    assert_eq!(
        (keycloak.realm.as_str(), keycloak.client_id.as_str()),
        ("example", "lapsed")
    );
    assert_eq!(keycloak.client_secret.expose_secret(), "s3cret");
    assert_eq!(keycloak.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
}

#[test]
fn all_problems_of_a_keycloak_are_reported_without_its_secret() {
    let errors = errors_of(KEYCLOAK);
    for key in ["url", "realm", "client_id", "client_secret"] {
        assert!(errors.contains(&format!("{key} is missing")), "{errors}");
    }
    let errors = errors_of(&format!(
        "{KEYCLOAK}url = 'https://sso.example.org/realms/example'\nrealm = 'a/b'\nclient_id = ''
         client_secret = 's3cret'\nclient_secert = 'x'"
    ));
    for message in [
        "url: must end before /realms and /admin",
        "realm: must be only the name of the realm",
        "client_id: is empty",
        "did you mean `client_secret`?",
    ] {
        assert!(errors.contains(message), "{errors}");
    }
    assert!(!errors.contains("s3cret"), "{errors}");
}
