//! Records with cells that cannot be read, from the listing to the mail, on both databases.

use std::sync::Mutex;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lapsed::domain::{Cell, Expiry, ListedToken, SourceTerms, Status, Token, TokenId};
use lapsed::engine::{Report, SweepOptions, WatchedSource};
use lapsed::sources::{
    CheckReport, Error, ExpiryAck, Fetched, LastListing, Listing, ListingBuilder, Source,
};
use lapsed::store::{AuditFilter, FindingFilter, TokenFilter};
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::world::{self, now};
use Db::{Postgres, Sqlite};

/// Lists what a test sets, and records which tokens it is told have expired.
#[derive(Default)]
struct Shop {
    tokens: Mutex<Vec<ListedToken>>,
    marked: Mutex<Vec<String>>,
}

#[async_trait]
impl Source for Shop {
    async fn fetch(&self, _: &LastListing) -> Result<Fetched<Listing>, Error> {
        let mut builder = ListingBuilder::default();
        for token in self.tokens.lock().unwrap().iter() {
            builder.push(token)?;
        }
        Ok(Fetched::New(builder.finish()?))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        Ok(CheckReport::default())
    }

    fn marks_expired(&self) -> bool {
        true
    }

    async fn mark_expired(&self, tokens: &[Token]) -> ExpiryAck {
        let ids = tokens.iter().map(|token| token.external_id.clone());
        self.marked.lock().unwrap().extend(ids);
        ExpiryAck {
            done: tokens.iter().map(|token| token.id).collect(),
            ..ExpiryAck::default()
        }
    }
}

type World = world::World<Shop>;

impl World {
    async fn watching(db: Db) -> Self {
        let mut world = Self::empty(db).await;
        world.engine.sources.push(WatchedSource {
            terms: SourceTerms {
                name: "shop".to_owned(),
                kind: "fake",
                ..SourceTerms::default()
            },
            source: world.fake.clone(),
        });
        world
    }

    async fn sweep(&self, tokens: Vec<ListedToken>) -> Report {
        *self.fake.tokens.lock().unwrap() = tokens;
        world::sweep(&self.engine).await
    }

    async fn token(&self, external_id: &str) -> Token {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let id = TokenId::new("shop", external_id);
        tx.load_tokens(&[id]).await.unwrap().pop().unwrap()
    }

    /// The open findings, as `kind of token: evidence`.
    async fn findings(&self) -> Vec<String> {
        let at = self.engine.clock.now();
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let rows = tx.list_findings(FindingFilter::default(), None, at, 10);
        let rows = rows.await.unwrap().into_iter();
        rows.map(|row| format!("{} of {}: {}", row.kind, row.token_name, row.evidence))
            .collect()
    }

    /// The ids of the tokens that have this status now.
    async fn with_status(&self, status: Status) -> Vec<String> {
        let filter = TokenFilter {
            status: Some(status),
            ..TokenFilter::default()
        };
        let at = self.engine.clock.now();
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let rows = tx.list_tokens(&filter, None, at, 10).await.unwrap();
        rows.into_iter().map(|row| row.token.external_id).collect()
    }
}

fn expiring(id: &str, at: DateTime<Utc>) -> ListedToken {
    ListedToken {
        issuer: Cell::Value("ada@example.org".parse().unwrap()),
        expiry: Cell::Value(Expiry::At(at)),
        ..ListedToken::with_id(id)
    }
}

fn unreadable(id: &str) -> ListedToken {
    let reason = "\"12/01/2027\" has two readings; set date_format".to_owned();
    ListedToken {
        expiry: Cell::Absent,
        unreadable: [("expires_at".to_owned(), reason)].into(),
        ..expiring(id, now())
    }
}

