//! Directories with the whole engine: people who lost access are flagged, and no one else, whatever a directory does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::TimeDelta;
use lapsed::directories::{
    Directory, Extent, Group, Lookup, PeopleListing, PeopleQuery, PersonSink,
};
use lapsed::domain::{
    DirectoryTerms, Expiry, FindingKind, IdentityStatus, ListedToken, Person, Reason, Schedule,
    Severity, SourceTerms,
};
use lapsed::engine::{
    Preview, Report, SurveyOutcome, SweepOptions, UnbindOutcome, WatchedDirectory, WatchedSource,
};
use lapsed::sources::{
    CheckReport, Error, Fetched, LastListing, Listing, RefusedRow, Source, Tokens,
};
use lapsed::store::{AuditFilter, Decision, DirectoryRow, FindingFilter, IdentityFilter};
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::world;
use Db::{Postgres, Sqlite};

/// Each of them issued two tokens.
const PEOPLE: usize = 10;

/// Lists two tokens of each person.
struct Shop;

#[async_trait]
impl Source for Shop {
    async fn fetch(&self, _: &LastListing) -> Result<Fetched<Listing>, Error> {
        let tokens = (0..PEOPLE * 2).map(|n| {
            use lapsed::domain::Cell::Value;
            Ok(ListedToken {
                issuer: Value(address(n / 2).parse().unwrap()),
                expiry: Value(Expiry::Never),
                ..ListedToken::with_id(format!("t{n:02}"))
            })
        });
        Ok(Fetched::New(Listing {
            tokens: Tokens(Box::new(tokens)),
            count: 2 * PEOPLE as u64,
            ..Listing::default()
        }))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        Ok(CheckReport::default())
    }
}

fn address(number: usize) -> String {
    format!("p{number:02}@example.org")
}

/// What the directory returns.
#[expect(clippy::struct_excessive_bools, reason = "switches of a stand-in")]
#[derive(Clone, Default)]
struct Script {
    listed: Vec<Person>,
    /// Look-ups by id; other accounts are found as they are listed.
    lookups: HashMap<String, Lookup>,
    groups: Vec<Group>,
    has_refused_row: bool,
    fails: bool,
    defers: bool,
    lookup_fails: bool,
    extent: Extent,
    removed: Vec<String>,
    cursor: Option<String>,
    looked_up: Vec<String>,
}

#[derive(Default)]
struct Scripted(Mutex<Script>);

#[async_trait]
impl Directory for Scripted {
    async fn list_people(
        &self,
        _: &PeopleQuery<'_>,
        tell: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let mut script = self.0.lock().unwrap();
        script.looked_up.clear();
        if script.fails {
            return Err(Error::CannotRevoke);
        }
        if script.defers {
            let place = "GET https://corp.example.org/Users".to_owned();
            let wait = std::time::Duration::from_mins(10);
            return Err(lapsed::upstream::http::Error::Busy { place, wait }.into());
        }
        script.listed.iter().cloned().for_each(tell);
        let mut listing = PeopleListing {
            extent: script.extent,
            groups: script.groups.clone(),
            removed: script.removed.clone(),
            cursor: script.cursor.clone(),
            ..PeopleListing::default()
        };
        if script.has_refused_row {
            listing.refusals.add(RefusedRow {
                file: "people".to_owned(),
                line: 7,
                reason: "no status".to_owned(),
            });
        }
        Ok(Fetched::New(listing))
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        let mut script = self.0.lock().unwrap();
        script.looked_up.push(id.to_owned());
        if script.lookup_fails {
            return Err(Error::CannotRevoke);
        }
        let lookup = script.lookups.get(id).cloned();
        let listed = script
            .listed
            .iter()
            .find(|person| person.id.as_deref() == Some(id));
        Ok(lookup.unwrap_or_else(|| {
            listed.map_or_else(gone, |person| Lookup::Found(Box::new(person.clone())))
        }))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        Ok(CheckReport::default())
    }
}

fn gone() -> Lookup {
    Lookup::Gone {
        evidence: "404 for its id".to_owned(),
        is_certain: false,
    }
}

