//! The mails in other languages than English.

use super::*;
use crate::language::pseudo;

fn rendered_in(language: &str, name: &str) -> Rendering {
    let mut letter = sample_named(name);
    letter.language = Some(language.to_owned());
    rendered(&letter)
}

#[test]
fn a_german_mail_is_complete() {
    let mail = rendered_in("de", "expiring");
    insta::assert_snapshot!(format!("{}\n\n{}", mail.subject, mail.text), @r"
    Token ci-deploy läuft in 7 Tagen ab (Sa., 28. Nov. 2026)

    Das Token ci-deploy läuft in 7 Tagen ab, am Sa., 28. Nov. 2026 um 10:00 Uhr
    CET (09:00 UTC). Es wurde vor 4 Minuten genutzt: bitte jetzt ersetzen.

    Der Aussteller erhält diese Mail nicht: Mail an ada@example.org wird abgelehnt
    (550 5.1.1 no such user). Bitte kümmern Sie sich um das Token.

        Quelle     exports
        Konto      acme
        Rolle      admin
        Umfang     repo:read, packages:write
        Zweck      Deploys the shop from its pipeline
        Aussteller Ada Lovelace <ada@example.org>
        Läuft ab   Sa., 28. Nov. 2026 um 10:00 Uhr CET (09:00 UTC)
        Genutzt    vor 4 Minuten
        Kennung    key-9

    Was zu tun ist

     1. Erstellen Sie ein neues Token dort, wo dieses erstellt wurde (exports):
        https://exports.example.org/tokens/key-9
     2. Ersetzen Sie das alte überall, wo es genutzt wird.
     3. Löschen Sie das alte in seiner Quelle.

    Wenn es nicht mehr gebraucht wird, löschen Sie es oder lassen Sie es ablaufen.

    Adressen, die nicht erreichbar sind

    - ada@example.org: 550 5.1.1 no such user

    Bitte berichtigen Sie diese Adressen in der Quelle ihrer Token. Wenn eine
    wieder erreichbar ist:

        lapsed address clear ADDRESS

    --
    Sie erhalten diese Mail, weil Sie das Konto acme verwalten.

    Um zu prüfen, ob diese Mail echt ist, vergleichen Sie sie mit exports, oder
    führen Sie dort, wo lapsed läuft, diesen Befehl aus:

        lapsed token show df34a016-0a0f-5920-887d-d7736f35182a

    Wir fragen nie nach Token oder Passwörtern. Senden Sie diese nie per Mail.
    ");
    assert!(mail.html.contains("<html lang=\"de\" dir=\"ltr\">"));
}

#[rstest]
#[case(
    "expiring-policy",
    "Token ci-deploy muss innerhalb von 7 Tagen ersetzt werden (Sa., 28. Nov. 2026)"
)]
#[case("expired", "Token ci-deploy ist am Sa., 21. Nov. 2026 abgelaufen")]
#[case("expired-used", "Token ci-deploy ist am Sa., 21. Nov. 2026 abgelaufen")]
#[case(
    "expired-policy",
    "Token ci-deploy war bis Do., 19. Nov. 2026 zu ersetzen"
)]
#[case(
    "digest",
    "12 Token laufen innerhalb von 14 Stunden ab, zuerst batch-0000 am Sa., 21. Nov. 2026"
)]
#[case(
    "digest-mixed",
    "2 Token von Personen ohne Zugang, 2 abgelaufen, 1 läuft innerhalb von 7 Tagen ab, 1 Alarm"
)]
#[case(
    "revoked_access",
    "Token batch-0000 gilt noch, aber sein Aussteller hat keinen Zugang mehr"
)]
#[case(
    "revoked_access-many",
    "9 Token gelten noch, aber ihre 4 Aussteller haben keinen Zugang mehr"
)]
#[case(
    "revoked_access-ending",
    "Token batch-0000 wird in 24 Stunden widerrufen: sein Aussteller hat keinen Zugang mehr"
)]
#[case("revoked", "Token ci-deploy wurde am Sa., 21. Nov. 2026 widerrufen")]
#[case(
    "old_secret",
    "Das alte Secret von Token ci-deploy wird noch genutzt und endet in 4 Stunden"
)]
#[case(
    "summary",
    "9 offene Befunde: 1 ohne Zugang, 1 verwaist, 1 ohne Ablauf, 1 zu lang, 5 weitere Arten"
)]
#[case("test", "Testmail von lapsed")]
fn a_german_subject_says_what_happened(#[case] name: &str, #[case] subject: &str) {
    assert_eq!(rendered_in("de", name).subject, subject);
}

