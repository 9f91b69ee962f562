//! `lapsed explain`: why a notice was, or was not, sent.

use std::collections::HashMap;
use std::io::{self, Write};

use chrono::{DateTime, Utc};

use super::{
    Context,
    args::{Explain, Format},
    exit::Exit,
    lookup,
    output::{
        Sheet, View, rows, show,
        when::{Instant, when},
    },
    setup::{self, store_failure},
    steps::{goes_at, is_at, is_held, is_of, untold, was_seen_expired},
};
use crate::domain::{
    Address, Expiry, ExpiryOrigin, FindingKind, FindingState, Ground, NewNotice, NoticeState,
    Policy, Prospect, Recipient, Status, Step, StepOutlook, Token, TokenRef, ToldAdmins, foresee,
};
use crate::engine::DEAD_FOR;
use crate::store::{FindingRow, NoticeRow, Store};

pub(super) async fn explain(context: &Context, args: Explain) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let now = context.clock.now();
    let policy = setup::policy(&config);
    let case = Case::read(&store, &args.id, policy, now).await?;
    let domain = config.notify.from.email.domain();
    print(&case, domain, View::of_stdout(now), io::stdout())?;
    store.close().await;
    Ok(Exit::Ok)
}

pub(super) fn print(case: &Case, domain: &str, view: View, out: impl Write) -> anyhow::Result<()> {
    let nothing: (&(), &[&str]) = (&(), &[]);
    Ok(show(Format::Table, view, out, nothing, |sheet| {
        case.write_to(sheet, domain);
    })?)
}

/// Everything that decides about the notices of one token.
pub(super) struct Case {
    token: Token,
    policy: Policy,
    notices: Vec<NoticeRow>,
    /// The open finding that the issuer lost access.
    lost: Option<FindingRow>,
    /// Dead mailboxes and what was said of them.
    dead: HashMap<String, String>,
    /// Administrators of its account whom its source tells of.
    told: ToldAdmins,
    now: DateTime<Utc>,
}

impl Case {
    pub(super) async fn read(
        store: &Store,
        reference: &TokenRef,
        policy: Policy,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let mut tx = store.read().await.map_err(store_failure)?;
        let token = lookup::token(&mut tx, reference).await?;
        let notices = tx.notices_about(&[token.id]).await.map_err(store_failure)?;
        let findings = tx.findings_of(token.id, now).await.map_err(store_failure)?;
        let dead = tx
            .dead_addresses(now - DEAD_FOR)
            .await
            .map_err(store_failure)?;
        let told = tx
            .told_admins(std::slice::from_ref(&token))
            .await
            .map_err(store_failure)?;
        let lost = findings.into_iter().find(|finding| {
            finding.kind == FindingKind::SsoRevoked.as_str()
                && finding.state != FindingState::Resolved.as_str()
        });
        Ok(Self {
            token,
            policy,
            notices,
            lost,
            dead: dead.into_iter().collect(),
            told,
            now,
        })
    }

    fn write_to(&self, sheet: &mut Sheet, domain: &str) {
        let token = &self.token;
        sheet.title(super::output::text::name(token.label()).as_str());
        sheet.say(&format!(
            "{}/{}, {}",
            token.source, token.external_id, token.id
        ));
        sheet.say(&self.standing());
        sheet.title("Who is told");
        self.write_people(sheet);
        let foreseen = self.foreseen();
        for outlook in self.policy.outlook(token) {
            sheet.title(&format!(
                "{} before: {}",
                outlook.step,
                self.when(outlook.at)
            ));
            self.write_step(sheet, outlook, &foreseen, domain);
        }
        self.write_others(sheet, domain);
        sheet.title("Next");
        sheet.say(&self.next());
    }

    /// What the token is, and what follows from that for all warnings.
    fn standing(&self) -> String {
        let token = &self.token;
        let status = token.status_at(self.now);
        let is_ours = token.expiry_origin == Some(ExpiryOrigin::Policy);
        match (token.expiry, status) {
            (_, Status::Disabled | Status::Revoked | Status::Gone) => {
                format!("The token is {status}: nobody is owed a warning about it.")
            }
            (Expiry::Never, _) => "It never expires, so there is nothing to warn of.".to_owned(),
            (Expiry::Unknown, _) => {
                "Its source does not say when it expires, so nobody can be warned.".to_owned()
            }
            (Expiry::At(at), Status::Expired) if was_seen_expired(token) => {
                format!(
                    "It expired {}, before lapsed first saw it: it is marked, and nobody is told.",
                    self.when(at)
                )
            }
            (Expiry::At(at), Status::Expired) if is_ours => format!(
                "It passed the date that our policy gives it {}. Its source gives it no end, so it works on.",
                self.when(at)
            ),
            (Expiry::At(at), Status::Active) if is_ours => format!(
                "It is active. Its source gives it no end; our policy does {}, and it works on after that.",
                self.when(at)
            ),
            (Expiry::At(at), Status::Expired) => format!("It expired {}.", self.when(at)),
            (Expiry::At(at), Status::Active) => {
                format!("It is active and expires {}.", self.when(at))
            }
        }
    }