fn person(number: usize) -> Person {
    Person {
        id: Some(format!("id-{number:02}")),
        main: Some(address(number).parse().unwrap()),
        others: Vec::new(),
        sign_in_name: None,
        fallbacks: Vec::new(),
        name: Some(format!("Person {number}")),
        status: IdentityStatus::Active,
        reason: None,
        since: None,
        evidence: "enabled=true".to_owned(),
        is_member: None,
    }
}

fn disable(person: &mut Person) {
    person.status = IdentityStatus::Disabled;
    person.reason = Some(Reason::Admin);
    "enabled=false".clone_into(&mut person.evidence);
}

fn lost_access() -> FindingFilter {
    FindingFilter {
        kind: Some(FindingKind::SsoRevoked),
        all: false,
    }
}

type World = world::World<Scripted>;

impl World {
    /// Everyone is active and known as such.
    async fn new(db: Db) -> Self {
        let world = Self::before_first_sweep(db, &[]).await;
        world.sweep().await;
        world
    }

    async fn before_first_sweep(db: Db, allowed_groups: &[&str]) -> Self {
        let mut world = Self::empty(db).await;
        world.script(|script| script.listed = (0..PEOPLE).map(person).collect());
        world.engine.sources.push(WatchedSource {
            terms: SourceTerms {
                name: "shop".to_owned(),
                kind: "shop",
                ..SourceTerms::default()
            },
            source: Arc::new(Shop),
        });
        world.engine.directories.push(WatchedDirectory {
            terms: DirectoryTerms {
                name: "corp".to_owned(),
                kind: "scripted",
                allowed_groups: allowed_groups.iter().map(|&name| name.to_owned()).collect(),
                canaries: vec![address(9).parse().unwrap()],
                absence_grace: TimeDelta::zero(),
                ..DirectoryTerms::default()
            },
            directory: world.fake.clone(),
        });
        world
    }

    fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.fake.0.lock().unwrap());
    }

    /// Sweeps a minute later.
    async fn sweep(&self) -> Report {
        self.engine.clock.advance(TimeDelta::minutes(1));
        world::sweep(&self.engine).await
    }

    /// The names of the tokens with a finding.
    async fn flagged(&self) -> Vec<String> {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let now = self.engine.now();
        let rows = tx.list_findings(lost_access(), None, now, 100).await;
        let mut names: Vec<String> = rows
            .unwrap()
            .into_iter()
            .map(|row| row.token_name)
            .collect();
        names.sort_unstable();
        names
    }

    async fn evidence(&self) -> Vec<String> {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let now = self.engine.now();
        let rows = tx.list_findings(lost_access(), None, now, 100).await;
        rows.unwrap().into_iter().map(|row| row.evidence).collect()
    }

    /// Status and reason of a person.
    async fn identity(&self, number: usize) -> (IdentityStatus, Option<Reason>) {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let filter = IdentityFilter {
            email_key: Some(address(number)),
            ..IdentityFilter::default()
        };
        let rows = tx
            .list_identities(&filter, None, self.engine.now(), 10)
            .await;
        let (row, _) = rows.unwrap().remove(0);
        (row.identity.status, row.identity.reason)
    }

    async fn row(&self) -> DirectoryRow {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        tx.find_directory("corp").await.unwrap().unwrap()
    }

    async fn settle(&self, decision: Decision) {
        let mut tx = self.engine.store.begin().await.unwrap();
        assert!(tx.decide_held_changes("corp", decision).await.unwrap());
        tx.commit().await.unwrap();
    }
}

