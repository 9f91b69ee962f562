//! Sample letters: every template with all and with no optional data, awkward names, long lists. They
//! check templates when they are loaded, and `lapsed preview` shows them.

mod parts;
mod service;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use crate::domain::{
    Basis, Expiry, ExpiryOrigin, FindingKind, Severity, Status, Step, Token, TokenId, column,
};

use super::letter::{
    AlertEntry, Callers, EndedEntry, Entry, ExpiryEntry, Letter, OpenCount, OpenFinding, OwnerGap,
    RevokedEntry, SignInEntry, SummaryEntry, Unreachable,
};

use parts::{address, entry, letter, page_of, refused};
pub use parts::{now, token};
use service::{of_service, old_secret, old_secret_bare, stopped};

#[derive(Debug, Clone)]
pub struct Sample {
    /// Begins with the name of its template.
    pub name: &'static str,
    pub letter: Letter,
}

/// All samples, written at `now`, in the order of the templates.
pub fn all(now: DateTime<Utc>) -> Vec<Sample> {
    let mut samples = at_fixed_time();
    // Keep whole minutes.
    let minutes = (now - self::now()).num_minutes();
    for sample in &mut samples {
        sample.letter.shift(TimeDelta::minutes(minutes));
    }
    samples
}

fn at_fixed_time() -> Vec<Sample> {
    let sample = |name, letter| Sample { name, letter };
    vec![
        sample("expiring", expiring()),
        sample("expiring-bare", bare()),
        sample("expiring-awkward", awkward()),
        sample("expiring-policy", by_policy(7)),
        sample("expiring-day", on_plain_date(14)),
        sample("expiring-outdated", outdated(7)),
        sample("expiring-personal", at_personal_step()),
        sample("expired", expired()),
        sample("expired-late", late()),
        sample("expired-used", still_used()),
        sample("expired-policy", by_policy(-2)),
        sample("expired-outdated", outdated(-2)),
        sample("digest", digest(12)),
        sample("digest-long", digest(250)),
        sample("digest-mixed", mixed()),
        sample("digest-days", plain_dates(9)),
        sample("digest-days-long", plain_dates(90)),
        sample("digest-alerts", alerts()),
        sample("digest-summary", with_summary()),
        sample("digest-awkward", awkward_digest()),
        sample("revoked_access", revoked(1)),
        sample("revoked_access-many", revoked(9)),
        sample("revoked_access-long", revoked(250)),
        sample("revoked_access-ending", ending(1)),
        sample("revoked_access-endings", ending(9)),
        sample("revoked_access-endings-long", ending(90)),
        sample("revoked", ended()),
        sample("revoked-bare", ended_bare()),
        sample("digest-revoked", all_ended()),
        sample("old_secret", old_secret()),
        sample("old_secret-bare", old_secret_bare()),
        sample("alert", alert()),
        sample("alert-stopped", stopped()),
        sample("summary", summary(9)),
        sample("summary-one", summary(1)),
        sample("summary-long", summary(250)),
        sample("summary-awkward", awkward_summary()),
        sample("test", test()),
        sample("sign-in", sign_in()),
    ]
}

fn expiring() -> Letter {
    let mut entry = entry(token("ci-deploy"), 7);
    entry.basis = Basis::AccountAdmin;
    entry.instead_of_issuer = vec![refused()];
    entry.page = Some(page_of(&entry.token));
    let mut letter = letter("01", vec![Entry::Expiry(entry)]);
    letter.to = address("acme-admin@example.org");
    letter.zone = Tz::Europe__Berlin;
    letter.unreachable = vec![Unreachable {
        address: address("ada@example.org"),
        reason: "550 5.1.1 no such user".to_owned(),
    }];
    letter
}

fn bare() -> Letter {
    let mut token = token("");
    token.description = None;
    token.issuer = None;
    token.issuer_name = None;
    token.account = None;
    token.role = None;
    token.scope = None;
    token.last_used_at = None;
    token.expiry = Expiry::At(now() + TimeDelta::hours(24));
    let mut entry = entry(token, 1);
    entry.token.reports_use = false;
    entry.basis = Basis::Admin;
    letter("02", vec![Entry::Expiry(entry)])
}

/// Odd and malicious token names.
const AWKWARD: &[&str] = &[
    "déploiement 🚀 <script>alert(1)</script>",
    "הפצה של החנות",
    "ci\r\nBcc: everyone@example.org\r\n\r\nhello",
    "Subject: your password has expired",
    "tools & \"more\" 'of' { it } \u{202e}gnp.exe",
];

