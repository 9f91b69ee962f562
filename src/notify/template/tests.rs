mod languages;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::notify::letter::Entry;

fn sample_named(name: &str) -> Letter {
    let found = sample::all(sample::now())
        .into_iter()
        .find(|sample| sample.name == name);
    found.unwrap().letter
}

fn rendered(letter: &Letter) -> Rendering {
    BASE.render(letter, &Installation::default()).unwrap()
}

fn folder_with(name: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    folder
}

fn load_error(name: &str, text: &str) -> String {
    let folder = folder_with(name, text);
    let error = Templates::load(Some(folder.path())).unwrap_err();
    error
        .to_string()
        .replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn a_mail_about_one_token_is_complete() {
    insta::assert_snapshot!(rendered(&sample_named("expiring")).text.replace("-- \n", "--\n"), @r"
    Token ci-deploy stops working in 7 days, on Sat 28 Nov 2026 at 10:00 CET
    (09:00 UTC). It was used 4 minutes ago: replace it now.

    The issuer does not get this mail: mail to ada@example.org is refused (550
    5.1.1 no such user). Please take care of the token.

        Source    exports
        Account   acme
        Role      admin
        Scope     repo:read, packages:write
        About     Deploys the shop from its pipeline
        Issuer    Ada Lovelace <ada@example.org>
        Expires   Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)
        Last use  4 minutes ago
        Id        key-9

    What to do

     1. Make a new token where this one was made (exports):
        https://exports.example.org/tokens/key-9
     2. Replace the old one wherever it is used.
     3. Delete the old one at its source.

    If it is no longer needed, delete it or let it expire.

    Addresses that cannot be reached

    - ada@example.org: 550 5.1.1 no such user

    Please correct these addresses at the source of their tokens. If one works
    again:

        lapsed address clear ADDRESS

    --
    You get this because you are an admin of account acme.

    To check that this mail is genuine, compare it with exports, or run this
    command where lapsed runs:

        lapsed token show df34a016-0a0f-5920-887d-d7736f35182a

    We never ask for tokens or passwords. Never send them by mail.
    ");
}

#[test]
fn a_late_warning_explains_the_delay() {
    let mail = rendered(&sample_named("expired-late"));
    assert_eq!(mail.subject, "Token ci-deploy expired on Thu 19 Nov 2026");
    for part in [mail.text.replace('\n', " "), mail.html] {
        assert!(
            part.contains("a warning was due on Wed 18 Nov 2026 at 09:00 UTC"),
            "{part}"
        );
        assert!(
            part.contains("could not be delivered before the token expired"),
            "{part}"
        );
    }
}

#[rstest]
#[case("expiring", "Token ci-deploy expires in 7 days (Sat 28 Nov 2026)")]
#[case("expiring-bare", "Token key-0 expires in 24 hours (Sun 22 Nov 2026)")]
#[case("expired", "Token ci-deploy expired on Sat 21 Nov 2026")]
#[case(
    "digest-long",
    "250 tokens expire within 7 days, first batch-0000 on Sat 21 Nov 2026"
)]
#[case(
    "digest-mixed",
    "2 tokens of people without access, 2 expired, 1 expires within 7 days, 1 alert"
)]
#[case(
    "revoked_access",
    "Token batch-0000 still works, but its issuer lost access"
)]
#[case(
    "revoked_access-many",
    "9 tokens still work, but their 4 issuers lost access"
)]
#[case("alert", "1,204 mails are held")]
fn the_subject_says_what_happened(#[case] name: &str, #[case] subject: &str) {
    assert_eq!(rendered(&sample_named(name)).subject, subject);
}

#[test]
fn a_long_list_shows_the_most_urgent_and_counts_the_rest() {
    let mail = rendered(&sample_named("digest-long"));
    let listed = mail.text.matches("batch-").count();
    assert!((90..=100).contains(&listed), "{listed}");
    let rest = format!("{} more tokens, not listed here", 250 - listed);
    let command = "lapsed token list --source exports --expires-within 7d";
    for part in [&mail.text, &mail.html] {
        assert!(part.contains(&rest) && part.contains(command));
        assert!(part.contains("batch-0000") && !part.contains("batch-0150"));
    }
    assert!(mail.text.chars().count() <= MAX_TEXT_CHARS);
}