#[rstest]
#[tokio::test]
async fn a_disabled_person_is_flagged_in_one_mail_and_cleared_on_return(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    assert!(world.flagged().await.is_empty());
    world.script(|script| disable(&mut script.listed[2]));
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    assert_eq!(world.flagged().await, ["t04", "t05"]);
    assert_eq!(world.count_mails(), 1, "one mail for both tokens");
    let evidence = "corp says enabled=false, seen 2026-11-21 09:02 UTC, checked by id";
    assert_eq!(world.evidence().await, [evidence, evidence]);
    let report = world.sweep().await;
    assert_eq!((report.people_changed, report.findings_opened), (0, 0));
    let looked_up = world.fake.0.lock().unwrap().looked_up.clone();
    assert!(looked_up.is_empty(), "not looked up again: {looked_up:?}");
    world.script(|script| script.listed[2] = person(2));
    world.sweep().await;
    assert!(world.flagged().await.is_empty());
    assert_eq!(world.count_mails(), 1);
}

#[rstest]
#[tokio::test]
async fn a_changed_loss_updates_the_finding_without_a_mail(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| {
        disable(&mut script.listed[2]);
        script.listed[2].reason = Some(Reason::Suspended);
    });
    world.sweep().await;
    let severities = async || {
        let mut tx = world.engine.store.begin_read().await.unwrap();
        let now = world.engine.now();
        let rows = tx.list_findings(lost_access(), None, now, 100).await;
        let rows = rows.unwrap().into_iter();
        rows.map(|row| row.severity).collect::<Vec<_>>()
    };
    assert_eq!(severities().await, [Severity::Medium; 2]);
    world.script(|script| drop(script.listed.remove(2)));
    for _ in 0..2 {
        world.sweep().await;
    }
    assert_eq!(severities().await, [Severity::High; 2]);
    let evidence = world.evidence().await;
    assert!(
        evidence[0].starts_with("corp says 404 for its id twice, first at ")
            && evidence[0].ends_with(", checked by id"),
        "{evidence:?}"
    );
    assert_eq!(world.count_mails(), 1, "no further mail");
}

#[rstest]
#[tokio::test]
async fn a_deletion_is_confirmed_by_a_second_sweep(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| drop(script.listed.remove(2)));
    world.sweep().await;
    assert!(world.flagged().await.is_empty());
    assert_eq!(
        world.identity(2).await,
        (IdentityStatus::Unknown, Some(Reason::Absent))
    );
    world.sweep().await;
    assert_eq!(world.flagged().await, ["t04", "t05"]);
    assert_eq!(world.identity(2).await.0, IdentityStatus::Deleted);
}

#[rstest]
#[tokio::test]
async fn an_issuer_with_a_mapped_address_keeps_access_in_a_new_account(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::before_first_sweep(db, &[]).await;
    let known_as = "ada@example.org".parse().unwrap();
    world.engine.issuers.addresses = [(address(2), known_as)].into();
    let ada = |id: &str| Person {
        id: Some(id.to_owned()),
        main: Some("ada@example.org".parse().unwrap()),
        ..person(2)
    };
    world.script(|script| script.listed[2] = ada("old"));
    world.sweep().await;
    assert_eq!(world.identity(2).await.0, IdentityStatus::Active);
    world.script(|script| script.listed[2] = ada("new"));
    for _ in 0..3 {
        let report = world.sweep().await;
        assert!(!report.is_failure(), "{report:?}");
    }
    assert_eq!(world.identity(2).await.0, IdentityStatus::Active);
    assert_eq!(world.flagged().await, [""; 0]);
}

/// An account that has the address of person 4, an issuer, only among its further ones.
fn guest(id: &str) -> Person {
    Person {
        id: Some(id.to_owned()),
        main: Some("guest@home.example".parse().unwrap()),
        fallbacks: vec![address(4).parse().unwrap()],
        ..person(4)
    }
}

#[rstest]
#[tokio::test]
async fn a_further_address_counts_if_no_account_has_it(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::before_first_sweep(db, &[]).await;
    world.script(|script| script.listed[4] = guest("guest"));
    world.sweep().await;
    assert_eq!(world.identity(4).await, (IdentityStatus::Active, None));
    world.script(|script| disable(&mut script.listed[4]));
    world.sweep().await;
    assert_eq!(world.flagged().await, ["t08", "t09"]);
    for evidence in world.evidence().await {
        let words = "found by a further address (otherMails)";
        assert!(evidence.contains(words), "{evidence}");
    }
    // Another account has the address as its own.
    world.script(|script| script.listed.push(person(4)));
    world.sweep().await;
    assert_eq!(world.identity(4).await, (IdentityStatus::Active, None));
    assert_eq!(world.flagged().await, [""; 0]);
    let mut tx = world.engine.store.begin_read().await.unwrap();
    let identity = tx.find_identity("corp", &address(4)).await.unwrap();
    assert_eq!(identity.unwrap().account_id.as_deref(), Some("id-04"));
}

