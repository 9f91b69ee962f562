//! Whether a presented token is valid now.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::service::{Access, Credential, Kind, Presented, Refusal, judge};
use crate::domain::{LOCAL_SOURCE, TokenId};

use super::cache::Holding;
use super::uses::{DERIVED, Tally};
use super::{Error, Result, Service, Verdict};

/// A verdict, and the token that was issued: the one presented, or that it was exchanged for.
struct Decision {
    verdict: Verdict,
    /// The one presented, whatever the verdict.
    credential: Option<Arc<Credential>>,
    root: Option<TokenId>,
    is_derived: bool,
}

impl Service {
    /// Verifies a token that somebody uses from `address`, and counts the use.
    pub async fn verify(&self, presented: &Presented, address: IpAddr) -> Result<Verdict> {
        self.verify_kind(presented, address, |_| true).await
    }

    /// As [`Service::verify`], where only the kinds that open the API are accepted.
    pub async fn verify_for_api(&self, presented: &Presented, address: IpAddr) -> Result<Verdict> {
        self.verify_kind(presented, address, Kind::opens_api).await
    }

    async fn verify_kind(
        &self,
        presented: &Presented,
        address: IpAddr,
        accepts: fn(&Kind) -> bool,
    ) -> Result<Verdict> {
        let decision = self.decide_and_count(presented, address, accepts).await?;
        Ok(decision.verdict)
    }

    /// As [`Service::verify`], with what the verdict is about, if there is a credential with this id.
    pub async fn introspect(
        &self,
        presented: &Presented,
        address: IpAddr,
    ) -> Result<(Verdict, Option<Arc<Credential>>)> {
        let decision = self.decide_and_count(presented, address, |_| true).await?;
        Ok((decision.verdict, decision.credential))
    }

    async fn decide_and_count(
        &self,
        presented: &Presented,
        address: IpAddr,
        accepts: fn(&Kind) -> bool,
    ) -> Result<Decision> {
        let decision = self.decide(presented, address, accepts).await?;
        self.counters
            .count(decision.verdict.as_ref().err().copied());
        if let Some(root) = decision.root
            && let Some(tally) = decision.tally(address, self.now())
        {
            self.uses.count(root, tally);
        }
        Ok(decision)
    }

    /// Verifies a token without counting a use of it.
    pub async fn examine(&self, presented: &Presented, address: IpAddr) -> Result<Verdict> {
        Ok(self.decide(presented, address, |_| true).await?.verdict)
    }

    /// Only an acceptance comes from memory. Every refusal reads the store once, whatever its reason: then none
    /// takes longer than another, and none is out of date.
    async fn decide(
        &self,
        presented: &Presented,
        address: IpAddr,
        accepts: fn(&Kind) -> bool,
    ) -> Result<Decision> {
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let id = TokenId::new(LOCAL_SOURCE, presented.id.as_str());
        if let Some(known) = self.cache.find(id, self.clock.uptime()) {
            let decision = self.judge(presented, &known, address, accepts);
            if decision.verdict.is_ok() {
                self.counters.count_hit();
                return Ok(decision);
            }
        }
        // Boxed, so that the future of an answer from memory is small.
        let snapshot = Box::pin(self.reader.read(id)).await;
        let snapshot = snapshot.map_err(Error::Store)?;
        let Some((chain, person)) = snapshot.find(id) else {
            // So that it takes as long as for a token that exists.
            let other = snapshot.find_other();
            let other = other.map(|(chain, person)| Holding::new(chain, person));
            black_box(other.map(|other| self.judge(presented, &other, address, accepts)));
            return Ok(Decision {
                verdict: Err(Refusal::Unknown),
                credential: None,
                root: None,
                is_derived: false,
            });
        };
        let holding = Holding::new(chain.clone(), person);
        let decision = self.judge(presented, &holding, address, accepts);
        if decision.verdict.is_ok() {
            self.cache.insert(snapshot.epoch(), &chain, &holding.person);
        }
        Ok(decision)
    }

    fn judge(
        &self,
        presented: &Presented,
        holding: &Holding,
        address: IpAddr,
        accepts: fn(&Kind) -> bool,
    ) -> Decision {
        let (chain, person, roles) = (&holding.chain, &holding.person, &self.terms.roles);
        let verdict = judge(presented, chain, person, roles, address, self.clock.now());
        let check_kind = |access: Access| {
            let is_accepted = accepts(&access.credential.kind);
            is_accepted.then_some(access).ok_or(Refusal::WrongKind)
        };
        Decision {
            verdict: verdict.and_then(check_kind),
            credential: chain.first().cloned(),
            root: chain.last().map(|root| root.id),
            is_derived: chain.len() > 1,
        }
    }
}

impl Decision {
    /// The use, if it counts: nobody is to be told of a client that lets an access token expire before it fetches the
    /// next.
    fn tally(&self, address: IpAddr, now: DateTime<Utc>) -> Option<Tally> {
        let secret = match &self.verdict {
            Ok(_) if self.is_derived => Some(DERIVED),
            Ok(access) => Some(access.secret),
            Err(Refusal::Expired) if self.is_derived => return None,
            // The token works; it is only not meant for that place.
            Err(Refusal::WrongKind) => return None,
            Err(refusal) if refusal.is_of_right_secret() => None,
            Err(_) => return None,
        };
        Some(Tally::new(secret, address, now))
    }
}