fn awkward() -> Letter {
    let name = format!("{} {}", AWKWARD[0], "x".repeat(10_000));
    let mut token = token(&name);
    token.scope = Some(AWKWARD[1..].concat());
    token.account = Some(AWKWARD[1].to_owned());
    token.role = Some(AWKWARD[2].to_owned());
    token.description = Some(AWKWARD[4].to_owned());
    token.issuer_name = Some(AWKWARD[3].to_owned());
    token.last_used_at = Some(now() - TimeDelta::days(150));
    letter("03", vec![Entry::Expiry(entry(token, 7))])
}

fn expired() -> Letter {
    let mut token = token("ci-deploy");
    token.expiry = Expiry::At(now() - TimeDelta::minutes(3));
    token.last_used_at = None;
    token.co_owners = vec![address("bob@example.org"), address("grace@example.org")];
    letter("04", vec![Entry::Expiry(entry(token, 0))])
}

/// An expired token of the service that something still presents.
fn still_used() -> Letter {
    let mut letter = expired();
    if let Some(Entry::Expiry(entry)) = letter.entries.first_mut() {
        entry.token = of_service(entry.token.clone());
        entry.still_used = Some(Callers {
            calls: 80,
            addresses: vec![[10, 1, 2, 3].into()],
        });
    }
    letter
}

/// For a person who chose a step that the configuration lacks, and a time zone.
fn at_personal_step() -> Letter {
    let mut token = of_service(token("ci-deploy"));
    token.expiry = Expiry::At(now() + TimeDelta::days(14));
    let mut letter = letter("18", vec![Entry::Expiry(entry(token, 14))]);
    letter.zone = Tz::America__Los_Angeles;
    letter
}

fn late() -> Letter {
    let mut token = token("ci-deploy");
    token.expiry = Expiry::At(now() - TimeDelta::days(2));
    let mut entry = entry(token, 1);
    entry.basis = Basis::Admin;
    entry.instead_of_issuer = vec![OwnerGap::LostAccess {
        owner: address("ada@example.org"),
        evidence: Some("hr: status \"disabled\" in people.csv, line 7".to_owned()),
    }];
    letter("05", vec![Entry::Expiry(entry)])
}

/// A token without an expiry, near or past its policy date.
fn by_policy(days: i64) -> Letter {
    let mut token = token("ci-deploy");
    token.expiry = Expiry::At(now() + TimeDelta::days(days));
    token.expiry_origin = Some(ExpiryOrigin::Policy);
    token.last_used_at = Some(now() - TimeDelta::days(12));
    let mut entry = entry(token, 7);
    entry.due_at = now();
    entry.step = if days > 0 { entry.step } else { Step::ZERO };
    entry.page = Some(page_of(&entry.token));
    letter("12", vec![Entry::Expiry(entry)])
}

/// A token whose source reports a plain date, for a reader whose day is another.
fn on_plain_date(days: i64) -> Letter {
    let mut token = token("ci-deploy");
    let at = now() + TimeDelta::days(days) - TimeDelta::hours(9);
    token.expiry = Expiry::At(at);
    token.expiry_day = Some(at.date_naive());
    let mut letter = letter("16", vec![Entry::Expiry(entry(token, days))]);
    letter.zone = Tz::America__Los_Angeles;
    letter
}

/// A token whose source has another expiry, which could not be read, and an issuer who could not be.
fn outdated(days: i64) -> Letter {
    let mut letter = on_plain_date(days);
    if let Some(Entry::Expiry(entry)) = letter.entries.first_mut() {
        entry.step = Step::from_seconds(86_400);
        entry.basis = Basis::Admin;
        let reason = "\"svc-deploy\" is not a mail address; write it as name@example.org";
        entry.instead_of_issuer = vec![OwnerGap::Unreadable(reason.to_owned())];
        let unreadable = [
            (column::ISSUER, reason),
            (column::EXPIRES_AT, "\"soon\" is not a date"),
        ];
        entry.token.unreadable = unreadable
            .map(|(name, why)| (name.to_owned(), why.to_owned()))
            .into();
        entry.token.issuer = None;
    }
    letter
}

fn plain_dates(tokens: i64) -> Letter {
    let letters = (0..tokens).map(|n| {
        if n % 3 == 0 {
            outdated(3)
        } else {
            on_plain_date(1 + n % 4)
        }
    });
    let entries = letters.flat_map(|letter| letter.entries);
    Letter {
        zone: Tz::America__Los_Angeles,
        ..letter("17", entries.collect())
    }
}