#[rstest]
#[tokio::test]
async fn the_order_of_two_accounts_does_not_matter(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(None, Some("main"), Some("second"))] seen_first: Option<&str>,
) {
    let account = |id: &str, sign_in_name: &str| Person {
        id: Some(id.to_owned()),
        sign_in_name: Some(sign_in_name.parse().unwrap()),
        ..person(4)
    };
    let main = account("main", &address(4));
    let second = account("second", "admin4@example.org");
    let world = World::before_first_sweep(db, &[]).await;
    world.script(|script| {
        script
            .listed
            .retain(|person| person.id.as_deref() != Some("id-04"));
    });
    let set = |accounts: &[&Person]| {
        world.script(|script| {
            script.listed.truncate(PEOPLE - 1);
            script
                .listed
                .extend(accounts.iter().map(|&account| account.clone()));
        });
    };
    if let Some(first) = seen_first {
        set(&[if first == "main" { &main } else { &second }]);
        world.sweep().await;
        assert_eq!(world.identity(4).await.0, IdentityStatus::Active);
    }
    let off = |account: &Person| {
        let mut account = account.clone();
        disable(&mut account);
        account
    };
    let (main_off, second_off) = (off(&main), off(&second));
    let ambiguous = (IdentityStatus::Unknown, Some(Reason::Ambiguous));
    let lost = (IdentityStatus::Disabled, Some(Reason::Admin));
    let active = (IdentityStatus::Active, None);
    for (accounts, expected) in [
        ([&main, &second], active),
        ([&second_off, &main], active),
        ([&second, &main_off], ambiguous),
        ([&main_off, &second_off], lost),
        ([&second, &main], active),
    ] {
        set(&accounts);
        world.sweep().await;
        assert_eq!(world.identity(4).await, expected, "{accounts:?}");
        assert_eq!(world.flagged().await.is_empty(), expected != lost);
    }
}

#[rstest]
#[tokio::test]
async fn a_removal_in_a_listing_of_changes_is_looked_up(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| {
        script.extent = Extent::Changes;
        script.removed = vec!["id-02".to_owned()];
        let rest = script.listed.split_off(9);
        let there = script
            .listed
            .drain(..)
            .filter(|person| person.id.as_deref() != Some("id-02"));
        let there =
            there.map(|person| (person.id.clone().unwrap(), Lookup::Found(Box::new(person))));
        script.lookups = there.collect();
        script.listed = rest;
    });
    world.sweep().await;
    // A listing of changes contains a removal only once.
    world.script(|script| script.removed.clear());
    world.sweep().await;
    assert_eq!(world.flagged().await, ["t04", "t05"]);
}

#[rstest]
#[tokio::test]
async fn leaving_a_group_counts_when_it_was_seen_twice(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::before_first_sweep(db, &["ops"]).await;
    let group = |members| {
        vec![Group {
            name: "ops".to_owned(),
            members,
        }]
    };
    world.script(|script| {
        script
            .listed
            .iter_mut()
            .for_each(|person| person.is_member = Some(true));
        script.groups = group(10);
    });
    world.sweep().await;
    world.script(|script| {
        script.listed[2].is_member = Some(false);
        script.groups = group(9);
    });
    world.sweep().await;
    assert!(world.flagged().await.is_empty());
    world.sweep().await;
    assert_eq!(world.flagged().await, ["t04", "t05"]);
    assert_eq!(world.identity(2).await.0, IdentityStatus::OutOfGroup);
    let evidence = world.evidence().await;
    assert!(
        evidence[0]
            .starts_with("corp says membership in none of the allowed groups (ops), read twice, "),
        "{evidence:?}"
    );
    world.script(|script| script.listed[2].is_member = Some(true));
    world.sweep().await;
    assert!(world.flagged().await.is_empty());
}

