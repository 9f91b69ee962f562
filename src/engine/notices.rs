//! Plans notices that do not follow from steps: alerts to the administrators, notices about lost access, those of
//! failed mails for the next recipients, and notices that no one can receive.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::{
    AccountAdmins, Address, Basis, NewNotice, Occurrence, Policy, Recipient, Token, TokenId, Topic,
    Wishes,
};
use crate::notify::letter::OwnerGap;
use crate::store::{self, ClaimedMail, MailNotice, Tx};
use crate::time::MAX_INSTANT;
use crate::time::shift;

use super::common::{Error, PAGE_SIZE, Report};

/// An address that was refused is tried again after this time.
pub(crate) const DEAD_ADDRESS_TTL: TimeDelta = TimeDelta::days(30);

/// Addresses that a mail server refused lately, with its reply.
pub(super) struct DeadAddresses(HashMap<String, String>);

impl DeadAddresses {
    pub async fn load(tx: &mut Tx, now: DateTime<Utc>) -> Result<Self, store::Error> {
        let dead = tx
            .load_dead_addresses(shift(now, -DEAD_ADDRESS_TTL))
            .await?;
        Ok(Self(dead.into_iter().collect()))
    }

    pub fn contains(&self, address: &Address) -> bool {
        self.0.contains_key(address.key())
    }
}

/// What decides who is notified about some tokens.
pub(super) struct Audience {
    pub dead: DeadAddresses,
    /// The owners who have lost access.
    lost: HashMap<TokenId, Vec<Address>>,
    admins: AccountAdmins,
    silent_sources: HashSet<String>,
}

impl Audience {
    pub async fn load(
        tx: &mut Tx,
        tokens: &[Token],
        now: DateTime<Utc>,
    ) -> Result<Self, store::Error> {
        Ok(Self {
            dead: DeadAddresses::load(tx, now).await?,
            lost: tx.load_lost_owners(tokens).await?,
            admins: tx.load_account_admins(tokens).await?,
            silent_sources: tx.list_silent_sources(now).await?,
        })
    }

    /// Whether no one is warned about the token, because its source has not been configured for long.
    pub fn is_silent(&self, token: &Token) -> bool {
        self.silent_sources.contains(&token.source)
    }

    /// Why no owner of the token gets a mail; `None` if one does.
    pub fn why_not_owners(&self, token: &Token) -> Option<Vec<OwnerGap>> {
        let lost = self.lost.get(&token.id).map_or(&[][..], Vec::as_slice);
        let why = |owner: &Address| {
            if lost.contains(owner) {
                return Some(OwnerGap::LostAccess {
                    owner: owner.clone(),
                    evidence: None,
                });
            }
            Some(OwnerGap::Refused {
                owner: owner.clone(),
                reply: self.dead.0.get(owner.key())?.clone(),
            })
        };
        token.owners().map(why).collect()
    }

    pub fn recipients(&self, policy: &Policy, token: &Token) -> Vec<Recipient> {
        if self.is_silent(token) {
            return Vec::new();
        }
        let lost = self.lost.get(&token.id).map_or(&[][..], Vec::as_slice);
        policy.recipients(token, &self.admins, lost, &|address| {
            self.dead.contains(address)
        })
    }
}

/// The policy with the times that people chose. By it a token is due whenever anyone may be owed a notice.
pub(super) async fn personal_policy(tx: &mut Tx, policy: &Policy) -> Result<Policy, store::Error> {
    Ok(Policy {
        personal: tx.load_personal_times().await?,
        ..policy.clone()
    })
}

/// What the recipients of notices about tokens prefer; `recipients` has those of each token.
pub(super) async fn load_wishes(
    tx: &mut Tx,
    policy: &Policy,
    tokens: &[Token],
    recipients: &[Vec<Recipient>],
) -> Result<Wishes, store::Error> {
    if !policy.personal.has_wishes {
        return Ok(Wishes::default());
    }
    let people = recipients.iter().flatten();
    let people: BTreeSet<_> = people.map(|recipient| recipient.address.key()).collect();
    let people: Vec<_> = people.into_iter().collect();
    let tokens: Vec<_> = tokens.iter().map(|token| token.id).collect();
    tx.load_wishes(&people, &tokens).await
}