#[test]
fn at_most_a_hundred_tokens_are_listed_and_fewer_if_they_are_long() {
    let mut letter = sample_named("digest-long");
    for (n, entry) in letter.entries.iter_mut().enumerate() {
        if let Entry::Expiry(entry) = entry {
            entry.token.name = format!("t{n}");
            entry.token.last_used_at = None;
            entry.token.reports_use = false;
            entry.instead_of_issuer = Vec::new();
        }
    }
    // A row begins with a time.
    let is_row = |line: &&str| line.as_bytes().get(6) == Some(&b':');
    let count = |mail: &Rendering| mail.text.lines().filter(is_row).count();
    assert_eq!(count(&rendered(&letter)), 100);
    for entry in &mut letter.entries {
        if let Entry::Expiry(entry) = entry {
            entry.token.name = "🚀".repeat(10_000);
        }
    }
    let mail = rendered(&letter);
    assert!(mail.text.chars().count() <= MAX_TEXT_CHARS);
    assert!(encoded_len(&mail.html) <= MAX_HTML_OCTETS);
    assert!(mail.text.contains("more tokens, not listed here"));
}

#[test]
fn every_mail_lists_unreachable_addresses() {
    for mut sample in sample::all(sample::now()) {
        sample.letter.unreachable = sample_named("expiring").unreachable;
        let mail = rendered(&sample.letter);
        assert!(
            mail.text
                .contains("- ada@example.org: 550 5.1.1 no such user"),
            "{}",
            sample.name
        );
        assert!(
            mail.html
                .contains("<li>ada@example.org: 550 5.1.1 no such user</li>")
        );
    }
}

#[test]
fn a_policy_date_is_named_as_one_and_not_called_an_expiry() {
    let coming = rendered(&sample_named("expiring-policy"));
    assert_eq!(
        coming.subject,
        "Token ci-deploy must be replaced within 7 days (Sat 28 Nov 2026)"
    );
    let past = rendered(&sample_named("expired-policy"));
    assert_eq!(
        past.subject,
        "Token ci-deploy had to be replaced by Thu 19 Nov 2026"
    );
    for mail in [&coming, &past] {
        let text = mail.text.replace('\n', " ");
        for words in ["stops working", "no longer works", "let it expire"] {
            assert!(!text.contains(words), "{words}: {text}");
        }
        for words in [
            "comes from our policy: at exports the token has no expiry",
            "does not expire by itself",
        ] {
            assert!(text.contains(words), "{words}: {text}");
            assert!(mail.html.contains(words), "{words}: {}", mail.html);
        }
    }
    let mut two = sample_named("expiring-policy");
    two.entries.extend(sample_named("expiring").entries);
    let text = rendered(&two).text.replace('\n', " ");
    assert!(
        text.contains("One of these dates is set by our policy"),
        "{text}"
    );
}

#[test]
fn a_plain_date_is_the_day_of_its_source_without_a_clock() {
    let one = rendered(&sample_named("expiring-day"));
    let subject = "Token ci-deploy expires in 14 days (Sat 5 Dec 2026)";
    assert_eq!(one.subject, subject);
    for part in [&one.text, &one.html] {
        assert!(part.contains("in 14 days, on Sat 5 Dec 2026."), "{part}");
        for other in ["4 Dec", "UTC", "PST", "16:00"] {
            assert!(!part.contains(other), "{other}: {part}");
        }
    }
    let list = rendered(&sample_named("digest-days"));
    let subject = "9 tokens expire within 4 days, first ci-deploy on Sun 22 Nov 2026";
    assert_eq!(list.subject, subject);
    let long = rendered(&sample_named("digest-days-long"));
    for part in [&list.text, &list.html, &long.text, &long.html] {
        for day in [
            "Sun 22 Nov 2026",
            "Mon 23 Nov 2026",
            "Tue 24 Nov 2026",
            "Wed 25 Nov 2026",
        ] {
            assert!(part.contains(day), "{day}: {part}");
        }
        for other in ["21 Nov", "UTC", "16:00", "hours"] {
            assert!(!part.contains(other), "{other}: {part}");
        }
    }
    assert!(list.text.contains("ci-deploy in 1 day\n"), "{}", list.text);
}