/// What a directory may do wrong, and whether the sweep fails.
#[rstest]
#[case::out_of_reach(|script: &mut Script| script.fails = true, true)]
#[case::no_one_listed(|script: &mut Script| script.listed.clear(), true)]
#[case::the_canary_is_disabled(|script: &mut Script| disable(&mut script.listed[9]), true)]
#[case::the_canary_is_missing(|script: &mut Script| drop(script.listed.pop()), true)]
#[case::a_field_is_dropped(|script: &mut Script| for person in &mut script.listed {
    person.status = IdentityStatus::Unknown;
    person.reason = Some(Reason::FieldMissing);
}, true)]
#[case::rows_are_refused(|script: &mut Script| { script.has_refused_row = true; disable(&mut script.listed[1]); }, true)]
#[case::half_are_missing(|script: &mut Script| drop(script.listed.drain(..5)), true)]
#[case::two_are_missing_and_there_by_id(|script: &mut Script| for person in script.listed.drain(..2) {
    script.lookups.insert(person.id.clone().unwrap(), Lookup::Found(Box::new(person)));
}, false)]
#[case::two_are_missing_and_no_one_is_found_by_id(|script: &mut Script| {
    for person in &script.listed { script.lookups.insert(person.id.clone().unwrap(), gone()); }
    script.listed.drain(..2);
}, true)]
#[case::look_up_is_forbidden(|script: &mut Script| {
    script.listed.drain(..2);
    for n in 0..2 { script.lookups.insert(format!("id-{n:02}"), Lookup::Unclear("403".to_owned())); }
}, false)]
#[case::a_look_up_fails(|script: &mut Script| { script.listed.drain(..2); script.lookup_fails = true; }, true)]
#[case::a_lagging_index_says_disabled(|script: &mut Script| {
    script.lookups.insert("id-01".to_owned(), Lookup::Found(Box::new(person(1))));
    disable(&mut script.listed[1]);
}, false)]
#[case::two_have_one_address(|script: &mut Script| {
    let mut second = person(11);
    second.main = Some(address(1).parse().unwrap());
    script.listed.push(second);
    disable(&mut script.listed[1]);
}, false)]
#[case::it_answers_anything(|script: &mut Script| {
    script.listed[3].others.push("nobody-has-this-address@lapsed.invalid".parse().unwrap());
    disable(&mut script.listed[3]);
}, true)]
#[case::a_mass_is_disabled(|script: &mut Script| script.listed[..4].iter_mut().for_each(disable), true)]
#[case::all_ids_are_others(|script: &mut Script| for person in &mut script.listed {
    person.id = person.id.as_ref().map(|id| format!("new-{id}"));
}, false)]
#[tokio::test]
async fn a_faulty_directory_flags_no_one(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] fault: fn(&mut Script),
    #[case] is_failure: bool,
) {
    let world = World::new(db).await;
    world.script(fault);
    for _ in 0..3 {
        let report = world.sweep().await;
        assert_eq!(report.is_failure(), is_failure, "{report:?}");
        assert_eq!(world.flagged().await, [""; 0]);
    }
    // A day later its data no longer counts, which makes no difference.
    world.engine.clock.advance(TimeDelta::days(1));
    world.sweep().await;
    assert_eq!(world.flagged().await, [""; 0]);
    world.script(|script| {
        *script = Script {
            listed: (0..PEOPLE).map(person).collect(),
            ..Script::default()
        };
    });
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    for number in 0..PEOPLE {
        assert_eq!(world.identity(number).await.0, IdentityStatus::Active);
    }
}

