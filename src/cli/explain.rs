//! `lapsed explain`: why the notices of a token were or were not sent.

mod person;

use std::collections::HashMap;
use std::io::{self, Write as _};

use chrono::{DateTime, Utc};

use super::args::Explain;
use super::exit::{Exit, Result};
use super::notice::message_id;
use super::output::when::{format_expiry, format_when};
use super::output::{self, Sheet, View};
use super::setup::{self, Mode};
use super::steps::{
    is_about_expiry, is_about_step, no_notice_reason, send_time, was_first_seen_expired,
};
use super::{Context, query};
use crate::domain::{
    AccountAdmins, Address, Basis, Expiry, ExpiryOrigin, FindingKind, FindingState, NewNotice,
    NoticeState, Policy, Recipient, Status, Step, StepOutlook, StepState, Token, Wishes, column,
    forecast_notices,
};
use crate::engine::DEAD_ADDRESS_TTL;
use crate::store::{FindingRow, NoticeRow, Store};
use crate::time::shift;

pub(super) async fn explain(context: &Context, args: Explain) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    let now = context.clock.now();
    let policy = config.policy.clone();
    let domain = config.mail_identity.from.email.domain();
    let view = View::for_stdout(now, config.policy.zone);
    let text = setup::with_store(&config, Mode::Read, async |store| {
        if let Some(page) = person::find_page(store, &args.id, domain, view).await? {
            return Ok(page);
        }
        let explanation = Explanation::load(store, &args.id, policy, now).await?;
        Ok(explanation.page(domain, view))
    })
    .await?;
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(output::Error::from)?;
    Ok(Exit::Ok)
}

/// Everything that decides about the notices of one token.
pub(super) struct Explanation {
    token: Token,
    policy: Policy,
    notices: Vec<NoticeRow>,
    /// The open finding that the issuer lost access.
    lost: Option<FindingRow>,
    lost_owners: Vec<Address>,
    /// Dead addresses with the server's reply.
    dead: HashMap<String, String>,
    /// The administrators of the token's account, as its source reports them.
    account_admins: AccountAdmins,
    wishes: Wishes,
    /// Whether its source has not been configured for so long that no one is warned.
    is_silent: bool,
    now: DateTime<Utc>,
}

impl Explanation {
    pub(super) async fn load(
        store: &Store,
        token: &str,
        policy: Policy,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let mut tx = store.begin_read().await?;
        let token = query::look_up_token(&mut tx, token).await?;
        let notices = tx.list_notices_of_tokens(&[token.id]).await?;
        let findings = tx.list_findings_of_token(token.id, now).await?;
        let dead = tx
            .load_dead_addresses(shift(now, -DEAD_ADDRESS_TTL))
            .await?;
        let account_admins = tx.load_account_admins(std::slice::from_ref(&token)).await?;
        let wishes = tx.load_all_wishes().await?;
        let policy = Policy {
            personal: tx.load_personal_times().await?,
            ..policy
        };
        let is_silent = tx.list_silent_sources(now).await?.contains(&token.source);
        let tokens = std::slice::from_ref(&token);
        let mut lost_owners = tx.load_lost_owners(tokens).await?;
        let lost = findings.into_iter().find(|finding| {
            finding.kind == FindingKind::SsoRevoked && finding.state != FindingState::Resolved
        });
        Ok(Self {
            policy,
            notices,
            lost,
            lost_owners: lost_owners.remove(&token.id).unwrap_or_default(),
            token,
            dead: dead.into_iter().collect(),
            account_admins,
            wishes,
            is_silent,
            now,
        })
    }

    /// The page for people. `domain` is the domain of `[notify] from`, which Message-IDs end with.
    pub(super) fn page(&self, domain: &str, view: View) -> String {
        let token = &self.token;
        let mut sheet = Sheet::new(view);
        sheet.section(crate::text::clean_name(token.label()).as_str());
        sheet.text(&format!(
            "{}/{}, {}",
            token.source, token.external_id, token.id
        ));
        sheet.text(&self.token_status_line());
        if self.is_silent {
            sheet.text(
                "Its source has not been configured for more than 7 days: no more warnings are planned.",
            );
        }
        sheet.section("Recipients");
        self.write_recipients(&mut sheet);
        let future = self.future_notices();
        for outlook in self.policy.outlook(token) {
            let at = self.format_when(outlook.at);
            sheet.section(&format!("{} before: {at}", outlook.step));
            self.write_step(&mut sheet, outlook, &future, domain);
        }
        self.write_other_notices(&mut sheet, domain);
        sheet.section("Next");
        sheet.text(&self.next_due_line());
        sheet.into_text()
    }

