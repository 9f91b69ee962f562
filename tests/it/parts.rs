//! Parts of an engine that writes its mails to files; tests change what matters to them.

use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
use lapsed::domain::{Backoff, Policy, Rules, Schedule};
use lapsed::engine::{Delivery, Mailer, Retention, Settings};
use lapsed::notify::message::{MailIdentity, Writer};
use lapsed::notify::outbox::Outbox;
use lapsed::notify::template::Templates;
use lapsed::notify::transport::Transport;
use lapsed::notify::view::Installation;

/// Warns a week and a day ahead, without merging and without a limit.
pub fn policy() -> Policy {
    Policy {
        steps: vec!["7d".parse().unwrap(), "1d".parse().unwrap()],
        merge_ahead: TimeDelta::zero(),
        admin_digest: None,
        zone: chrono_tz::UTC,
        admins: Vec::new(),
        accounts: [].into(),
        max_per_sweep: 0,
        rules: Rules::default(),
    }
}

/// The defaults, without the summary.
pub fn settings() -> Settings {
    let days = TimeDelta::days;
    Settings {
        sweep: Schedule::new("* * * * *", chrono_tz::UTC).unwrap(),
        summary: None,
        response: None,
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
pub fn mailer(outbox: &Path) -> Arc<Mailer> {
    let mail_identity = MailIdentity {
        from: "API tokens <tokens@example.org>".parse().unwrap(),
        reply_to: None,
        installation: Installation { base_url: None },
    };
    Arc::new(Mailer::new(
        Writer::new(mail_identity),
        Transport::File(Outbox::open(outbox).unwrap()),
        Templates::load(None).unwrap(),
    ))
}