    /// Everybody whom the rules name, whether he is told or left out, and why.
    fn write_people(&self, sheet: &mut Sheet) {
        let named = self
            .policy
            .recipients(&self.token, &self.told, false, &|_| false);
        let told = self.recipients();
        for Recipient { address, ground } in &named {
            let ground = match ground {
                Ground::Issuer => "the issuer",
                Ground::AccountAdmin if self.told.of(&self.token).contains(address) => {
                    "administers the account, as its source tells"
                }
                Ground::AccountAdmin => "administers the account",
                Ground::Admin => "one of [notify] admins",
            };
            let is_told = told.iter().any(|recipient| recipient.address == *address);
            let why = match (is_told, self.dead.get(address.key()), &self.lost) {
                (true, ..) => String::new(),
                (false, Some(reason), _) => {
                    format!("; left out, the mailbox was refused: {reason}")
                }
                (false, None, Some(lost)) => {
                    format!("; left out, access is lost: {}", lost.evidence)
                }
                (false, None, None) => "; left out".to_owned(),
            };
            sheet.say(&format!("{address}: {ground}{why}"));
        }
        if self.token.issuer.is_none() {
            sheet.say("the token has no known issuer");
        }
        if told.is_empty() {
            sheet.say(
                "nobody is left to be told: set [notify] admins, or the admins of its [[account]]",
            );
        }
    }

    /// Who is told of what is planned from now on.
    fn recipients(&self) -> Vec<Recipient> {
        let is_dead = |address: &Address| self.dead.contains_key(address.key());
        self.policy
            .recipients(&self.token, &self.told, self.lost.is_some(), &is_dead)
    }

    /// The warnings that are still to be planned.
    fn foreseen(&self) -> Vec<NewNotice> {
        let foreseen = foresee(&self.token, &self.recipients(), &self.policy, self.now);
        foreseen.into_iter().flatten().collect()
    }

    /// One step: what became of it for everybody who was, is or will be told.
    fn write_step(
        &self,
        sheet: &mut Sheet,
        outlook: StepOutlook,
        foreseen: &[NewNotice],
        domain: &str,
    ) {
        let StepOutlook { step, prospect, .. } = outlook;
        let mut told = Vec::new();
        for notice in self
            .of_present_expiry()
            .filter(|notice| is_at(notice, step))
        {
            sheet.say(&format!(
                "{}: {}",
                notice.recipient,
                self.fate(notice, domain)
            ));
            told.push(notice.recipient.to_lowercase());
        }
        if matches!(prospect, Prospect::TooWide) || self.token.status_at(self.now) != Status::Active
        {
            if told.is_empty() {
                sheet.say(&untold(&self.token, step, prospect, self.now));
            }
            return;
        }
        let recipients = self.recipients();
        for Recipient { address, .. } in &recipients {
            if !told.iter().any(|key| key == address.key()) {
                let fate = self.fate_without(address, outlook, foreseen);
                sheet.say(&format!("{address}: {fate}"));
            }
        }
        if told.is_empty() && recipients.is_empty() {
            sheet.say(&untold(&self.token, step, prospect, self.now));
        }
    }