    /// The status of the token, and what follows from it for all warnings.
    fn token_status_line(&self) -> String {
        let token = &self.token;
        let status = token.status_at(self.now);
        let is_ours = token.expiry_origin == Some(ExpiryOrigin::Policy);
        let expires = token.expires();
        let expires = expires.map(|when| format_expiry(when, self.now, self.policy.zone));
        let expires = expires.unwrap_or_default();
        match (token.expiry, status) {
            (_, Status::Disabled | Status::Revoked | Status::Gone) => {
                format!("The token is {status}: no warnings are sent about it.")
            }
            (Expiry::Never, _) => "It never expires, so there is nothing to warn about.".to_owned(),
            (Expiry::Unknown, _) => {
                "Its source does not say when it expires, so no warnings can be sent.".to_owned()
            }
            (Expiry::At(_), Status::Expired) if was_first_seen_expired(token) => {
                format!(
                    "It expired {expires}, before lapsed first saw it: it is marked, and no mail is sent."
                )
            }
            (Expiry::At(_), Status::Expired) if is_ours => format!(
                "The expiry that your policy sets has passed: {expires}. Its source sets no expiry, so it still works."
            ),
            (Expiry::At(_), Status::Active) if token.has_outdated_expiry() => format!(
                "It is active. The expiry that its source reports now cannot be read; warnings go on by the last one: \
                 {expires}."
            ),
            (Expiry::At(_), Status::Active) if is_ours => format!(
                "It is active. Its source sets no expiry; your policy sets one: {expires}. It still works after that."
            ),
            (Expiry::At(_), Status::Expired) => format!("It expired {expires}."),
            (Expiry::At(_), Status::Active) => format!("It is active and expires {expires}."),
        }
    }

    /// All recipients by the rules, and why some of them are left out.
    fn write_recipients(&self, sheet: &mut Sheet) {
        let named = self
            .policy
            .recipients(&self.token, &self.account_admins, &[], &|_| false);
        let notified = self.recipients();
        for Recipient { address, basis } in &named {
            let basis = match basis {
                Basis::Issuer if self.token.issuer.as_ref() == Some(address) => "the issuer",
                Basis::Issuer => "another owner",
                Basis::AccountAdmin
                    if self.account_admins.for_token(&self.token).contains(address) =>
                {
                    "administers the account, as its source reports"
                }
                Basis::AccountAdmin => "administers the account",
                Basis::Admin => "one of [notify] admins",
            };
            let is_notified = notified
                .iter()
                .any(|recipient| recipient.address == *address);
            let why = match (is_notified, self.dead.get(address.key()), &self.lost) {
                (true, ..) => String::new(),
                _ if self.is_silent => "; left out, the source is not configured".to_owned(),
                (false, Some(reason), _) => {
                    format!("; left out, the mail server refused the address: {reason}")
                }
                (false, None, Some(lost)) => {
                    format!("; left out, access is lost: {}", lost.evidence)
                }
                (false, None, None) if self.lost_owners.contains(address) => {
                    "; left out, access is lost".to_owned()
                }
                (false, None, None) => "; left out".to_owned(),
            };
            sheet.text(&format!("{address}: {basis}{why}"));
        }
        match self.token.unreadable.get(column::ISSUER) {
            Some(reason) => sheet.text(&format!(
                "its source names an issuer that could not be read: {reason}"
            )),
            None if self.token.issuer.is_none() => sheet.text("the token has no known issuer"),
            None => {}
        }
        if notified.is_empty() && !self.is_silent {
            sheet.text(
                "no recipient is left: set [notify] admins, or the admins of its [[account]]",
            );
        }
    }

    /// The recipients of what is planned from now on.
    fn recipients(&self) -> Vec<Recipient> {
        if self.is_silent {
            return Vec::new();
        }
        let is_dead = |address: &Address| self.dead.contains_key(address.key());
        self.policy.recipients(
            &self.token,
            &self.account_admins,
            &self.lost_owners,
            &is_dead,
        )
    }

    fn future_notices(&self) -> Vec<NewNotice> {
        let recipients = self.recipients();
        let forecast = forecast_notices(
            &self.token,
            &recipients,
            &self.wishes,
            &self.policy,
            self.now,
        );
        forecast
            .into_iter()
            .filter_map(|warning| warning.notice)
            .collect()
    }

    /// One step, with the outcome for each past, present and future recipient.
    fn write_step(
        &self,
        sheet: &mut Sheet,
        outlook: StepOutlook,
        future: &[NewNotice],
        domain: &str,
    ) {
        let StepOutlook { step, state, .. } = outlook;
        let mut shown = Vec::new();
        for notice in self
            .notices_of_current_expiry()
            .filter(|notice| is_about_step(notice, step))
        {
            let outcome = self.notice_outcome(notice, domain);
            sheet.text(&format!("{}: {outcome}", notice.recipient));
            shown.push(notice.recipient.key().to_owned());
        }
        if matches!(state, StepState::TooWide) || self.token.status_at(self.now) != Status::Active {
            if shown.is_empty() {
                sheet.text(&no_notice_reason(&self.token, step, state, self.now));
            }
            return;
        }
        let recipients = self.recipients();
        for Recipient { address, .. } in &recipients {
            if !shown.iter().any(|key| key == address.key()) {
                let outcome = self.outcome_without_notice(address, outlook, future);
                sheet.text(&format!("{address}: {outcome}"));
            }
        }
        if shown.is_empty() && recipients.is_empty() {
            sheet.text(&no_notice_reason(&self.token, step, state, self.now));
        }
    }

