//! The exact messages that operators get.

use insta::assert_snapshot;

use super::*;

fn all_errors_of(texts: &[&str]) -> String {
    let errors: Vec<_> = texts.iter().map(|text| errors_of(text)).collect();
    errors.join("\n")
}

#[test]
fn unknown_sections_keys_and_kinds_name_the_place_and_the_nearest() {
    assert_snapshot!(all_errors_of(&[
        "\n[notfy]\nsteps = []",
        "[notify]\nsteps = ['7d']\nadmin = ['a@example.org']",
        "[http]\ncolour = 1",
        "[[source]]\nname = 'a'\nkind = 'fiel'\npath = 'x'",
        "[[source]]\nname = 'a'\nkind = 'file'\npath = 'x'\nurl = 'y'",
        "debug = true",
        "\"a[99999999999]\" = 1",
        "smtp.url = 'smtp://h'\nsmtp.password = { fil = 'x' }",
        "log.format = 'yaml'",
    ]), @"
    lapsed.toml:2:2: unknown section `notfy` in the configuration; did you mean `notify`? (allowed: mail, smtp, schedule, notify, store, account, delivery, policy, retention, http, log, issuers, source, directory, service, web)
    lapsed.toml:3:1: unknown key `admin` in [notify]; did you mean `admins`? (allowed: steps, from, admins, admin_digest, summary, merge_ahead, max_per_sweep, base_url, contact, language, reply_to)
    lapsed.toml:2:1: unknown key `colour` in [http]; allowed: listen
    lapsed.toml:3:8: source[0].kind: unknown value `fiel`; did you mean `file`? (allowed: file, rancher, devtron, gcore, nocodb, sql)
    lapsed.toml:5:1: unknown key `url` in [[source]]; did you mean `help_url`? (allowed: name, schedule, timeout, title, help_url, allow_revoke, policy_ttl, owners, steps, timezone, kind, path, dates, never, date_format, items, extra, encoding, columns)
    lapsed.toml:1:1: unknown section `debug` in the configuration; allowed: mail, smtp, schedule, notify, store, account, delivery, policy, retention, http, log, issuers, source, directory, service, web
    lapsed.toml:1:1: unknown section or key `a[99999999999]`
    the configuration has 2 problems:
      lapsed.toml:2:17: smtp.password: there is no user; add one to smtp.url: smtps://user@host:465
      lapsed.toml:2:17: smtp.password: unknown key `fil`; did you mean `file`? (allowed: file, env, credential)
    lapsed.toml:1:14: log.format: unknown value `yaml`; allowed: text, json
    ");
}

#[test]
fn wrong_types_name_the_place_and_the_right_form() {
    assert_snapshot!(all_errors_of(&[
        "[notify]\nsteps = '7d'",
        "[notify]\nsteps = ['7d', 7]",
        "[notify]\nadmins = 'ada@example.org'",
        "[store]\ncreate = 'yes'",
        "[delivery]\nlease = 30",
        "[smtp]\nurl = 'smtp://h'\nconnections = 2.5",
        "[smtp]\nurl = 'smtp://h'\nconnections = '4'",
        "[smtp]\nurl = 'smtps://u@h'\npassword = 12345",
        "[[smtp]]\nurl = 'smtp://h'",
        "[source]\nname = 'a'",
        "source = [1]",
        "schedule.timezone = true",
        "log = 'debug'",
        "notify.reply_to = ['a@example.org']",
    ]), @r#"
    lapsed.toml:2:9: notify.steps: must be a list such as ["…", "…"], not a text
    lapsed.toml:2:16: notify.steps[1]: must be a text in quotes, not a number
    lapsed.toml:2:10: notify.admins: must be a list such as ["…", "…"], not a text
    lapsed.toml:2:10: store.create: must be true or false, not a text
    lapsed.toml:2:9: delivery.lease: 30 has no unit; write for example "30s"
    lapsed.toml:3:15: smtp.connections: must be a whole number, not a fraction
    lapsed.toml:3:15: smtp.connections: must be a whole number, not a text
    lapsed.toml:3:12: smtp.password: must be a text in quotes, or { file = "…" }, { env = "…" } or { credential = "…" }, not a number
    lapsed.toml:1:1: smtp: must be a section: write [smtp] and its keys below
    lapsed.toml:1:1: source: can occur several times: write [[source]] with two brackets
    lapsed.toml:1:11: can occur several times: write [[source]] with two brackets
    lapsed.toml:1:21: schedule.timezone: must be a text in quotes, not true or false
    lapsed.toml:1:7: log: must be a section: write [log] and its keys below
    lapsed.toml:1:19: notify.reply_to: must be a text in quotes, not a list
    "#);
}

#[test]
fn invalid_values_say_what_to_write() {
    assert_snapshot!(all_errors_of(&[
        "notify.steps = ['7', '1d']",
        "notify.steps = []",
        "notify.admins = ['ada']",
        "notify.reply_to = 'IT <it>'",
        "notify.reply_to = 'jörg@example.org'",
        "notify.admin_digest = '25:00'",
        "notify.admin_digest = 09:00:00",
        "notify.base_url = 'lapsed.example.org'",
        "notify.base_url = 'ftp://lapsed.example.org'",
        "notify.max_per_sweep = -1",
        "notify.merge_ahead = 'soon'",
        "schedule.sweep = '0 * * * * *'",
        "schedule.timezone = 'Europe/Belin'",
        "log.level = 'inof'",
        "log.level = 'info,lapsed=loud'",
        "http.listen = 'localhost:8484'",
        "http.listen = ''",
        "retention.runs = '1h'",
        "delivery.lease = '500ms'",
        "policy.sso_revoked = 'delete'",
        "policy.revoke_after = '10m'",
        "policy.max_revocations_per_day = 0",
        "[delivery]\nretry_min = '2h'\nretry_max = '1h'\ngive_up = '30m'",
    ]), @r#"
    lapsed.toml:1:17: notify.steps[0]: "7" is not a time before expiry; write it as 7d, 36h or 90m, at most 3650d
    lapsed.toml:1:16: notify.steps: needs at least one entry, such as steps = ["7d", "1d"]
    lapsed.toml:1:18: notify.admins[0]: "ada" is not a mail address; write it as name@example.org
    lapsed.toml:1:19: notify.reply_to: is not a mail address; write it as name@example.org or "Name <name@example.org>"
    lapsed.toml:1:19: notify.reply_to: has a letter beyond ASCII before the @; write an address without one
    lapsed.toml:1:23: notify.admin_digest: `25:00` is not a time of day; write "09:00" or "off"
    lapsed.toml:1:23: notify.admin_digest: `09:00:00` is not a time of day; write "09:00" or "off"
    lapsed.toml:1:19: notify.base_url: is not a URL (relative URL without a base); write for example https://wiki.example.org/tokens/{source}
    lapsed.toml:1:19: notify.base_url: must begin with https:// or http://; write for example https://wiki.example.org/tokens/{source}
    lapsed.toml:1:24: notify.max_per_sweep: must be a whole number from 0 to 1000000000
    lapsed.toml:1:22: notify.merge_ahead: "soon" is not a duration; write it as 30s, 5m, 12h or 7d
    lapsed.toml:1:18: schedule.sweep: "0 * * * * *" is not a schedule: it has more than five fields; seconds and years are not supported; write five fields, minute hour day month weekday, such as "*/15 * * * *" or "0 9 * * 1-5"
    lapsed.toml:1:21: schedule.timezone: unknown time zone `Europe/Belin`; did you mean `Europe/Berlin`? (write a name such as UTC or Europe/Berlin)
    lapsed.toml:1:13: log.level: unknown level `inof`; did you mean `info`? (allowed: off, error, warn, info, debug, trace); a module can have its own level: "info,lapsed::engine=debug"
    lapsed.toml:1:13: log.level: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; write a level, or "info,lapsed::engine=debug"
    lapsed.toml:1:15: http.listen: "localhost:8484" is not an address and a port; write "127.0.0.1:8484", "[::]:8484" or "off"
    lapsed.toml:1:15: http.listen: is empty; give it a value or leave the key out
    lapsed.toml:1:18: retention.runs: 1h is out of range; at least 1d, at most 36500d
    lapsed.toml:1:18: delivery.lease: 500ms is out of range; at least 1s, at most 1h
    lapsed.toml:1:22: policy.sso_revoked: unknown value `delete`; allowed: flag, revoke
    lapsed.toml:1:23: policy.revoke_after: 10m is out of range; at least 1h, at most 365d
    lapsed.toml:1:34: policy.max_revocations_per_day: must be a whole number from 1 to 10000; to revoke none, set policy.sso_revoked = "flag"
    the configuration has 2 problems:
      lapsed.toml:2:13: delivery.retry_min: must not be longer than retry_max
      lapsed.toml:3:13: delivery.retry_max: must not be longer than give_up
    "#);
}

#[test]
fn the_keys_of_a_scim_server_are_checked() {
    let scim = |keys: &str| format!("[[directory]]\nname = 'idp'\nkind = 'scim'\n{keys}");
    let texts = [
        scim(""),
        scim("url = 'https://idp.example.org/scim/v2/Users/'\ntoken = 'x'"),
        scim("url = 'idp.example.org'\ntoken = ' '"),
        scim("url = 'https://idp.example.org/scim/v2'\ntoken = 'x'\npassword = 'x'"),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_snapshot!(all_errors_of(&texts), @r#"
    the configuration has 2 problems:
      lapsed.toml:1:1: directory[0].token is missing; write for example token = { file = "scim-token" } in [[directory]]
      lapsed.toml:1:1: directory[0].url is missing; write for example url = "https://idp.example.org/scim/v2" in [[directory]]
    lapsed.toml:4:7: directory[0].url: must end before /Users: write for example https://idp.example.org/scim/v2
    the configuration has 2 problems:
      lapsed.toml:4:7: directory[0].url: is not a URL (relative URL without a base); write for example https://idp.example.org/scim/v2
      lapsed.toml:5:9: directory[0].token: is empty
    lapsed.toml:6:1: unknown key `password` in [[directory]]; allowed: name, schedule, timeout, allowed_groups, canaries, absence_grace, fresh_for, breaker_share, breaker_min, kind, url, allow_plaintext, proxy, token, ca_file
    "#);
}

#[test]
fn sources_directories_and_accounts_are_checked() {
    assert_snapshot!(all_errors_of(&[
        "[[source]]\nname = 'local'\nkind = 'file'\npath = 'x'",
        "[[source]]\nname = 'a'\nkind = 'file'\npath = 'x'\n[[source]]\nname = 'a'\nkind = 'file'\npath = 'y'",
        "[[source]]\nname = 'My tokens'\nkind = 'file'\npath = 'x'",
        "[[source]]\nkind = 'file'",
        "[[directory]]\nname = 'hr'\npath = 'x'",
        "[[directory]]\nname = 'hr'\nkind = 'file'\npath = 'x'\nbreaker_share = 10",
        "[[account]]\nname = 'acme'\n[[account]]\nname = 'Acme'",
        "[[account]]\nname = ''\nadmins = ['x']",
    ]), @r#"
    lapsed.toml:2:8: source[0].name: "local" is the name of the built-in store; choose a different name
    lapsed.toml:6:8: source[1].name: "a" is already used; choose a different name
    lapsed.toml:2:8: source[0].name: may contain only a-z, 0-9, _ and -, must begin with a letter or digit, and has at most 60 characters
    the configuration has 2 problems:
      lapsed.toml:1:1: source[0].name is missing; write for example name = "exports" in [[source]]
      lapsed.toml:1:1: source[0].path is missing; write for example path = "tokens.csv" in [[source]]
    lapsed.toml:1:1: directory[0].kind is missing; write for example kind = "file" in [[directory]]
    lapsed.toml:5:17: directory[0].breaker_share: must be a number from 0 to 1
    lapsed.toml:4:8: account[1].name: there is another account `Acme`; give its keys in one place
    the configuration has 2 problems:
      lapsed.toml:2:8: account[0].name: is empty; give it a value or leave the key out
      lapsed.toml:3:11: account[0].admins[0]: "x" is not a mail address; write it as name@example.org
    "#);
}

#[test]
fn the_keys_of_entra_id_are_checked() {
    let entra = |keys: &str| format!("[[directory]]\nname = 'e'\nkind = 'entra'\n{keys}");
    let program = "tenant = 'example.org'\nclient_id = '00000000-0000-0000-0000-000000000000'\n";
    let wrong = [
        entra(""),
        entra("tenant = 'common'\nclient_id = 'lapsed'\nclient_secret = 'x'"),
        entra(&format!(
            "{program}client_secret = 'x'\ncertificate = 'x.pem'"
        )),
        entra(&format!("{program}client_secret = 'x'\ncloud = 'usa'")),
        entra(&format!(
            "{program}client_secret = 'x'\ncertifcate = 'x.pem'"
        )),
    ];
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    assert_snapshot!(all_errors_of(&wrong), @r#"
    the configuration has 3 problems:
      lapsed.toml:1:1: directory[0].client_id is missing; write for example client_id = "00000000-0000-0000-0000-000000000000" in [[directory]]
      lapsed.toml:1:1: directory[0].client_secret is missing; write for example client_secret = { file = "entra-secret" } in [[directory]]
      lapsed.toml:1:1: directory[0].tenant is missing; write for example tenant = "example.org" in [[directory]]
    lapsed.toml:4:10: directory[0].tenant: "common" is not a tenant; write the Directory (tenant) ID
    lapsed.toml:7:15: directory[0].certificate: cannot be combined with client_secret; remove one of them
    lapsed.toml:7:9: directory[0].cloud: unknown value `usa`; did you mean `us`? (allowed: global, us, us-dod, china)
    lapsed.toml:7:1: unknown key `certifcate` in [[directory]]; did you mean `certificate`? (allowed: name, schedule, timeout, allowed_groups, canaries, absence_grace, fresh_for, breaker_share, breaker_min, kind, tenant, client_id, certificate, client_secret, cloud, url, allow_plaintext, proxy)
    "#);
}

#[test]
fn a_message_about_the_store_url_has_no_password() {
    let errors = all_errors_of(&[
        "store.url = 'mysql://u:hidden@h/db'",
        "store.url = '/var/lib/lapsed.db'",
        "store.url = 'postgres://u:hidden@h:port/db'",
        "store.url = 'sqlite::memory:'",
        "store.url = 'sqlite:lapsed.db?mode=rwc'",
        "store.url = 'sqlite://'",
        "store.url = 'hidden hidden:hidden'",
    ]);
    assert!(!errors.contains("hidden"));
    assert_snapshot!(errors, @r#"
    lapsed.toml:1:13: store.url: lapsed keeps its data in SQLite or PostgreSQL, not mysql://; write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database
    lapsed.toml:1:13: store.url: is not the URL of a store; write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database
    lapsed.toml:1:13: store.url: is not a URL (invalid port number); write postgres://user:password@host/database, with special characters in the password percent-encoded
    lapsed.toml:1:13: store.url: must be a file: in memory, lapsed would forget which mails it sent
    lapsed.toml:1:13: store.url: takes no options after `?`; store.create decides whether the file is created
    lapsed.toml:1:13: store.url: does not name a file; write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database
    lapsed.toml:1:13: store.url: is not the URL of a store; write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database
    "#);
}

#[test]
fn a_message_about_the_smtp_url_has_no_password() {
    let errors = all_errors_of(&[
        "smtp.url = 'mail.example.org:25'",
        "smtp.url = 'https://mail.example.org'",
        "smtp.url = 'mail.example.org'",
        "smtp.url = 'smtp://'",
        "smtp.url = 'smtp://h:99999'",
        "smtp.url = 'smtp://u:hid/den@h'",
        "smtp.url = 'smtp://h?tsl=none'",
        "smtp.url = 'smtp://h?tls=maybe'",
        "smtp.url = 'smtps://h?tls=none'",
        "smtp.url = 'smtps://u@h'",
        "smtp.url = 'smtps://:hidden@h'",
        "smtp.url = 'smtps://h'\nsmtp.password = 'hidden'",
        "smtp.url = 'smtps://u:hidden@h'\nsmtp.password = 'hidden'",
        "[smtp]\nconnections = 0",
        "smtp.url = 'smtp://h'\nsmtp.connections = 1000\nsmtp.hello_name = 'a b'",
    ]);
    assert!(!errors.contains("hid"));
    assert_snapshot!(errors, @r#"
    lapsed.toml:1:12: smtp.url: is not the URL of a mail server; write smtps://user@host:465 or smtp://user@host:587
    lapsed.toml:1:12: smtp.url: begins with https://; write smtps://user@host:465 or smtp://user@host:587
    lapsed.toml:1:12: smtp.url: is not a URL (relative URL without a base); write smtps://user@host:465 or smtp://user@host:587
    lapsed.toml:1:12: smtp.url: does not name a host; write smtps://user@host:465 or smtp://user@host:587
    lapsed.toml:1:12: smtp.url: is not a URL (invalid port number); write smtps://user@host:465 or smtp://user@host:587
    lapsed.toml:1:12: smtp.url: is not a URL (invalid port number); write smtps://user@host:465 or smtp://user@host:587
    lapsed.toml:1:12: smtp.url: unknown option `tsl`; did you mean `tls`? (allowed: tls)
    lapsed.toml:1:12: smtp.url: unknown value tls=`maybe`; allowed: required, opportunistic, none
    lapsed.toml:1:12: smtp.url: smtps:// is always encrypted; leave out ?tls=
    lapsed.toml:1:12: smtp.url: there is no password for "u"; add for example password = { file = "smtp-password" }
    lapsed.toml:1:12: smtp.url: has a password without a user; write smtps://user@host:465 or smtp://user@host:587
    lapsed.toml:2:17: smtp.password: there is no user; add one to smtp.url: smtps://user@host:465
    lapsed.toml:2:17: smtp.password: there is already a password in smtp.url; remove one of them
    the configuration has 2 problems:
      lapsed.toml:1:1: smtp.url is missing; write for example url = "smtps://user@mail.example.org:465" in [smtp], or set LAPSED__SMTP__URL
      lapsed.toml:2:15: smtp.connections: must be a whole number from 1 to 256
    the configuration has 2 problems:
      lapsed.toml:2:20: smtp.connections: must be a whole number from 1 to 256
      lapsed.toml:3:19: smtp.hello_name: is not a host name; write for example lapsed.example.org
    "#);
}

#[test]
fn an_unreadable_secret_names_the_key_and_what_to_do() {
    let url = "[smtp]\nurl = 'smtps://u@h'\n";
    let smtp = |password: &str| errors_of(&format!("{url}password = {password}"));
    let errors = [
        "{ file = 'gone' }",
        "{ file = '/' }",
        "{ env = 'GONE' }",
        "{ credential = 'smtp' }",
        "{ credential = '../smtp' }",
        "{ file = 'a', env = 'B' }",
        "{ }",
        "''",
        "['x']",
    ]
    .map(smtp);
    assert_snapshot!(errors.join("\n"), @r#"
    lapsed.toml:3:12: smtp.password: cannot read the secret from /etc/gone: there is no such file
    lapsed.toml:3:12: smtp.password: cannot read the secret from /: Is a directory (os error 21)
    lapsed.toml:3:12: smtp.password: the variable "GONE" is not set; set it to the secret
    lapsed.toml:3:12: smtp.password: the credential "smtp": there is no /etc/smtp; write the secret to /etc/smtp (mode 0600), or at a shell set CREDENTIALS_DIRECTORY to the folder that has it; the service needs LoadCredential=smtp:/etc/smtp in its unit
    lapsed.toml:3:12: smtp.password: "../smtp" is not the name of a credential; write a plain file name
    lapsed.toml:3:12: smtp.password: give exactly one of file, env and credential
    lapsed.toml:3:12: smtp.password: give exactly one of file, env and credential
    lapsed.toml:3:12: smtp.password: is empty
    lapsed.toml:3:12: smtp.password: must be a text in quotes, or { file = "…" }, { env = "…" } or { credential = "…" }, not a list
    "#);
}

#[test]
fn a_missing_key_is_reported_with_an_example() {
    let bare = |text: &str| parse(text, &[]).unwrap_err().to_string();
    let alone = Config::parse(
        None,
        &env(&[("LAPSED__LOG__LEVEL", "info")]),
        Secrets::Read,
        &Credentials::default(),
    )
    .unwrap_err();
    assert_snapshot!(format!("{}\n{}\n{alone}", bare(""), bare("[notify]\nadmins = []")), @r#"
    the configuration has 2 problems:
      /etc/lapsed.toml: notify.from is missing; write for example from = "API tokens <tokens@example.org>" in [notify], or set LAPSED__NOTIFY__FROM
      /etc/lapsed.toml: there is no [smtp] section: set [smtp] url (write smtps://user@host:465 or smtp://user@host:587), or write mails to a folder with [mail] transport = "file"
    the configuration has 2 problems:
      /etc/lapsed.toml:1:1: notify.from is missing; write for example from = "API tokens <tokens@example.org>" in [notify], or set LAPSED__NOTIFY__FROM
      /etc/lapsed.toml: there is no [smtp] section: set [smtp] url (write smtps://user@host:465 or smtp://user@host:587), or write mails to a folder with [mail] transport = "file"
    the configuration has 2 problems:
      environment: notify.from is missing; write for example from = "API tokens <tokens@example.org>" in [notify], or set LAPSED__NOTIFY__FROM
      environment: there is no [smtp] section: set [smtp] url (write smtps://user@host:465 or smtp://user@host:587), or write mails to a folder with [mail] transport = "file"
    "#);
}

#[test]
fn without_a_configuration_the_searched_paths_are_listed() {
    let looked_at = vec!["lapsed.toml".into(), "/etc/lapsed/lapsed.toml".into()];
    assert_snapshot!(Error::NotFound { looked_at }, @"no configuration found: there is no lapsed.toml and no /etc/lapsed/lapsed.toml, and no variable begins with LAPSED__; give --config FILE or set LAPSED_CONFIG (`lapsed demo` writes a file to start from)");
}

#[test]
fn problems_with_variables_name_the_variable() {
    let errors = [
        errors_with("", &[("LAPSED__SMPT__URL", "smtp://h")]),
        errors_with(
            "smtp.url = 'smtp://h'",
            &[("LAPSED__SMTP__CONECTIONS", "4")],
        ),
        errors_with(
            "smtp.url = 'smtp://h'",
            &[("LAPSED__SMTP__CONNECTIONS", "four")],
        ),
        errors_with("", &[("LAPSED__STORE__CREATE", "yes")]),
        errors_with("", &[("LAPSED__MAIL__TRANSPORT", "flie")]),
        errors_with("", &[("LAPSED__NOTIFY__ADMINS", "ada@example.org,bob")]),
        errors_with("", &[("LAPSED__NOTIFY__REPLY_TO", "")]),
        errors_with("", &[("LAPSED__SOURCE__NAME", "x")]),
        errors_with("", &[("LAPSED__SMTP", "x")]),
        errors_with("", &[("LAPSED__SMTP__", "x")]),
        errors_with(
            "",
            &[
                ("LAPSED__LOG__LEVEL", "info"),
                ("LAPSED__log__LEVEL", "warn"),
            ],
        ),
        errors_with(
            "smtp.url = 'smtps://u@h'",
            &[
                ("LAPSED__SMTP__PASSWORD", "hidden"),
                ("LAPSED__SMTP__PASSWORD__FILE", "x"),
            ],
        ),
        errors_with(
            "smtp.url = 'smtps://u@h'",
            &[("LAPSED__SMTP__PASSWORD__FILE", "/gone")],
        ),
    ];
    assert_snapshot!(errors.join("\n"), @r#"
    LAPSED__SMPT__URL: unknown section `smpt` in the configuration; did you mean `smtp`? (allowed: mail, smtp, schedule, notify, store, account, delivery, policy, retention, http, log, issuers, source, directory, service, web)
    LAPSED__SMTP__CONECTIONS: unknown key `conections` in [smtp]; did you mean `connections`? (allowed: url, password, ca_file, envelope_from, pipelining, timeout, final_timeout, hello_name, connections, messages_per_connection, mails_per_second)
    LAPSED__SMTP__CONNECTIONS: smtp.connections: must be a whole number from 1 to 256
    LAPSED__STORE__CREATE: store.create: must be true or false, not a text
    the configuration has 2 problems:
      lapsed.toml: there is no [smtp] section: set [smtp] url (write smtps://user@host:465 or smtp://user@host:587), or write mails to a folder with [mail] transport = "file"
      LAPSED__MAIL__TRANSPORT: mail.transport: unknown value `flie`; did you mean `file`? (allowed: smtp, file)
    LAPSED__NOTIFY__ADMINS: notify.admins[1]: "bob" is not a mail address; write it as name@example.org
    LAPSED__NOTIFY__REPLY_TO: notify.reply_to: is empty; give it a value or leave the key out
    LAPSED__SOURCE__NAME: [[source]] can only be written in the file
    LAPSED__SMTP: does not name a key; write LAPSED__SECTION__KEY, such as LAPSED__SMTP__URL
    LAPSED__SMTP__: does not name a key; write LAPSED__SECTION__KEY, such as LAPSED__SMTP__URL
    LAPSED__log__LEVEL: differs from LAPSED__LOG__LEVEL only in case; set only one of them
    the configuration has 2 problems:
      LAPSED__SMTP__PASSWORD: conflicts with LAPSED__SMTP__PASSWORD__FILE; set only one of them
      LAPSED__SMTP__PASSWORD__FILE: smtp.password: cannot read the secret from /etc/x: there is no such file
    LAPSED__SMTP__PASSWORD__FILE: smtp.password: cannot read the secret from /gone: there is no such file
    "#);
}

#[test]
fn all_problems_are_reported_at_once_in_order_of_place() {
    assert_snapshot!(errors_with(
        "[store]
url = 'mysql://h'
creat = true

[notify]
steps = ['7d', 'x', 'y']

[[source]]
name = 'A'
kind = 'file'",
        &[("LAPSED__LOG__LEVEL", "loud")],
    ), @r#"
    the configuration has 7 problems:
      lapsed.toml:2:7: store.url: lapsed keeps its data in SQLite or PostgreSQL, not mysql://; write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database
      lapsed.toml:3:1: unknown key `creat` in [store]; did you mean `create`? (allowed: url, create)
      lapsed.toml:6:16: notify.steps[1]: "x" is not a time before expiry; write it as 7d, 36h or 90m, at most 3650d
      lapsed.toml:6:21: notify.steps[2]: "y" is not a time before expiry; write it as 7d, 36h or 90m, at most 3650d
      lapsed.toml:8:1: source[0].path is missing; write for example path = "tokens.csv" in [[source]]
      lapsed.toml:9:8: source[0].name: may contain only a-z, 0-9, _ and -, must begin with a letter or digit, and has at most 60 characters
      LAPSED__LOG__LEVEL: log.level: unknown level `loud`; allowed: off, error, warn, info, debug, trace; a module can have its own level: "info,lapsed::engine=debug"
    "#);
}

#[test]
fn broken_toml_shows_the_line_and_a_caret_and_no_secret() {
    let errors = [
        errors_of("[store]\nurl = \"sqlite:x\ncreate = true"),
        errors_of("[notify\nsteps = []"),
        errors_of("[smtp]\npassword = 'hidden\n"),
        errors_of("[smtp]\nurl = smtps://u:hidden@h\n"),
        errors_of("[smtp]\nurl = 'smtp://h'\nurl = 'smtp://i'"),
        errors_of("[log]\n[store]\n[log]"),
        errors_of("x = 99999999999999999999"),
        errors_of("\u{1b}[31m = 1"),
        Config::parse(
            Some((Path::new("lapsed.toml"), b"[log]\nlevel = 'caf\xe9'")),
            &env(&[]),
            Secrets::Read,
            &Credentials::default(),
        )
        .unwrap_err()
        .to_string(),
    ]
    .join("\n");
    assert!(!errors.contains("hidden"));
    assert_snapshot!(errors, @r#"
    lapsed.toml:2:16: not valid TOML: invalid basic string, expected `"`
      |
    2 | url = "sqlite:x
      |                ^
    lapsed.toml:1:8: not valid TOML: unclosed table, expected `]`
      |
    1 | [notify
      |        ^
    lapsed.toml:2:19: not valid TOML: invalid literal string, expected `'`
      |
    2 | password = '******
      |                   ^
    lapsed.toml:2:7: not valid TOML: string values must be quoted, expected literal string
      |
    2 | url = smtps://**********
      |       ^
    lapsed.toml:3:1: not valid TOML: duplicate key
      |
    3 | url = 'smtp://*'
      | ^
    lapsed.toml:3:2: not valid TOML: duplicate key
      |
    3 | [log]
      |  ^
    lapsed.toml:1:5: not valid TOML: integer number overflowed
      |
    1 | x = 99999999999999999999
      |     ^
    lapsed.toml:1:2: not valid TOML: key with no value, expected `=`
      |
    1 |  [31m = 1
      |  ^
    lapsed.toml:2:13: is not UTF-8 text; save the file as UTF-8
    "#);
}

#[test]
fn the_keys_of_a_rancher_are_checked() {
    let rancher = "[[source]]\nname = 'a'\nkind = 'rancher'\n";
    let whole = "url = 'https://r.example.org'\ntoken = 'token-a:hidden'\n";
    let texts = [
        String::new(),
        "url = 'r.example.org'\ntoken = 'hidden'".to_owned(),
        "url = 'https://ada@r.example.org'\ntoken = 'a:hidden:hidden'".to_owned(),
        format!("{whole}kinds = ['api_kye', 'session']\nusers = {{ u-1 = 'ada' }}"),
        format!("{whole}users = 'ada@example.org'\nkinds = []\nkind_of = 1"),
    ];
    let texts = texts.map(|text| format!("{rancher}{text}"));
    let errors = all_errors_of(&texts.each_ref().map(String::as_str));
    assert!(!errors.contains("hidden"), "{errors}");
    assert_snapshot!(errors, @r#"
    the configuration has 2 problems:
      lapsed.toml:1:1: source[0].token is missing; write for example token = { file = "rancher-token" } in [[source]]
      lapsed.toml:1:1: source[0].url is missing; write for example url = "https://rancher.example.org" in [[source]]
    the configuration has 2 problems:
      lapsed.toml:4:7: source[0].url: is not a URL (relative URL without a base); write for example https://rancher.example.org
      lapsed.toml:5:9: source[0].token: must be the bearer token that Rancher shows once: access key, colon, secret key
    the configuration has 2 problems:
      lapsed.toml:4:7: source[0].url: must not contain a user, `?` or `#`; write for example https://rancher.example.org
      lapsed.toml:5:9: source[0].token: must be the bearer token that Rancher shows once: access key, colon, secret key
    the configuration has 2 problems:
      lapsed.toml:6:10: source[0].kinds[0]: "api_kye" is not one of api_key, kubeconfig, session, agent, shell, compose, helm, pipeline, telemetry, drain, system
      lapsed.toml:7:17: source[0].users.u-1: "ada" is not a mail address; write it as name@example.org
    the configuration has 3 problems:
      lapsed.toml:6:9: source[0].users: must be a table such as { name = "…" }
      lapsed.toml:7:9: source[0].kinds: is empty, so nothing would be watched; leave it out to watch all kinds except sessions
      lapsed.toml:8:1: unknown key `kind_of` in [[source]]; did you mean `kind`? (allowed: name, schedule, timeout, title, help_url, allow_revoke, policy_ttl, owners, steps, timezone, kind, url, allow_plaintext, proxy, token, ca_file, kinds, users)
    "#);
}

#[test]
fn the_keys_of_devtron_and_gcore_are_checked() {
    for (text, expected) in [
        (
            "kind = 'gcore'",
            "token is missing; write for example token = { file = \"gcore-token\" }",
        ),
        (
            "kind = 'gcore'\ntoken = '7_x'\nclient_id = 'acme'",
            "client_id: must be a whole number",
        ),
        (
            "kind = 'gcore'\ntoken = 'hidden'",
            "token: must be the whole API token that Gcore shows once: number, `_`",
        ),
        (
            "kind = 'gcore'\ntoken = 'x_hidden'",
            "token: must be the whole API token that Gcore shows once: number, `_`",
        ),
        (
            "kind = 'gcore'\ntoken = '7_'",
            "token: must be the whole API token that Gcore shows once: number, `_`",
        ),
        (
            "kind = 'devtron'\nurl = 'https://devtron.example.org'\ntoken = 'hidden'",
            "token: must be the whole API token that Devtron shows once: three parts",
        ),
        (
            "kind = 'devtron'\nurl = 'https://devtron.example.org'\ntoken = 'a..hidden'",
            "token: must be the whole API token that Devtron shows once: three parts",
        ),
        (
            "kind = 'devtron'\ntoken = 'a.b.c'",
            "url is missing; write for example url = \"https://devtron.example.org\"",
        ),
        (
            "kind = 'devtron'\nurl = 'https://devtron.example.org'\ntoken = 'a.b.c'\ndatabase = 'sqlite:a.db'",
            "database: is a SQLite URL, but Devtron keeps its data in PostgreSQL",
        ),
    ] {
        let errors = errors_of(&format!("[[source]]\nname = 'a'\n{text}"));
        assert!(errors.contains(expected), "{errors}");
        assert!(!errors.contains("hidden"), "{errors}");
    }
    for id in ["456", "'456'"] {
        let text =
            format!("[[source]]\nname = 'a'\nkind = 'gcore'\ntoken = '7$x'\nclient_id = {id}");
        let whole = format!("[notify]\nfrom = 'a@example.org'\n[mail]\ntransport = 'file'\n{text}");
        let config = parse(&whole, &[]).unwrap();
        let crate::sources::Kind::Gcore(gcore) = &config.sources[0].kind else {
            panic!("another kind");
        };
        assert_eq!(
            (gcore.client_id, gcore.url.as_str()),
            (Some(456), "https://api.gcore.com/")
        );
    }
}

#[test]
fn the_keys_of_okta_are_checked() {
    let okta = "[[directory]]\nname = 'a'\nkind = 'okta'\n";
    let whole = "client_id = '0oa1'\nprivate_key = 'hidden'\n";
    let texts = [
        String::new(),
        format!("{whole}url = 'https://acme-admin.okta.com'"),
        format!("{whole}url = 'acme.okta.com'\nkey_id = 7"),
        format!("{whole}url = 'https://acme.okta.com'\ntoken = 'hidden'"),
    ];
    let texts = texts.map(|text| format!("{okta}{text}"));
    let errors = all_errors_of(&texts.each_ref().map(String::as_str));
    assert!(!errors.contains("hidden"), "{errors}");
    assert_snapshot!(errors, @r#"
    the configuration has 3 problems:
      lapsed.toml:1:1: directory[0].client_id is missing; write for example client_id = "0oa1a2b3c4D5e6F7g8h9" in [[directory]]
      lapsed.toml:1:1: directory[0].private_key is missing; write for example private_key = { file = "okta-key.pem" } in [[directory]]
      lapsed.toml:1:1: directory[0].url is missing; write for example url = "https://acme.okta.com" in [[directory]]
    lapsed.toml:6:7: directory[0].url: is the admin console, which has no API; remove -admin
    the configuration has 2 problems:
      lapsed.toml:6:7: directory[0].url: is not a URL (relative URL without a base); write for example https://acme.okta.com
      lapsed.toml:7:10: directory[0].key_id: must be a text in quotes, not a number
    lapsed.toml:7:1: unknown key `token` in [[directory]]; allowed: name, schedule, timeout, allowed_groups, canaries, absence_grace, fresh_for, breaker_share, breaker_min, kind, url, allow_plaintext, proxy, client_id, private_key, key_id
    "#);
}