#[test]
fn a_date_that_is_not_the_present_one_of_its_source_is_named_as_such() {
    let plain = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let clause = "this date is the last one that lapsed could read";
    let coming = rendered(&sample_named("expiring-outdated"));
    let past = rendered(&sample_named("expired-outdated"));
    for part in [&coming.text, &coming.html, &past.text, &past.html].map(|part| plain(part)) {
        let sentence = format!("exports says an expiry that could not be read; {clause}.");
        assert!(part.contains(&sentence), "{part}");
        let issuer = "its source names an issuer that could not be read";
        assert!(part.contains(issuer), "{part}");
        assert!(!part.contains("now rejected"), "{part}");
    }
    let list = rendered(&sample_named("digest-days"));
    for part in [&list.text, &list.html].map(|part| plain(part)) {
        assert_eq!(part.matches(clause).count(), 3, "{part}");
    }
    let long = rendered(&sample_named("digest-days-long"));
    for part in [&long.text, &long.html].map(|part| plain(part)) {
        assert!(
            part.contains("30 of these dates are the last ones"),
            "{part}"
        );
    }
}

#[test]
fn a_revoked_token_is_listed_with_who_when_and_why() {
    let mail = rendered(&sample_named("revoked"));
    assert_eq!(
        mail.subject,
        "Token ci-deploy was revoked on Sat 21 Nov 2026"
    );
    for words in [
        "revoked at exports by grace",
        "it was found in a public repository",
    ] {
        assert!(mail.text.contains(words), "{words}: {}", mail.text);
        assert!(mail.html.contains(words), "{words}: {}", mail.html);
    }
    let several = rendered(&sample_named("digest-revoked"));
    assert!(
        several.text.contains("Revoked: 3 tokens"),
        "{}",
        several.text
    );
    assert!(
        several.text.contains("revoked by grace: it was found"),
        "{}",
        several.text
    );
    let mut letter = sample_named("digest-revoked");
    letter
        .entries
        .retain(|entry| matches!(entry, Entry::Ended(_)));
    let all = rendered(&letter);
    for text in [&all.text, &all.html] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("They cannot be restored"), "{text}");
        assert!(!text.contains("delete the old one"), "{text}");
    }
}

#[test]
fn the_page_of_a_token_is_a_link_only_if_it_is_a_web_address() {
    let with_page = |page: &str| {
        let mut letter = sample_named("expiring");
        if let Entry::Expiry(entry) = &mut letter.entries[0] {
            entry.page = Some(page.to_owned());
        }
        rendered(&letter)
    };
    let mail = with_page("https://x.example.org/a?b=\"><script>&c=ü");
    let (text, html) = (&mail.text, &mail.html);
    assert!(
        text.contains("https://x.example.org/a?b=%22%3E%3Cscript%3E&c=%C3%BC"),
        "{text}"
    );
    assert!(!html.contains("<script>"), "{html}");
    assert!(
        html.contains("href=\"https://x.example.org/a?b&#x3D;%22")
            || html.contains("href=\"https://x.example.org/a?b=%22"),
        "{html}"
    );
    let mail = with_page("http://x.example.org/a");
    assert!(mail.text.contains("http://x.example.org/a"));
    assert!(!mail.html.contains("href=\"http:"), "{}", mail.html);
    let long = format!("https://x.example.org/{}", "a".repeat(2_000));
    for page in [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://me:pw@x.example.org/",
        "x",
        &long,
    ] {
        let mail = with_page(page);
        assert!(mail.text.contains("where this one was made (exports).\n"));
    }
}

fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