    /// Why a recipient has no notice of a step yet.
    fn outcome_without_notice(
        &self,
        address: &Address,
        outlook: StepOutlook,
        future: &[NewNotice],
    ) -> String {
        let StepOutlook { step, state, .. } = outlook;
        let is_theirs = |notice: &&NewNotice| notice.recipient == *address;
        match state {
            StepState::Open { plan_at } => {
                match future
                    .iter()
                    .filter(is_theirs)
                    .find(|notice| notice.step == Some(step))
                {
                    Some(notice) if notice.send_at <= self.now => {
                        "due now: the next sweep plans and sends it".to_owned()
                    }
                    Some(notice) => {
                        format!(
                            "will be planned {}, to be sent {}",
                            self.format_when(plan_at.max(self.now)),
                            self.format_when(notice.send_at)
                        )
                    }
                    None => {
                        "will be covered by a tighter step that is due at the same time".to_owned()
                    }
                }
            }
            StepState::Planned => {
                let key = address.key();
                let tighter = self.notices_of_current_expiry().filter(|notice| {
                    notice.recipient.key() == key
                        && notice.step.is_some_and(|seconds| seconds < step.seconds())
                });
                match tighter.filter_map(|notice| notice.step).max() {
                    Some(tighter) => {
                        format!("covered by the tighter step {}, which was due by then", Step::from_seconds(tighter))
                    }
                    None if was_first_seen_expired(&self.token) => {
                        "nothing: the token had expired when lapsed first saw it".to_owned()
                    }
                    None => {
                        "nothing: not a recipient when this step was planned; notified from the next step on"
                            .to_owned()
                    }
                }
            }
            StepState::TooWide => no_notice_reason(&self.token, step, state, self.now),
        }
    }

    fn notice_outcome(&self, notice: &NoticeRow, domain: &str) -> String {
        let reason = notice.reason.as_deref().unwrap_or("no reason is recorded");
        let message_id = message_id(notice, domain)
            .map(|id| format!(" as {id}"))
            .unwrap_or_default();
        match notice.state {
            NoticeState::Sent => {
                let at = notice.sent_at.map(|at| self.format_when(at)).unwrap_or_default();
                format!("sent {at}{message_id}")
            }
            NoticeState::Planned if notice.held => {
                "held: its sweep planned more mails than [notify] max_per_sweep; `lapsed release` sends it".to_owned()
            }
            NoticeState::Planned if notice.attempts > 0 => format!(
                "deferred until {} after {}: {reason}",
                self.format_when(send_time(notice)),
                attempts(notice.attempts)
            ),
            NoticeState::Planned if notice.send_at <= self.now || notice.mail_id.is_some() => {
                "planned and due: the next sweep sends it".to_owned()
            }
            NoticeState::Planned => format!("planned, to be sent {}", self.format_when(notice.send_at)),
            NoticeState::Sending => format!("being sent now{message_id}"),
            NoticeState::Unknown => format!(
                "unknown, it may have arrived{message_id}: {reason}; sent again {}",
                self.format_when(send_time(notice))
            ),
            NoticeState::Failed => format!("failed: {reason}"),
            NoticeState::Cancelled => format!("cancelled: {reason}"),
            NoticeState::Suppressed => format!("not sent: {reason}"),
        }
    }

    /// Notices that are not about a configured step of the current expiry.
    fn write_other_notices(&self, sheet: &mut Sheet, domain: &str) {
        let steps = self.policy.steps_of(&self.token);
        let is_shown_above = |notice: &NoticeRow| {
            is_about_expiry(notice, &self.token)
                && steps.iter().any(|step| is_about_step(notice, *step))
        };
        let others: Vec<_> = self
            .notices
            .iter()
            .filter(|notice| !is_shown_above(notice))
            .collect();
        if !others.is_empty() {
            sheet.section("Other notices");
        }
        for notice in others {
            let about = match notice.step {
                Some(step) => {
                    let expiry = self.format_when(notice.generation);
                    format!("{} before {expiry}", Step::from_seconds(step))
                }
                None => notice.topic.to_string(),
            };
            let outcome = self.notice_outcome(notice, domain);
            sheet.text(&format!("{about}, {}: {outcome}", notice.recipient));
        }
    }

    fn notices_of_current_expiry(&self) -> impl Iterator<Item = &NoticeRow> {
        self.notices
            .iter()
            .filter(|notice| is_about_expiry(notice, &self.token))
    }

    fn next_due_line(&self) -> String {
        match self.token.due_at {
            Some(due_at) if due_at <= self.now => "The next sweep processes it.".to_owned(),
            Some(due_at) => format!("lapsed processes it again {}.", self.format_when(due_at)),
            None => "Nothing more is due, unless its source reports a change.".to_owned(),
        }
    }

    fn format_when(&self, at: DateTime<Utc>) -> String {
        format_when(at, self.now, self.policy.zone)
    }
}

fn attempts(count: u32) -> String {
    if count == 1 {
        "1 attempt".to_owned()
    } else {
        format!("{count} attempts")
    }
}