fn ended_entry(token: Token) -> EndedEntry {
    EndedEntry {
        by: "grace".to_owned(),
        at: now() - TimeDelta::minutes(2),
        reason: Some("it was found in a public repository".to_owned()),
        basis: Basis::Issuer,
        page: Some(page_of(&token)),
        token,
    }
}

fn ended() -> Letter {
    let mut token = token("ci-deploy");
    token.status = Status::Revoked;
    letter("13", vec![Entry::Ended(ended_entry(token))])
}

fn ended_bare() -> Letter {
    let Entry::Expiry(ExpiryEntry { token, .. }) = bare().entries.remove(0) else {
        unreachable!("a letter about an expiry");
    };
    let entry = EndedEntry {
        reason: None,
        basis: Basis::Admin,
        page: None,
        ..ended_entry(token)
    };
    letter("14", vec![Entry::Ended(entry)])
}

fn all_ended() -> Letter {
    let ended = (0..3).map(|n| EndedEntry {
        basis: Basis::Admin,
        ..ended_entry(one_of_many(n).token)
    });
    let entries = ended.map(Entry::Ended).chain(by_policy(7).entries);
    letter("15", entries.collect())
}

/// The `n`th of many tokens that expire within a week, at three sources.
fn one_of_many(n: i64) -> ExpiryEntry {
    let sources = ["exports", "rancher", "shop"];
    let used = [Some(4), None, Some(150 * 1_440), Some(9 * 1_440)];
    let pick = usize::try_from(n).unwrap_or_default();
    let mut token = token(&format!("batch-{n:04}"));
    sources[pick % sources.len()].clone_into(&mut token.source);
    token.id = TokenId::new(&token.source, &token.name);
    token.expiry = Expiry::At(now() + TimeDelta::hours(3 + n % 160));
    token.last_used_at = used[pick % used.len()].map(|minutes| now() - TimeDelta::minutes(minutes));
    let mut entry = entry(token, 7);
    entry.basis = Basis::Admin;
    if n % 5 == 0 {
        entry.instead_of_issuer = vec![refused()];
    }
    entry
}

/// Tokens of four people who lost access.
fn revoked(tokens: i64) -> Letter {
    let entries = (0..tokens).map(|n| {
        let mut token = one_of_many(n).token;
        if n % 3 == 0 {
            token.expiry = Expiry::Never;
        }
        let person = n * 4 / tokens;
        token.issuer = Some(address(&format!("leaver{person}@example.org")));
        Entry::Revoked(RevokedEntry {
            end: None,
            token,
            evidence: format!("status \"disabled\" in people.csv, line {}", person + 2),
            since: now() - TimeDelta::days(9),
            basis: Basis::Admin,
            page: None,
        })
    });
    letter("10", entries.collect())
}

/// Tokens that lapsed revokes by itself.
fn ending(tokens: i64) -> Letter {
    let mut letter = revoked(tokens);
    for (n, entry) in (1_u32..).zip(&mut letter.entries) {
        if let Entry::Revoked(entry) = entry {
            let finding = 0x019a_0000_0000_7000_8000_0000_0000_0000 + u128::from(n);
            let at = now() + TimeDelta::days(1) + TimeDelta::hours((n / 9).into());
            entry.end = Some((Uuid::from_u128(finding), at));
        }
    }
    letter
}

fn digest(tokens: i64) -> Letter {
    let entries = (0..tokens).map(|n| Entry::Expiry(one_of_many(n))).collect();
    let mut letter = letter("06", entries);
    if tokens <= 100 {
        letter.zone = Tz::Europe__Berlin;
    }
    letter
}

fn mixed() -> Letter {
    let letters = [revoked(2), expired(), late(), expiring(), alert()];
    letter("07", letters.map(|letter| letter.entries).concat())
}

fn alerts() -> Letter {
    let letters = [alert(), alert(), old_secret()];
    letter("08", letters.map(|letter| letter.entries).concat())
}

fn awkward_digest() -> Letter {
    let entries = AWKWARD.iter().enumerate().map(|(n, name)| {
        let name = if n == 0 {
            format!("{name} {}", "🚀".repeat(2_500))
        } else {
            (*name).to_owned()
        };
        Entry::Expiry(entry(token(&name), 7))
    });
    letter("09", entries.collect())
}