fn render_with(name: &str, installation: &Installation) -> Rendering {
    BASE.render(&sample_named(name), installation).unwrap()
}

#[test]
fn a_link_leads_to_a_page_of_the_operator() {
    let render = |name: &str, base: &str| {
        render_with(
            name,
            &Installation {
                base_url: Some(base.to_owned()),
                ..Installation::default()
            },
        )
    };
    let general = "https://wiki.example.org/tokens";
    for sample in ["expired", "digest", "alert"] {
        assert_has(
            &render(sample, general).text,
            "More: https://wiki.example.org/tokens\n",
        );
    }
    let of_token = "https://wiki.example.org/{source}/{id}";
    let html = render("expired", of_token).html;
    assert_has(&html, "href=\"https://wiki.example.org/exports/df34");
    assert!(!render("digest", of_token).text.contains("More:"));
    let plain = render("expired", "http://10.0.0.1:8484").html;
    assert_has(&plain, "More: http://10.0.0.1:8484");
    assert!(!plain.contains("href"));
    assert!(
        !render("expired", "javascript:alert(1)")
            .html
            .contains("href")
    );
}

#[test]
fn a_source_has_a_title_and_a_help_page() {
    let info = SourceInfo {
        title: Some("GitLab (git.example.org)".to_owned()),
        help_url: Some("https://wiki.example.org/gitlab".to_owned()),
    };
    let installation = Installation {
        contact: Some("platform@example.org".to_owned()),
        sources: [("exports".to_owned(), info)].into(),
        ..Installation::default()
    };
    for sample in ["expiring", "expired", "revoked"] {
        let mail = render_with(sample, &installation);
        for part in [&mail.text, &mail.html] {
            assert_has(part, "GitLab (git.example.org)");
            assert_has(part, "https://wiki.example.org/gitlab");
            assert_has(part, "Questions: platform@example.org");
            assert_has(part, "key-9");
        }
    }
    assert_has(
        &render_with("digest", &installation).text,
        "GitLab (git.example.org), account",
    );
}

#[test]
fn a_command_stays_on_one_line() {
    let mail = render_with("summary", &Installation::default());
    let until = "--until 2027-02-19 --reason WHY";
    assert_has(
        &mail.text,
        &format!("    lapsed finding acknowledge ID {until}\n"),
    );
    let long = "x".repeat(90);
    let command = format!("    lapsed notice list --recipient {long} --state planned");
    assert_eq!(wording::wrap(&command), format!("{command}\n"));
}

#[test]
fn a_summary_names_issuer_account_and_last_use() {
    let mail = render_with("summary", &Installation::default());
    assert_has(
        &mail.text,
        "issued by ada@example.org, account acme, last used 5 days ago",
    );
}

#[test]
fn a_file_in_the_folder_overrides_only_its_template() {
    let folder = folder_with("expiring/subject.txt.hbs", "{{token.name}}: {{left}}\n");
    fs::write(folder.path().join(".gitignore"), "").unwrap();
    let templates = Templates::load(Some(folder.path())).unwrap();
    let subject = |name| {
        templates
            .render(&sample_named(name), &Installation::default())
            .unwrap()
            .subject
    };
    assert_eq!(subject("expiring"), "ci-deploy: 7 days");
    assert_eq!(
        subject("expired"),
        "Token ci-deploy expired on Sat 21 Nov 2026"
    );
}

#[rstest]
#[case(
    "expiring/body.txt.hbs",
    "a\n{{token.nmae}}",
    "DIR/expiring/body.txt.hbs:2: cannot render the template for the sample expiring: there is no variable \"token.nmae\""
)]
#[case(
    "alert/body.html.hbs",
    "{{#each blocks}}\n\n{{nope}}{{/each}}",
    "DIR/alert/body.html.hbs:3: cannot render the template for the sample alert: there is no variable \"nope\""
)]
#[case(
    "layout.txt.hbs",
    "{{shout body}}",
    "DIR/layout.txt.hbs:1: cannot render the template for the sample expiring: there is no helper \"shout\""
)]
#[case(
    "digest/subject.txt.hbs",
    " \n",
    "DIR/digest/subject.txt.hbs:1: cannot render the template for the sample digest: the subject is empty"
)]
fn a_render_error_names_the_file_line_and_variable(
    #[case] name: &str,
    #[case] text: &str,
    #[case] error: &str,
) {
    assert_eq!(load_error(name, text), error);
}