#[rstest]
#[tokio::test]
async fn by_a_date_that_cannot_be_read_any_more_no_token_expires(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::watching(db).await;
    let ends_at = now() + TimeDelta::days(20);
    world.sweep(vec![expiring("ci", ends_at)]).await;
    assert_eq!(world.findings().await, [""; 0]);

    let report = world.sweep(vec![unreadable("ci")]).await;
    assert!(!report.is_failure(), "{report:?}");
    assert_eq!(
        world.findings().await,
        ["unreadable of ci: expires_at \"12/01/2027\" has two readings; set date_format"]
    );
    assert_eq!(world.token("ci").await.expiry, Expiry::At(ends_at));
    let mails = world.take_mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(mails[0].contains("The source shop reports cells that cannot be read"));
    assert!(mails[0].contains("To: boss@example.org"));

    // Warnings by the old date go on, and the mail about the cell is not repeated.
    world.engine.clock.advance(TimeDelta::days(14));
    world.sweep(vec![unreadable("ci")]).await;
    let mails = world.take_mails();
    assert_eq!(mails.len(), 2, "the issuer and the admin: {mails:?}");
    assert!(mails.iter().all(|mail| mail.contains("expires in 6 days")));
    world.engine.clock.advance(TimeDelta::days(7));
    world.sweep(vec![unreadable("ci")]).await;
    assert_eq!(world.token("ci").await.status, Status::Active);
    assert_eq!(world.with_status(Status::Active).await, ["ci"]);
    assert_eq!(world.with_status(Status::Expired).await, [""; 0]);
    assert_eq!(*world.fake.marked.lock().unwrap(), [""; 0]);

    // It can be read again: it has expired.
    world.sweep(vec![expiring("ci", ends_at)]).await;
    assert_eq!(world.token("ci").await.status, Status::Expired);
    assert_eq!(world.with_status(Status::Expired).await, ["ci"]);
    assert_eq!(world.findings().await, [""; 0]);
    world.engine.clock.advance(TimeDelta::minutes(1));
    world.sweep(vec![expiring("ci", ends_at)]).await;
    assert_eq!(*world.fake.marked.lock().unwrap(), ["ci"]);
}

#[rstest]
#[tokio::test]
async fn a_column_that_half_of_the_records_lose_fails_the_sync(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::watching(db).await;
    let ends_at = now() + TimeDelta::days(200);
    let listing = |unreadable_ones: u32| {
        let token = |n| match format!("k-{n:02}") {
            id if n < unreadable_ones => unreadable(&id),
            id => expiring(&id, ends_at),
        };
        (0..20).map(token).collect::<Vec<_>>()
    };
    world.sweep(listing(0)).await;
    let report = world.sweep(listing(9)).await;
    assert!(!report.is_failure(), "{report:?}");
    let report = world.sweep(listing(10)).await;
    let problem = &report.problems[0];
    assert!(
        problem.contains("expires_at cannot be read in 10 of 20 records"),
        "{problem}"
    );
    assert!(world.token("k-09").await.unreadable.is_empty());

    let accept = SweepOptions {
        accept_shrink: vec!["shop".to_owned()],
        ..SweepOptions::default()
    };
    let report = world.engine.sweep(&accept, &CancellationToken::new()).await;
    assert!(!report.is_failure(), "{report:?}");
    assert!(!world.token("k-09").await.unreadable.is_empty());
    let mut tx = world.engine.store.begin_read().await.unwrap();
    let audit = tx
        .list_audit(&AuditFilter::default(), None, 1)
        .await
        .unwrap();
    assert_eq!(
        audit[0].reason.as_deref(),
        Some("expires_at unreadable in 10 of 20 records")
    );
}

#[rstest]
#[tokio::test]
async fn a_source_most_of_whose_tokens_have_no_known_expiry_is_a_finding(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::watching(db).await;
    let ends_at = now() + TimeDelta::days(200);
    let without = |id: &str| ListedToken::with_id(id);
    world
        .sweep(vec![expiring("a", ends_at), without("b")])
        .await;
    assert_eq!(world.findings().await, [""; 0]);
    let three = vec![expiring("a", ends_at), without("b"), without("c")];
    world.sweep(three).await;
    assert_eq!(
        world.findings().await,
        [
            "unknown_expiry of shop: 2 of 3 active tokens have no known expiry, so no one is warned about them"
        ]
    );
    let two = vec![expiring("a", ends_at), expiring("b", ends_at), without("c")];
    world.sweep(two).await;
    assert_eq!(world.findings().await, [""; 0]);
}