fn alert() -> Letter {
    let alert = AlertEntry {
        title: "1,204 mails are held".to_owned(),
        text: "This sweep would have sent 1,204 mails. That is more than max_per_sweep = 1000 \
               allows, so they are all held.\n\nCheck them, then release them:\n\n    \
               lapsed forecast --days 7\n    lapsed release\n\nOr discard them:\n\n    lapsed release \
               --discard"
            .to_owned(),
    };
    letter("11", vec![Entry::Alert(alert)])
}

/// The `n`th of many findings, of every kind and at three sources.
fn one_finding(n: usize) -> OpenFinding {
    let sources = ["rancher", "exports", "shop"];
    let evidence = [
        "hr: status \"disabled\" in people.csv, line 7 (seen 2026-11-20 09:00 UTC)",
        "the list of users no longer has u-7xk2p",
        "it has no expiry at its source",
        "it lives 365d from 2026-03-01 to 2027-03-01; max_ttl is 90d",
        "last used on 2026-05-01; unused_after is 90d",
        "auth-token-max-ttl-minutes is 0: tokens may live without an expiry",
        "no [[source]] has had this name since 2026-11-18 09:00 UTC; its tokens are warned about until 2026-11-25 09:00 UTC",
        "live replicas have different configurations: 49043aef5e51 on lapsed-0; db4439873468 on lapsed-1",
        "expires_at \"12/01/2027\" has two readings; set date_format",
        "3 of 4 active tokens have no known expiry, so no one is warned about them",
        "its old secret was used after it was replaced on 2026-11-20 12:00 UTC, and ends on 2026-11-21 12:00 UTC",
        "first used from 203.0.113.7 on 2026-11-20 09:00 UTC; before only from 10.1.2.0/24",
    ];
    let kind = FindingKind::ALL[n % evidence.len()];
    let severity = match kind {
        FindingKind::SsoRevoked | FindingKind::Orphaned => Severity::High,
        _ => Severity::Medium,
    };
    let source = sources[n % sources.len()].to_owned();
    let is_source = matches!(
        kind,
        FindingKind::SourceAllowsUnlimited | FindingKind::Unconfigured | FindingKind::ReplicaDrift
    );
    OpenFinding {
        id: TokenId::new("finding", &n.to_string()).0,
        kind,
        severity,
        name: if is_source {
            source.clone()
        } else {
            format!("batch-{n:04}")
        },
        source,
        since: now() - TimeDelta::days(40),
        evidence: evidence[n % evidence.len()].to_owned(),
        issuer: (!is_source).then(|| address("ada@example.org")),
        account: (!is_source).then(|| "acme".to_owned()),
        last_used_at: (!is_source).then(|| now() - TimeDelta::days(5)),
    }
}

fn summary_of(findings: Vec<OpenFinding>) -> Letter {
    let mut counts: Vec<OpenCount> = Vec::new();
    for OpenFinding { kind, source, .. } in &findings {
        let mut known = counts.iter_mut();
        match known.find(|open| open.kind == *kind && open.source == *source) {
            Some(open) => open.count += 1,
            None => counts.push(OpenCount {
                kind: *kind,
                source: source.clone(),
                count: 1,
            }),
        }
    }
    let findings = findings.into_iter().take(100).collect();
    let summary = SummaryEntry { counts, findings };
    let mut letter = letter("12", vec![Entry::Summary(summary)]);
    letter.to = address("security@example.org");
    letter
}

fn summary(findings: usize) -> Letter {
    let first = if findings == 1 { 2 } else { 0 };
    summary_of((first..first + findings).map(one_finding).collect())
}

fn awkward_summary() -> Letter {
    let findings = AWKWARD.iter().enumerate().map(|(n, name)| OpenFinding {
        name: format!("{name} {}", "x".repeat(n * 100)),
        evidence: AWKWARD[1 + n % 4].to_owned(),
        ..one_finding(n)
    });
    summary_of(findings.collect())
}

fn test() -> Letter {
    Letter {
        entries: vec![Entry::Test],
        ..alert()
    }
}

fn sign_in() -> Letter {
    let link = format!("https://tokens.example.org/sign-in/link/{}", "a".repeat(43));
    Letter {
        entries: vec![Entry::SignIn(SignInEntry {
            link: link.into(),
            until: now() + TimeDelta::minutes(15),
        })],
        ..alert()
    }
}

fn with_summary() -> Letter {
    let mut letter = digest(3);
    letter.entries.extend(summary(9).entries);
    letter.entries.extend(alert().entries);
    letter
}