/// Copies of notices by mail for the accounts of those who want them there.
pub(super) async fn insert_copies(
    tx: &mut Tx,
    notices: &[NewNotice],
    now: DateTime<Utc>,
) -> Result<(), store::Error> {
    let people: BTreeSet<_> = notices
        .iter()
        .map(|notice| notice.recipient.key())
        .collect();
    let people: Vec<_> = people.into_iter().collect();
    let wishes = tx.load_wishes(&people, &[]).await?;
    let wanted = notices
        .iter()
        .filter(|notice| wishes.wants_copy(&notice.recipient));
    let copies: Vec<_> = wanted.map(NewNotice::in_account).collect();
    tx.insert_account_notices(&copies, now).await
}

pub(super) struct Alert<'a> {
    /// `plan`, or the name of an upstream. Together with `since` it identifies an occurrence.
    pub subject: &'a str,
    pub since: DateTime<Utc>,
    pub title: String,
    /// What it means and what to do.
    pub text: String,
}

impl Alert<'_> {
    /// Plans a notice to every configured administrator, once per occurrence.
    pub async fn plan(
        &self,
        tx: &mut Tx,
        policy: &Policy,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let occurrence = Occurrence {
            topic: Topic::Alert,
            generation: self.since.into(),
            step: None,
        };
        let dead = DeadAddresses::load(tx, now).await?;
        let notices: Vec<NewNotice> = policy
            .reachable_admins(&|address| dead.contains(address))
            .into_iter()
            .map(|recipient| NewNotice {
                title: Some(self.title.clone()),
                detail: Some(self.text.clone()),
                ..NewNotice::for_subject(self.subject, occurrence, &recipient, now)
            })
            .collect();
        if notices.is_empty() {
            tracing::error!("no administrator can be notified: {}", self.title);
        }
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
        Ok(())
    }
}

/// Plans notices about a token that outlives its owners' access, to all recipients but the owners.
pub(super) async fn plan_loss_notices(
    tx: &mut Tx,
    policy: &Policy,
    (token, occurrence): (&Token, Occurrence),
    dead: &DeadAddresses,
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let admins = tx.load_account_admins(std::slice::from_ref(token)).await?;
    let owners: Vec<_> = token.owners().cloned().collect();
    let recipients = policy.recipients(token, &admins, &owners, &|address| dead.contains(address));
    let notices: Vec<NewNotice> = recipients
        .iter()
        .map(|recipient| NewNotice::for_token(token, occurrence, recipient, now))
        .collect();
    if notices.is_empty() {
        let undeliverable = Undeliverable::new(token, occurrence, now);
        undeliverable.record(tx, now, report).await?;
    }
    report.notices_planned += tx.insert_notices(&notices, None, now).await?;
    Ok(())
}

/// Plans the notices of a mail that does not arrive for the next recipients in the chain.
pub(super) async fn plan_fallback(
    tx: &mut Tx,
    policy: &Policy,
    mail: &ClaimedMail,
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut after = Uuid::nil();
    loop {
        let mail_notices = tx.load_mail_notices(mail.id, after, PAGE_SIZE).await?;
        let Some(last) = mail_notices.last() else {
            return Ok(());
        };
        after = last.id;
        let (tokens, audience) = load_tokens_of(tx, &mail_notices, now).await?;
        let mut notices = Vec::new();
        for token in &tokens {
            for other in audience.recipients(policy, token) {
                if other.address == mail.recipient {
                    continue;
                }
                let of_token = mail_notices
                    .iter()
                    .filter(|notice| notice.token_id == Some(token.id));
                for notice in of_token {
                    notices.extend(fallback_notice(notice, token, &other, now));
                }
            }
        }
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
    }
}