#[rstest]
#[tokio::test]
async fn an_emptied_group_is_held(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::before_first_sweep(db, &["ops"]).await;
    let group = |members| {
        vec![Group {
            name: "ops".to_owned(),
            members,
        }]
    };
    world.script(|script| {
        script
            .listed
            .iter_mut()
            .for_each(|person| person.is_member = Some(true));
        script.groups = group(10);
    });
    world.sweep().await;
    world.script(|script| {
        script.listed[0].is_member = Some(false);
        script.groups = group(4);
    });
    for _ in 0..3 {
        assert!(world.sweep().await.is_failure());
    }
    assert!(world.flagged().await.is_empty());
    let held = world.row().await.held.unwrap();
    assert_eq!(held, "the allowed group \"ops\" has 4 people and had 10");
}

#[rstest]
#[tokio::test]
async fn a_held_change_waits_for_a_decision_and_follows_it(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| script.listed[..4].iter_mut().for_each(disable));
    for _ in 0..2 {
        let report = world.sweep().await;
        assert!(report.is_failure());
        assert_eq!(world.count_mails(), 1, "one alert");
    }
    world.settle(Decision::Rejected).await;
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    assert!(world.flagged().await.is_empty());
    assert_eq!(
        world.identity(0).await,
        (IdentityStatus::Unknown, Some(Reason::Rejected))
    );
    // Others still count, and the rejected people are not held again.
    world.script(|script| disable(&mut script.listed[7]));
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    assert_eq!(world.flagged().await, ["t14", "t15"]);
    // Active again and then disabled again is a new change.
    world.script(|script| {
        script.listed[..4]
            .iter_mut()
            .enumerate()
            .for_each(|(n, listed)| *listed = person(n));
    });
    world.sweep().await;
    world.script(|script| script.listed[..4].iter_mut().for_each(disable));
    assert!(world.sweep().await.is_failure());
    world.settle(Decision::Released).await;
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    assert_eq!(world.flagged().await.len(), 10);
}

#[rstest]
#[tokio::test]
async fn a_decision_covers_the_people_named_and_a_new_hold_is_alerted(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    world.script(|script| script.listed[..4].iter_mut().for_each(disable));
    assert!(world.sweep().await.is_failure());
    world.settle(Decision::Released).await;
    // One of them is active again, and one more is disabled: not enough for the breaker.
    world.script(|script| {
        script.listed[0] = person(0);
        disable(&mut script.listed[5]);
    });
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    let expected = ["t02", "t03", "t04", "t05", "t06", "t07", "t10", "t11"];
    assert_eq!(world.flagged().await, expected);
    assert_eq!(world.count_mails(), 2, "the alert, and the findings");
    world.script(|script| {
        *script = Script {
            listed: (0..PEOPLE).map(person).collect(),
            ..Script::default()
        }
    });
    world.sweep().await;
    world.script(|script| script.listed[..4].iter_mut().for_each(disable));
    assert!(world.sweep().await.is_failure());
    assert_eq!(world.count_mails(), 3);
    world.settle(Decision::Rejected).await;
    world.script(|script| script.listed[4..8].iter_mut().for_each(disable));
    assert!(
        world.sweep().await.is_failure(),
        "these people are not covered by the decision"
    );
    assert_eq!(world.count_mails(), 4);
    assert_eq!(world.flagged().await, [""; 0]);
}

#[rstest]
#[tokio::test]
async fn most_new_people_without_access_are_held(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::before_first_sweep(db, &[]).await;
    world.script(|script| script.listed[..6].iter_mut().for_each(disable));
    assert!(world.sweep().await.is_failure());
    let held = world.row().await.held.unwrap();
    let expected = "6 of 10 people seen for the first time have no access";
    assert_eq!(held, expected);
    assert_eq!(world.flagged().await, [""; 0]);
    world.settle(Decision::Rejected).await;
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    let report = world.sweep().await;
    assert!(!report.is_failure(), "not held again: {report:?}");
    assert_eq!(world.flagged().await, [""; 0]);
    // The operator withdraws the rejection.
    let mut tx = world.engine.store.begin().await.unwrap();
    assert_eq!(tx.clear_rejections("corp").await.unwrap(), 6);
    tx.commit().await.unwrap();
    assert!(world.sweep().await.is_failure());
    world.settle(Decision::Released).await;
    let report = world.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    assert_eq!(world.flagged().await.len(), 12);

    let backlog = World::before_first_sweep(db, &[]).await;
    backlog.script(|script| script.listed[..5].iter_mut().for_each(disable));
    let report = backlog.sweep().await;
    assert!(!report.is_failure(), "{report:?}");
    assert_eq!(backlog.flagged().await.len(), 10);
}