#[rstest]
#[case("{{#if x}}\n", ":2: cannot parse")]
#[case("a\nb {{", ":2: cannot parse")]
#[case("a\n\n{{> layout}}", ":3: cannot parse the template: partials")]
#[case(
    "{{#if x}}\n{{#*inline \"a\"}}{{> a}}{{/inline}}{{/if}}",
    ":2: cannot parse the template: partials"
)]
fn a_syntax_error_names_the_file_and_line(#[case] text: &str, #[case] expected: &str) {
    let error = load_error("expired/body.txt.hbs", text);
    assert!(
        error.starts_with(&format!("DIR/expired/body.txt.hbs{expected}")),
        "{error}"
    );
}

#[test]
fn deep_nesting_is_rejected() {
    for text in [
        "{{#if x}}".repeat(5_000),
        format!("{{{{x {}", "(a ".repeat(5_000)),
        "[".repeat(5_000),
    ] {
        let error = load_error("alert/body.txt.hbs", &text);
        assert!(error.contains("deep"), "{error}");
    }
}

#[test]
fn an_unknown_file_is_an_error_with_the_nearest_name() {
    for (name, nearest) in [
        ("expiring/subjet.txt.hbs", "expiring/subject.txt.hbs"),
        ("layout.html", "layout.html.hbs"),
        ("revoked-access/body.txt.hbs", "revoked_access/body.txt.hbs"),
    ] {
        assert_eq!(
            load_error(name, "x"),
            format!("DIR/{name} overrides no template; did you mean {nearest}?")
        );
    }
}

#[test]
fn a_missing_folder_and_a_binary_file_are_errors() {
    let error = Templates::load(Some(Path::new("/no/such/folder"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the template folder /no/such/folder"
    );
    let folder = folder_with("alert/subject.txt.hbs", "");
    fs::write(folder.path().join("alert/subject.txt.hbs"), [0xff, 0xfe]).unwrap();
    let error = Templates::load(Some(folder.path()))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot read the template /"), "{error}");
}

/// A built-in template with random edits.
fn mutated() -> impl Strategy<Value = (&'static str, String)> {
    let piece = prop_oneof![
        "[{}#/^~!>*&()\"'|@=. a-z\\[\\]\n]{1,12}",
        Just("{{#if token}}".to_owned()),
        Just("{{/if}}".to_owned()),
        Just("{{else}}".to_owned()),
        Just("{{#each rows}}".to_owned()),
        Just("{{{body}}}".to_owned()),
        Just("{{> layout}}".to_owned()),
        Just("{{#with (lookup this \"a\")}}".to_owned()),
        any::<String>(),
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..30, piece);
    let edits = prop::collection::vec(edit, 1..4);
    (any::<prop::sample::Index>(), edits).prop_map(|(which, edits)| {
        let (name, text) = *which.get(BUILT_IN);
        let mut text: Vec<char> = text.chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        (name, text.into_iter().collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_broken_override_is_rejected_by_name_and_never_panics((name, text) in mutated()) {
        let source = Source { name, text, path: Some(Path::new("/etc/lapsed").join(name)) };
        let mut templates = BASE.clone();
        if let Err(error) = templates.add(source).and_then(|()| templates.check()) {
            let message = error.to_string();
            let file = message.split(':').next().unwrap_or_default();
            prop_assert!(file.starts_with("/etc/lapsed/") || file.starts_with("templates/"), "{}", message);
            prop_assert!(file.ends_with(name), "{} is not {}", message, name);
        }
    }
}

static BASE: std::sync::LazyLock<Templates> =
    std::sync::LazyLock::new(|| Templates::load(None).unwrap());