async fn load_tokens_of(
    tx: &mut Tx,
    notices: &[MailNotice],
    now: DateTime<Utc>,
) -> Result<(Vec<Token>, Audience), store::Error> {
    let ids: Vec<_> = notices
        .iter()
        .filter_map(|notice| notice.token_id)
        .collect();
    let tokens = tx.load_tokens(&ids).await?;
    let audience = Audience::load(tx, &tokens, now).await?;
    Ok((tokens, audience))
}

/// Plans notices about a dead address to the administrators who can correct it: those of all accounts and those of
/// the tokens in the mail.
pub(super) async fn plan_unreachable(
    tx: &mut Tx,
    policy: &Policy,
    mail: &ClaimedMail,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mail_notices = tx
        .load_mail_notices(mail.id, Uuid::nil(), PAGE_SIZE)
        .await?;
    let (tokens, audience) = load_tokens_of(tx, &mail_notices, now).await?;
    let of_tokens = tokens
        .iter()
        .flat_map(|token| audience.recipients(policy, token))
        .filter(|recipient| recipient.basis != Basis::Issuer);
    let admins: BTreeMap<Address, Recipient> = of_tokens
        .chain(policy.reachable_admins(&|address| audience.dead.contains(address)))
        .filter(|recipient| recipient.address != mail.recipient)
        .map(|recipient| (recipient.address.clone(), recipient))
        .collect();
    let notices: Vec<_> = admins
        .values()
        .map(|to| unreachable_notice(mail, to, reason, now))
        .collect();
    tx.insert_notices(&notices, None, now).await?;
    Ok(())
}

/// The same notice to another recipient. If they have it already, its key keeps it from being planned again.
fn fallback_notice(
    notice: &MailNotice,
    token: &Token,
    to: &Recipient,
    now: DateTime<Utc>,
) -> Option<NewNotice> {
    let occurrence = notice.occurrence();
    match notice.topic {
        Topic::Expiry | Topic::SsoRevoked => Some(NewNotice::for_token(token, occurrence, to, now)),
        // These are sent to all recipients at once, so there is no one to fall back to.
        Topic::Unreachable | Topic::Alert | Topic::Summary | Topic::Revoked | Topic::OldSecret => {
            None
        }
    }
}

/// A notice about the unreachable address, at most one a day. It goes along with the recipient's next mail.
fn unreachable_notice(
    mail: &ClaimedMail,
    to: &Recipient,
    reason: &str,
    now: DateTime<Utc>,
) -> NewNotice {
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let occurrence = Occurrence {
        topic: Topic::Unreachable,
        generation: day.into(),
        step: None,
    };
    NewNotice {
        detail: Some(reason.to_owned()),
        ..NewNotice::for_subject(mail.recipient.key(), occurrence, to, MAX_INSTANT)
    }
}

/// A notice that no one can receive, and why.
pub(super) struct Undeliverable {
    notice: NewNotice,
    reason: &'static str,
}

impl Undeliverable {
    pub fn new(token: &Token, occurrence: Occurrence, now: DateTime<Utc>) -> Self {
        let (address, reason) = match &token.issuer {
            Some(issuer) => (
                issuer.clone(),
                if token.co_owners.is_empty() {
                    "the issuer lost access and there is no administrator to notify"
                } else {
                    "all owners lost access and there is no administrator to notify"
                },
            ),
            None => (
                placeholder_address(),
                "the token has no issuer and there is no administrator to notify",
            ),
        };
        let recipient = Recipient {
            address,
            basis: Basis::Issuer,
        };
        Self {
            notice: NewNotice::for_token(token, occurrence, &recipient, now),
            reason,
        }
    }

    /// Stores it as failed, so that it is visible.
    pub async fn record(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let is_new = tx
            .insert_failed_notice(&self.notice, self.reason, now)
            .await?;
        report.notices_failed += u64::from(is_new);
        Ok(())
    }
}

/// A placeholder recipient; RFC 2606 §2 keeps the name from ever resolving.
fn placeholder_address() -> Address {
    "nobody@lapsed.invalid".parse().expect("a literal address")
}