#[rstest]
#[tokio::test]
async fn a_held_listing_is_not_a_good_sync(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let read_at = world.row().await.sync_state.last_good_sync_at;
    world.script(|script| script.listed[..4].iter_mut().for_each(disable));
    assert!(world.sweep().await.is_failure());
    let row = world.row().await;
    assert_eq!(row.sync_state.last_good_sync_at, read_at);
    assert_eq!(row.sync_state.last_sync_at, Some(world.engine.now()));
}

#[rstest]
#[tokio::test]
async fn a_group_that_never_had_members_is_an_error(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::before_first_sweep(db, &["ops"]).await;
    world.script(|script| {
        script.listed.truncate(3);
        script.listed.push(person(9));
        let listed = script.listed.iter_mut();
        listed.for_each(|person| person.is_member = Some(false));
        script.groups = vec![Group::empty("ops".to_owned())];
    });
    for _ in 0..3 {
        assert!(world.sweep().await.is_failure());
    }
    assert_eq!(world.flagged().await, [""; 0]);
}

#[rstest]
#[tokio::test]
async fn a_deferral_until_the_data_is_stale_is_alerted_once(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| script.defers = true);
    assert!(!world.sweep().await.is_failure());
    for mails in [1, 1] {
        world.engine.clock.advance(TimeDelta::days(2));
        assert!(world.sweep().await.is_failure());
        assert_eq!(world.count_mails(), mails);
    }
    world.script(|script| script.defers = false);
    world.engine.clock.advance(TimeDelta::days(1));
    assert!(!world.sweep().await.is_failure());
    assert_eq!(world.count_mails(), 2, "it works again");
}

#[rstest]
#[tokio::test]
async fn stale_data_flags_and_clears_no_one(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| disable(&mut script.listed[2]));
    world.sweep().await;
    assert_eq!(world.flagged().await.len(), 2);
    world.script(|script| script.fails = true);
    world.engine.clock.advance(TimeDelta::days(2));
    let report = world.sweep().await;
    assert!(report.is_failure());
    assert_eq!(world.flagged().await.len(), 2);
    // Resolved in the store, they open again only after a good sync.
    let mut tx = world.engine.store.begin().await.unwrap();
    let now = world.engine.now();
    let rows = tx
        .list_findings(lost_access(), None, now, 10)
        .await
        .unwrap();
    for row in rows {
        tx.resolve_findings(&[row.id], now).await.unwrap();
    }
    tx.set_setting("judge.pending", "test").await.unwrap();
    tx.commit().await.unwrap();
    world.sweep().await;
    assert!(world.flagged().await.is_empty());
    world.script(|script| script.fails = false);
    world.engine.clock.advance(TimeDelta::hours(2));
    world.sweep().await;
    assert_eq!(world.flagged().await.len(), 2);
}

#[rstest]
#[tokio::test]
async fn three_failures_and_the_recovery_are_alerted_once(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| script.fails = true);
    for (sweep, mails) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        assert!(world.sweep().await.is_failure());
        assert_eq!(world.count_mails(), mails, "after {sweep}");
    }
    world.script(|script| script.fails = false);
    for _ in 0..2 {
        world.sweep().await;
        assert_eq!(world.count_mails(), 2);
    }
}