#[test]
fn the_built_in_templates_render_every_sample_in_every_language() {
    Templates::load(None).unwrap().check().unwrap();
}

#[test]
fn the_language_is_what_the_recipient_prefers_or_that_of_the_installation() {
    let templates = Templates::load(None).unwrap();
    let mut letter = sample_named("test");
    let mut subject = |preferred: Option<&str>, installed: Option<&str>| {
        letter.language = preferred.map(str::to_owned);
        let installation = Installation {
            language: installed.map(str::to_owned),
            ..Installation::default()
        };
        templates.render(&letter, &installation).unwrap().subject
    };
    let (german, english) = ("Testmail von lapsed", "Test mail from lapsed");
    assert_eq!(subject(Some("de-AT"), Some("en")), german);
    assert_eq!(subject(Some("en"), Some("de")), english);
    assert_eq!(subject(Some("fr"), Some("de")), german);
    assert_eq!(subject(None, Some("de")), german);
    assert_eq!(subject(None, None), english);
}

#[test]
fn an_operator_changes_a_phrase_of_the_mails() {
    let folder = folder_with("locales/de/ours.ftl", "test-subject = Probe\n");
    let templates = Templates::load(Some(folder.path())).unwrap();
    let mut letter = sample_named("test");
    letter.language = Some("de".to_owned());
    let mail = templates.render(&letter, &Installation::default());
    assert_eq!(mail.unwrap().subject, "Probe");
    assert_eq!(
        load_error("locales/de/ours.ftl", "\ntokens = { $count } { $nam }"),
        "DIR/locales/de/ours.ftl:2: the phrase tokens has no variable $nam"
    );
    assert_eq!(
        load_error("expired/subject.txt.hbs", "{{t \"expired-subjekt\"}}"),
        "DIR/expired/subject.txt.hbs:1: cannot render the template for the sample expired: \
         there is no phrase \"expired-subjekt\"; did you mean \"expired-subject\"?"
    );
}

/// Text outside the marks of the language for tests.
fn unmarked(text: &str) -> String {
    let mut depth = 0_usize;
    let mut out = String::new();
    let marked = text.replace("[ẍẍ", "\u{1}").replace("ẍẍ]", "\u{2}");
    for c in marked.chars() {
        match c {
            '\u{1}' => depth += 1,
            '\u{2}' => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

#[test]
fn every_text_of_a_mail_is_a_phrase() {
    let folder = tempfile::tempdir().unwrap();
    pseudo::write(folder.path()).unwrap();
    let templates = Templates::load(Some(folder.path())).unwrap();
    for mut sample in sample::all(sample::now()) {
        if sample.name.ends_with("awkward") {
            continue;
        }
        sample.letter.language = Some(pseudo::TAG.to_owned());
        let mail = templates.render(&sample.letter, &Installation::default());
        let mail = mail.unwrap();
        let data = format!("{:?}", sample.letter);
        let text = unmarked(&format!("{}\n{}", mail.subject, mail.text));
        let is_command = |line: &&str| line.trim_start().starts_with("lapsed ");
        let lines = text.lines().filter(|line| !is_command(line));
        // The data has no address and no link that is a secret.
        let words = lines.flat_map(str::split_whitespace);
        let words = words.filter(|word| !word.contains('@') && !word.contains("://"));
        let words = words.flat_map(|word| word.split(|c: char| !c.is_alphabetic()));
        for word in words.filter(|word| word.len() > 2) {
            assert!(
                data.contains(word),
                "{word:?} of {} is in no file:\n{text}",
                sample.name
            );
        }
    }
}
