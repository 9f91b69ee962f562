//! Hostile token names are shown correctly and do no harm.

use rstest::rstest;

use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

/// Token names from careless people and attackers.
fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "🚀 деплой 部署",
        "\u{202e}gnp.exe\u{202c} مفتاح",
        "two\r\nBcc: eve@example.org\r\n\r\nlines",
        "{{#each secrets}}{{this}}{{/each}}",
        "{{{name}}} {{> layout}}",
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "Subject: you have won",
        "=cmd|' /C calc'!A0",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "tab\tand \u{0} and \u{feff}",
        "https://evil.example.org/reset?now",
        ".\r\n.",
        "--\r\n.\r\nQUIT",
        "%s%n ${HOME} $(reboot) `id`",
        "",
    ]
    .map(str::to_owned)
    .into();
    names.push("10 kB ".repeat(1700));
    names
}

fn world_with_hostile_names(db: Db) -> World {
    let mut world = World::new(db);
    let tokens: Vec<_> = hostile_names()
        .into_iter()
        .enumerate()
        .map(|(n, name)| {
            serde_json::json!({
                "external_id": format!("id-{n:02}"), "name": name,
                "issuer_email": format!("user{n:02}@example.org"), "expires_at": "2026-12-01T00:00:00Z",
                "description": name, "scope": name, "role": name, "issuer_name": name,
            })
        })
        .collect();
    world.write("tokens.json", serde_json::to_vec(&tokens).unwrap());
    world.at("2026-11-24 00:00:00");
    world
}

#[rstest]
fn hostile_names_are_shown_correctly_and_do_no_harm(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_with_hostile_names(db);
    let imported = world.run(&["import", "tokens.json"]);
    world.env("RUST_LOG", "trace");
    let swept = world.run(&["sweep"]);
    swept.exits(0);
    world.env("RUST_LOG", "warn");
    let known = world.list(&["token", "list"]);
    assert_eq!(
        known.len() + imported.stderr.matches("refused:").count(),
        hostile_names().len(),
        "{}",
        imported.stderr
    );
    for token in &known {
        let n: usize = token["external_id"].as_str().unwrap()[3..].parse().unwrap();
        let (shown, given) = (token["name"].as_str().unwrap(), &hostile_names()[n]);
        let letters = |text: &str| {
            text.chars()
                .filter(|c| c.is_alphanumeric())
                .collect::<String>()
        };
        assert!(
            letters(given).starts_with(&letters(shown.trim_end_matches('…'))),
            "{shown:?} for {given:?}"
        );
    }

    let mails = world.take_mails();
    assert_eq!(
        mails.len(),
        known.len() + 1,
        "one to each issuer, and a digest"
    );
    for mail in &mails {
        let headers = mail.raw.split("\r\n\r\n").next().unwrap();
        for name in ["subject:", "to:", "from:", "bcc:", "message-id:"] {
            let lines = headers
                .lines()
                .filter(|line| line.to_lowercase().starts_with(name))
                .count();
            assert_eq!(lines, usize::from(name != "bcc:"), "{headers}");
        }
        assert!(mail.raw.lines().all(|line| line.len() <= 998));
        assert!(
            !mail
                .raw
                .replace("\r\n", "")
                .contains(['\r', '\n', '\0', '\u{1b}'])
        );
        let html = mail.html.to_lowercase();
        assert_lacks!(html, "<script", "<img", "href=\"https://evil");
        for text in [&mail.subject, &mail.text, &mail.html] {
            assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{7}']), "{text:?}");
        }
        assert!(mail.subject.chars().count() <= 120, "{}", mail.subject);
    }
    let subject_of = |n: usize| {
        let to = format!("user{n:02}@example.org");
        mails
            .iter()
            .find(|mail| mail.to == to)
            .unwrap_or_else(|| panic!("{to}"))
            .subject
            .clone()
    };
    let expected = "Token 🚀 деплой 部署 expires in 7 days (Tue 1 Dec 2026)";
    assert_eq!(subject_of(0), expected);
    assert_contains!(subject_of(3), "{{#each secrets}}");
    assert_contains!(subject_of(5), "<script>alert(1)</script>");

    for form in ["table", "csv", "jsonl"] {
        let shown = world.run(&["token", "list", "--format", form]);
        let shown = &shown.exits(0).stdout;
        assert!(
            !shown.contains(['\u{1b}', '\u{7}', '\0', '\r']),
            "{form}: {shown:?}"
        );
        match form {
            "table" => {
                assert_eq!(shown.lines().count(), known.len() + 1, "one line for each");
                assert!(!shown.contains('\u{202e}'));
            }
            "jsonl" => assert_eq!(shown.lines().count(), known.len()),
            _ => {
                let rows = csv::Reader::from_reader(shown.as_bytes())
                    .into_records()
                    .count();
                assert_eq!(rows, known.len());
            }
        }
    }
    for output in [
        &imported.stderr,
        &imported.stdout,
        &swept.stderr,
        &swept.stdout,
    ] {
        assert!(
            !output.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']),
            "{output:?}"
        );
    }
    for n in ["id-02", "id-05", "id-09", "id-16"] {
        for command in [["token", "show"].as_slice(), &["explain"]] {
            let id = format!("local/{n}");
            let ran = world.run(&[command, &[id.as_str()]].concat());
            if ran.code == Some(0) {
                assert!(
                    !ran.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']),
                    "{:?}",
                    ran.stdout
                );
            }
        }
    }
}