#[rstest]
#[tokio::test]
async fn a_schedule_applies_only_to_scheduled_sweeps(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::before_first_sweep(db, &[]).await;
    let hourly = Schedule::new("0 * * * *", chrono_tz::UTC).unwrap();
    world.engine.directories[0].terms.schedule = Some(hourly);
    world.sweep().await;
    world.script(|script| disable(&mut script.listed[2]));
    world.engine.clock.advance(TimeDelta::minutes(1));
    let stop = CancellationToken::new();
    let scheduled = SweepOptions {
        by_schedule: true,
        ..SweepOptions::default()
    };
    world.engine.sweep(&scheduled, &stop).await;
    assert!(world.flagged().await.is_empty());
    world.engine.clock.advance(TimeDelta::hours(1));
    world.engine.sweep(&scheduled, &stop).await;
    assert_eq!(world.flagged().await, ["t04", "t05"]);
}

#[rstest]
#[case::deleted(gone(), IdentityStatus::Deleted)]
#[case::look_up_is_unclear(Lookup::Unclear("403".to_owned()), IdentityStatus::Unknown)]
#[tokio::test]
async fn an_operator_can_bind_a_person_to_a_new_account(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] looked_up: Lookup,
    #[case] before: IdentityStatus,
) {
    let world = World::before_first_sweep(db, &[]).await;
    let named = |id: &str, name: &str| Person {
        id: Some(id.to_owned()),
        name: Some(name.to_owned()),
        ..person(2)
    };
    world.script(|script| script.listed[2] = named("id-02", "Ada"));
    world.sweep().await;
    let email = address(2).parse().unwrap();
    let stop = CancellationToken::new();
    let rebind = async |directory| {
        world
            .engine
            .rebind_identity(directory, &email, None, "grace", &stop)
            .await
    };
    assert!(
        matches!(rebind("corp").await.unwrap(), UnbindOutcome::NotNeeded(why) if why.contains("is active")),
        "an active person is not unbound"
    );
    assert_eq!(rebind("other").await.unwrap(), UnbindOutcome::NotFound);

    // The address moves to an account with another name.
    world.script(|script| {
        script.listed[2] = named("new", "Ada King");
        script.lookups.insert("id-02".to_owned(), looked_up);
        script.cursor = Some("memory".to_owned());
    });
    world.sweep().await;
    world.sweep().await;
    world.sweep().await;
    assert_eq!(world.identity(2).await.0, before);
    assert_eq!(rebind("corp").await.unwrap(), UnbindOutcome::Done);
    assert_eq!(
        world.row().await.query_digest,
        None,
        "the next sync is a full one"
    );
    assert_eq!(world.row().await.cursor.as_deref(), Some("memory"));
    world.sweep().await;
    assert_eq!(world.identity(2).await, (IdentityStatus::Active, None));
    assert!(world.flagged().await.is_empty());
    let mut tx = world.engine.store.begin_read().await.unwrap();
    let identity = tx
        .find_identity("corp", &address(2))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(identity.account_id.as_deref(), Some("new"));
    let trail = tx
        .list_audit(&AuditFilter::default(), None, 9)
        .await
        .unwrap();
    let entry = (trail[0].actor.as_str(), trail[0].action.as_str());
    assert_eq!((trail.len(), entry), (1, ("grace", "identity.rebind")));
}

#[rstest]
#[tokio::test]
async fn a_preview_lists_held_people_and_writes_nothing(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.script(|script| script.listed[..4].iter_mut().for_each(disable));
    world.sweep().await;
    let before = world.row().await;
    assert!(before.held.is_some());
    let watched = &world.engine.directories[0];
    let preview = world
        .engine
        .directory_sync()
        .preview(watched, false)
        .await
        .unwrap();
    let Preview::Listed(survey) = preview else {
        panic!("it is not deferred")
    };
    let SurveyOutcome::Held { changes, .. } = survey.outcome else {
        panic!("it is still held")
    };
    let held: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.email.clone(),
                change.before,
                change.after,
                change.evidence.as_str(),
            )
        })
        .collect();
    let one = |number| {
        let (active, disabled) = (IdentityStatus::Active, IdentityStatus::Disabled);
        (address(number), Some(active), disabled, "enabled=false")
    };
    assert_eq!(held, [one(0), one(1), one(2), one(3)]);
    assert_eq!(world.row().await, before);
}
