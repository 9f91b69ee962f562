//! Findings about the use of tokens that lapsed issued: an old secret that is used and ends soon, and a use from a new
//! network.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;

use crate::clock::Clock;
use crate::domain::{
    FindingKind, NewNotice, Occurrence, Policy, RuleFinding, Severity, Status, Token, TokenId,
    Topic,
};
use crate::store::{AddressUse, OpenFinding, Tx};
use crate::time::shift;

use super::common::{Error, Report};
use super::findings::FindingChanges;
use super::leased::{LeasedStore, counted_page};
use super::notices::{Audience, insert_copies};

/// How long before its end an old secret that is still used is a finding.
const OLD_SECRET_WARNING: TimeDelta = TimeDelta::hours(4);
/// How long a network is new.
const NEW_FOR: TimeDelta = TimeDelta::days(7);

pub(super) struct ServiceFindings<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub policy: &'a Policy,
}

impl ServiceFindings<'_> {
    pub async fn run(&self, report: &mut Report) -> Result<(), Error> {
        self.judge_old_secrets(report).await?;
        self.judge_places(report).await
    }

    async fn judge_old_secrets(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_read().await?;
        let in_use = tx
            .find_old_secrets_in_use(now, shift(now, OLD_SECRET_WARNING))
            .await?;
        let open = tx
            .load_open_findings_of_kind(FindingKind::OldSecretInUse)
            .await?;
        if in_use.is_empty() && open.is_empty() {
            return Ok(());
        }
        let mut wanted = HashMap::new();
        let mut ends = HashMap::new();
        for (token, replaced_at, ends_at) in in_use {
            wanted.insert(
                token,
                (replaced_at, old_secret_evidence(replaced_at, ends_at)),
            );
            ends.insert(token, ends_at);
        }
        let (changes, tokens) =
            find_changes(&mut tx, FindingKind::OldSecretInUse, wanted, open, now).await?;
        drop(tx);
        counted_page!(self.store, report, tx => {
            changes.write(tx, now, report).await?;
            for opened in &changes.opened {
                let token = tokens.iter().find(|token| Some(token.id) == opened.token_id);
                if let Some(token) = token
                    && let Some(ends_at) = ends.get(&token.id)
                {
                    self.notify(tx, token, *ends_at, report).await?;
                }
            }
            Ok(())
        })
    }

    /// Mails the owners and administrators of a token whose old secret ends soon.
    async fn notify(
        &self,
        tx: &mut Tx,
        token: &Token,
        ends_at: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let audience = Audience::load(tx, std::slice::from_ref(token), now).await?;
        let occurrence = Occurrence {
            topic: Topic::OldSecret,
            generation: ends_at.into(),
            step: None,
        };
        let ends = ends_at.format("%Y-%m-%d %H:%M UTC");
        let title = format!(
            "The old secret of token {} is still used and ends at {ends}",
            token.label()
        );
        let text = format!(
            "The token was regenerated, and something still uses its old secret. From {ends} on that is refused. Put the \
             new secret where the old one is.\n\nSee where it is used from:\n\n    lapsed token show {}",
            token.external_id
        );
        let recipients = audience.recipients(self.policy, token);
        let notices: Vec<_> = recipients
            .iter()
            .map(|recipient| NewNotice {
                title: Some(title.clone()),
                detail: Some(text.clone()),
                ..NewNotice::for_token(token, occurrence, recipient, now)
            })
            .collect();
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
        Ok(insert_copies(tx, &notices, now).await?)
    }

    async fn judge_places(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_read().await?;
        let open = tx.load_open_findings_of_kind(FindingKind::NewPlace).await?;
        let since = shift(now, -NEW_FOR);
        let mut wanted = HashMap::new();
        if self.policy.rules.new_place {
            for token in tx.find_tokens_at_new_addresses(since).await? {
                let uses = tx.load_uses(token).await?;
                if let Some(place) = new_place(&uses.addresses, since) {
                    wanted.insert(token, place);
                }
            }
        }
        if wanted.is_empty() && open.is_empty() {
            return Ok(());
        }
        let (changes, _) = find_changes(&mut tx, FindingKind::NewPlace, wanted, open, now).await?;
        drop(tx);
        counted_page!(self.store, report, tx => changes.write(tx, now, report).await)
    }
}