    /// Why somebody has no notice of a step.
    fn fate_without(
        &self,
        address: &Address,
        outlook: StepOutlook,
        foreseen: &[NewNotice],
    ) -> String {
        let StepOutlook { step, prospect, .. } = outlook;
        let his = |notice: &&NewNotice| notice.recipient == *address;
        match prospect {
            Prospect::Open { plan_at } => {
                match foreseen
                    .iter()
                    .filter(his)
                    .find(|notice| notice.step == Some(step))
                {
                    Some(notice) if notice.send_at <= self.now => {
                        "due now: the next sweep plans and sends it".to_owned()
                    }
                    Some(notice) => {
                        let planned = Instant(plan_at.max(self.now));
                        format!(
                            "will be planned {} to go {}",
                            when(planned, self.now),
                            self.when(notice.send_at)
                        )
                    }
                    None => {
                        "will be settled by a tighter step that is due at the same time".to_owned()
                    }
                }
            }
            Prospect::Planned => {
                let key = address.key();
                let tighter = self.of_present_expiry().filter(|notice| {
                    notice.recipient.to_lowercase() == key
                        && notice.step.is_some_and(|seconds| seconds < step.seconds())
                });
                match tighter.filter_map(|notice| notice.step).max() {
                    Some(tighter) => {
                        format!("settled by the tighter step {}, which was due by then", Step::from_seconds(tighter))
                    }
                    None if was_seen_expired(&self.token) => {
                        "nothing: the token was first seen already expired".to_owned()
                    }
                    None => {
                        "nothing: not among the recipients when this step was planned; told from the next step on"
                            .to_owned()
                    }
                }
            }
            Prospect::TooWide => untold(&self.token, step, prospect, self.now),
        }
    }

    /// What became of a notice.
    fn fate(&self, notice: &NoticeRow, domain: &str) -> String {
        let reason = notice.reason.as_deref().unwrap_or("no reason was given");
        let message_id = rows::NoticeRow::stored(notice, domain)
            .ok()
            .and_then(|row| row.message_id);
        let message_id = message_id.map(|id| format!(" as {id}")).unwrap_or_default();
        let Ok(state) = notice.state.parse() else {
            return notice.state.clone();
        };
        match state {
            NoticeState::Sent => {
                let at = notice.sent_at.map(|at| self.when(at)).unwrap_or_default();
                format!("sent {at}{message_id}")
            }
            NoticeState::Planned if is_held(notice) => {
                "held: its sweep planned more mails than [notify] max_per_sweep; `lapsed release` lets it go".to_owned()
            }
            NoticeState::Planned if notice.attempts > 0 => format!(
                "put off until {} after {}: {reason}",
                self.when(goes_at(notice)),
                attempts(notice.attempts)
            ),
            NoticeState::Planned if notice.send_at <= self.now || notice.mail_id.is_some() => {
                "planned and due: goes with the next sweep".to_owned()
            }
            NoticeState::Planned => format!("planned, goes {}", self.when(notice.send_at)),
            NoticeState::Sending => format!("being sent now{message_id}"),
            NoticeState::Unknown => format!(
                "in doubt, it may have arrived{message_id}: {reason}; sent again {}",
                self.when(goes_at(notice))
            ),
            NoticeState::Failed => format!("failed: {reason}"),
            NoticeState::Cancelled => format!("cancelled: {reason}"),
            NoticeState::Suppressed => format!("not sent: {reason}"),
        }
    }

    /// Notices about anything but the configured steps of the present expiry.
    fn write_others(&self, sheet: &mut Sheet, domain: &str) {
        let steps: Vec<i64> = self
            .policy
            .steps
            .iter()
            .map(|step| step.seconds())
            .collect();
        let is_present = |notice: &NoticeRow| {
            self.token.expiry.at().is_some_and(|at| is_of(notice, at))
                && notice.step.is_some_and(|step| steps.contains(&step))
        };
        let others: Vec<_> = self
            .notices
            .iter()
            .filter(|notice| !is_present(notice))
            .collect();
        if !others.is_empty() {
            sheet.title("Other notices");
        }
        for notice in others {
            let about = match notice.step {
                Some(step) => {
                    format!(
                        "{} before {}",
                        Step::from_seconds(step),
                        self.when(notice.generation)
                    )
                }
                None => notice.topic.clone(),
            };
            sheet.say(&format!(
                "{about}, {}: {}",
                notice.recipient,
                self.fate(notice, domain)
            ));
        }
    }

    fn of_present_expiry(&self) -> impl Iterator<Item = &NoticeRow> {
        let expires_at = self.token.expiry.at();
        self.notices
            .iter()
            .filter(move |notice| expires_at.is_some_and(|at| is_of(notice, at)))
    }

    /// When lapsed looks at the token next.
    fn next(&self) -> String {
        match self.token.due_at {
            Some(due_at) if due_at <= self.now => "The next sweep looks at it.".to_owned(),
            Some(due_at) => format!("lapsed looks at it again {}.", self.when(due_at)),
            None => "Nothing more is due, unless its source says something new.".to_owned(),
        }
    }

    fn when(&self, at: DateTime<Utc>) -> String {
        when(Instant(at), self.now)
    }
}

fn attempts(count: i64) -> String {
    if count == 1 {
        "1 attempt".to_owned()
    } else {
        format!("{count} attempts")
    }
}
