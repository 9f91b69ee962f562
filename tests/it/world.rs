//! The world of one test of the engine: a store, a manual clock, a folder for the mails, and a source or directory
//! that the test scripts. Tests change what matters to them.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::domain::{Backoff, Issuers, PersonalTimes, Policy, Rules, Schedule};
use lapsed::engine::{
    Delivery, Engine, LastPurge, Mailer, Report, Retention, Settings, SweepOptions, new_id,
};
use lapsed::notify::message::{MailIdentity, Writer};
use lapsed::notify::template::Templates;
use lapsed::notify::transport::Outbox;
use lapsed::notify::transport::Transport;
use lapsed::notify::view::Installation;
use lapsed::store::Store;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::db::{Db, Fresh};

/// When its clock starts.
pub fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

pub struct World<Fake> {
    pub engine: Engine,
    /// What the engine watches.
    pub fake: Arc<Fake>,
    outbox: TempDir,
    fresh: Fresh,
}

impl<Fake: Default> World<Fake> {
    /// The engine watches nothing yet.
    pub async fn empty(db: Db) -> Self {
        let (store, fresh) = db.store().await;
        let outbox = tempfile::tempdir().unwrap();
        let mut engine = engine(&store, outbox.path());
        engine.policy.admins = vec!["boss@example.org".parse().unwrap()];
        let fake = Arc::default();
        Self {
            engine,
            fake,
            outbox,
            fresh,
        }
    }

    pub fn database(&self) -> &Fresh {
        &self.fresh
    }

    pub fn count_mails(&self) -> usize {
        std::fs::read_dir(self.outbox.path()).unwrap().count()
    }

    /// Takes the mails written since the last call.
    pub fn take_mails(&self) -> Vec<String> {
        let mut mails = Vec::new();
        for file in std::fs::read_dir(self.outbox.path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // Long lines are broken in transit.
            mails.push(text.replace("=\r\n", "").replace("=3D", "="));
            std::fs::remove_file(path).unwrap();
        }
        mails.sort();
        mails
    }
}

/// An engine that watches nothing and notifies no administrator.
pub fn engine(store: &Store, outbox: &Path) -> Engine {
    Engine {
        store: store.clone(),
        clock: Clock::manual(now()),
        policy: policy(),
        settings: settings(),
        mailer: mailer(outbox),
        sources: Vec::new(),
        directories: Vec::new(),
        issuers: Issuers::default(),
        holder: new_id(now()),
        last_purge: LastPurge::default(),
        is_patient: false,
        on_progress: Box::new(|| ()),
        on_delivery: Box::new(|| ()),
    }
}

/// Sweeps with the default options, and checks that a dry run predicts what the sweep does.
pub async fn sweep(engine: &Engine) -> Report {
    let stop = CancellationToken::new();
    let options = SweepOptions::default();
    let predicted = engine.dry_run(&options, &stop).await.unwrap().report;
    let report = engine.sweep(&options, &stop).await;
    let elapsed_ms = report.elapsed_ms;
    let timeless = |report: Report| Report {
        elapsed_ms,
        ..report
    };
    assert_eq!(timeless(predicted), report, "the dry run is wrong");
    report
}

/// Warns a week and a day ahead, without merging and without a limit.
fn policy() -> Policy {
    Policy {
        source_steps: [].into(),
        steps: vec!["7d".parse().unwrap(), "1d".parse().unwrap()],
        merge_ahead: TimeDelta::zero(),
        admin_digest: None,
        zone: chrono_tz::UTC,
        admins: Vec::new(),
        accounts: [].into(),
        max_per_sweep: 0,
        rules: Rules::default(),
        personal: PersonalTimes::default(),
    }
}

/// The defaults, without the summary.
fn settings() -> Settings {
    let days = TimeDelta::days;
    Settings {
        sweep: Schedule::new("* * * * *", chrono_tz::UTC).unwrap(),
        summary: None,
        response: None,
        follow_directories: false,
        admin_role: None,
        delivery: Delivery {
            lease: TimeDelta::seconds(30),
            backoff: Backoff {
                min: TimeDelta::minutes(1),
                max: TimeDelta::hours(6),
            },
            give_up: days(5),
            connections: 1,
            messages_per_connection: 0,
            mails_per_second: None,
        },
        retention: Retention {
            gone_tokens: days(400),
            notices: days(400),
            findings: days(400),
            runs: days(90),
            audit: days(1095),
        },
    }
}

/// Writes mails to files in this folder.
fn mailer(outbox: &Path) -> Arc<Mailer> {
    let mail_identity = MailIdentity {
        from: "API tokens <tokens@example.org>".parse().unwrap(),
        reply_to: None,
        installation: Installation::default(),
    };
    Arc::new(Mailer::new(
        Writer::new(mail_identity),
        Transport::File(Outbox::open(outbox).unwrap()),
        Templates::load(None).unwrap(),
    ))
}