/// Compares what is wrong with tokens, since when and by what evidence, with the open findings.
async fn find_changes(
    tx: &mut Tx,
    kind: FindingKind,
    mut wanted: HashMap<TokenId, (DateTime<Utc>, String)>,
    open: Vec<OpenFinding>,
    now: DateTime<Utc>,
) -> Result<(FindingChanges, Vec<Token>), Error> {
    let known = open.iter().filter_map(|finding| finding.token_id);
    let ids: BTreeSet<_> = wanted.keys().copied().chain(known).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let tokens = tx.load_tokens(&ids).await?;
    let mut changes = FindingChanges::default();
    for token in &tokens {
        let cause = wanted
            .remove(&token.id)
            .filter(|_| token.status_at(now) == Status::Active);
        let finding = cause.map(|(since, evidence)| RuleFinding {
            kind,
            severity: Severity::of_token(token.role.as_deref(), Severity::Medium),
            since: Some(since),
            evidence,
        });
        let of_token = open.iter().filter(|known| known.token_id == Some(token.id));
        let of_token = of_token.cloned().collect();
        let finding = finding.into_iter().collect();
        changes.add(Some(token.id), &token.source, of_token, finding, now);
    }
    Ok((changes, tokens))
}

fn old_secret_evidence(replaced_at: DateTime<Utc>, ends_at: DateTime<Utc>) -> String {
    let format = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC");
    format!(
        "its old secret was used after it was replaced on {}, and ends on {}",
        format(replaced_at),
        format(ends_at)
    )
}

/// The latest use from a network that is new since `since`, where others are known from before.
fn new_place(addresses: &[AddressUse], since: DateTime<Utc>) -> Option<(DateTime<Utc>, String)> {
    let used = || addresses.iter().filter(|used| !used.is_refused);
    let known: BTreeSet<IpNet> = used()
        .filter(|used| used.first_at < since)
        .map(|used| network_of(used.address))
        .collect();
    let is_new =
        |used: &&AddressUse| used.first_at >= since && !known.contains(&network_of(used.address));
    let newest = used()
        .filter(is_new)
        .max_by_key(|used| (used.first_at, used.address));
    let newest = newest.filter(|_| !known.is_empty())?;
    let known: Vec<_> = known.iter().map(IpNet::to_string).collect();
    let evidence = format!(
        "first used from {} on {}; before only from {}",
        newest.address,
        newest.first_at.format("%Y-%m-%d %H:%M UTC"),
        known.join(", ")
    );
    Some((newest.first_at, evidence))
}

/// What one site usually has: a /24 of IPv4, a /48 of IPv6.
fn network_of(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, length).map_or(address.into(), |network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn used(address: &str, first_at: &str) -> AddressUse {
        AddressUse {
            address: address.parse().unwrap(),
            is_refused: false,
            first_at: at(first_at),
            last_at: at("2026-11-21T09:00:00Z"),
        }
    }

    #[test]
    fn a_new_network_beside_known_ones_is_a_new_place() {
        let since = at("2026-11-14T09:00:00Z");
        let known = used("10.1.2.3", "2026-11-01T09:00:00Z");
        let (first_at, evidence) = new_place(
            &[known.clone(), used("203.0.113.7", "2026-11-20T09:00:00Z")],
            since,
        )
        .unwrap();
        assert_eq!(first_at, at("2026-11-20T09:00:00Z"));
        assert_eq!(
            evidence,
            "first used from 203.0.113.7 on 2026-11-20 09:00 UTC; before only from 10.1.2.0/24"
        );
        let neighbour = used("10.1.2.99", "2026-11-20T09:00:00Z");
        assert_eq!(new_place(&[known.clone(), neighbour], since), None);
        let first_ever = used("203.0.113.7", "2026-11-20T09:00:00Z");
        assert_eq!(new_place(std::slice::from_ref(&first_ever), since), None);
        let refused = AddressUse {
            is_refused: true,
            ..first_ever
        };
        assert_eq!(new_place(&[known, refused], since), None);
    }

    #[test]
    fn an_address_in_ipv6_form_has_the_network_of_its_ipv4_form() {
        for (address, network) in [
            ("::ffff:10.1.2.3", "10.1.2.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ] {
            assert_eq!(network_of(address.parse().unwrap()).to_string(), network);
        }
    }
}
