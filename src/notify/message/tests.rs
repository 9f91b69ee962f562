use mail_parser::MessageParser;

use super::*;
use crate::notify::letter::Entry;
use crate::notify::sample;

fn writer() -> Writer {
    Writer::new(MailIdentity {
        from: "API tokens <tokens@example.org>".parse().unwrap(),
        reply_to: Some("help@example.org".parse().unwrap()),
        installation: Installation::default(),
    })
}

fn letter_about(name: &str) -> Letter {
    let found = sample::all(sample::now())
        .into_iter()
        .find(|sample| sample.name == "expiring-bare");
    let mut letter = found.unwrap().letter;
    if let Entry::Expiry(entry) = &mut letter.entries[0] {
        entry.token.name = name.to_owned();
    }
    letter
}

fn write(letter: &Letter) -> Rendered {
    writer()
        .write(letter, &Templates::load(None).unwrap())
        .unwrap()
}

#[test]
fn the_same_letter_gives_the_same_octets() {
    let letter = letter_about("ci-deploy");
    assert_eq!(write(&letter), write(&letter));
    assert_eq!(write(&letter).message_id, "<lapsed.02@example.org>");
}

#[test]
fn the_headers_mark_automatic_mail() {
    let mail = write(&letter_about("ci-deploy"));
    let text = String::from_utf8(mail.bytes).unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    for line in [
        "From: \"API tokens\" <tokens@example.org>",
        "Reply-To: help@example.org",
        "To: ada@example.org",
        "Subject: Token ci-deploy expires in 24 hours (Sun 22 Nov 2026)",
        "Date: Sat, 21 Nov 2026 09:00:00 +0000",
        "Message-ID: <lapsed.02@example.org>",
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: OOF, AutoReply",
        "List-Id: API token notices <lapsed.example.org>",
        "MIME-Version: 1.0",
    ] {
        assert_eq!(
            head.split("\r\n").filter(|l| *l == line).count(),
            1,
            "{line}\n{head}"
        );
    }
}

#[test]
fn every_sample_is_a_message_whose_lines_are_short_and_ascii() {
    let templates = Templates::load(None).unwrap();
    for sample in sample::all(sample::now()) {
        let mail = writer().write(&sample.letter, &templates).unwrap();
        let text = String::from_utf8(mail.bytes.clone()).unwrap();
        assert!(text.is_ascii(), "{}", sample.name);
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.split("\r\n").all(|line| line.len() <= 78), "{head}");
        let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
        assert_eq!(parsed.subject(), Some(mail.subject.as_str()));
        let body = parsed.body_text(0).unwrap();
        let is_whole = |line: &str| line.starts_with("    lapsed ") || line.starts_with("https://");
        assert!(
            body.lines()
                .all(|line| line.chars().count() <= 78 || is_whole(line)),
            "{body}"
        );
        assert!(parsed.body_html(0).unwrap().contains("</html>"));
    }
}

#[test]
fn a_name_cannot_add_a_header_or_a_part() {
    for name in [
        "x\r\nBcc: everyone@example.org\r\n\r\nbody",
        "x\n\nSubject: y",
        "=?utf-8?q?Your_password?=",
        "--=_lapsed.02",
        "--=_lapsed.02--",
        ".",
    ] {
        let mail = write(&letter_about(name));
        let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
        assert_eq!(parsed.headers().len(), 11, "{name:?}");
        assert_eq!(parsed.parts.len(), 3, "{name:?}");
        assert!(parsed.bcc().is_none());
        let shown = name.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            parsed.subject().unwrap().contains(&shown),
            "{:?}",
            parsed.subject()
        );
        assert!(parsed.body_text(0).unwrap().contains(&shown), "{name:?}");
    }
}

#[test]
fn a_name_is_escaped_only_in_html() {
    let mail = write(&letter_about(
        "{{secret}} <script>alert(1)</script> & 🚀 פריסה",
    ));
    let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
    let shown = "{{secret}} <script>alert(1)</script> & 🚀 פריסה";
    assert!(parsed.body_text(0).unwrap().contains(shown));
    let html = parsed.body_html(0).unwrap();
    assert!(!html.contains("<script>"));
    assert!(html.contains("{{secret}} &lt;script&gt;alert(1)&lt;/script&gt; &amp; 🚀 פריסה"));
    assert!(
        parsed
            .subject()
            .unwrap()
            .starts_with("Token {{secret}} <script>")
    );
}
