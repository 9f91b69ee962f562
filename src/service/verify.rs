//! Whether a presented token is valid now.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::domain::service::{Presented, Refusal, judge};
use crate::domain::{LOCAL_SOURCE, TokenId};

use super::cache::Holding;
use super::uses::{DERIVED, Tally};
use super::{Error, Result, Service, Verdict};

/// A verdict, and the token that was issued: the one presented, or that it was exchanged for.
struct Decision {
    verdict: Verdict,
    root: Option<TokenId>,
    is_derived: bool,
}

impl Service {
    /// Verifies a token that somebody uses from `address`, and counts the use.
    pub async fn verify(&self, presented: &Presented, address: IpAddr) -> Result<Verdict> {
        let decision = self.decide(presented, address).await?;
        self.counters
            .count(decision.verdict.as_ref().err().copied());
        if let Some(root) = decision.root
            && let Some(tally) = decision.tally(address, self.now())
        {
            self.uses.count(root, tally);
        }
        Ok(decision.verdict)
    }

    /// Verifies a token without counting a use of it.
    pub async fn examine(&self, presented: &Presented, address: IpAddr) -> Result<Verdict> {
        Ok(self.decide(presented, address).await?.verdict)
    }

    /// Only an acceptance comes from memory. Every refusal reads the store once, whatever its reason: then none
    /// takes longer than another, and none is out of date.
    async fn decide(&self, presented: &Presented, address: IpAddr) -> Result<Decision> {
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let id = TokenId::new(LOCAL_SOURCE, presented.id.as_str());
        if let Some(known) = self.cache.find(id, self.clock.uptime()) {
            let decision = self.judge(presented, &known, address);
            if decision.verdict.is_ok() {
                self.counters.count_hit();
                return Ok(decision);
            }
        }
        // Boxed, so that the future of an answer from memory is small.
        let snapshot = Box::pin(self.reader.read(id)).await;
        let snapshot = snapshot.map_err(Error::Store)?;
        let Some((chain, person)) = snapshot.find(id) else {
            // As long as a comparison with what is stored.
            let _ = presented.digest.matches(&presented.digest);
            return Ok(Decision {
                verdict: Err(Refusal::Unknown),
                root: None,
                is_derived: false,
            });
        };
        let holding = Holding::new(chain.clone(), person);
        let decision = self.judge(presented, &holding, address);
        if decision.verdict.is_ok() {
            self.cache.insert(snapshot.epoch(), &chain, &holding.person);
        }
        Ok(decision)
    }

    fn judge(&self, presented: &Presented, holding: &Holding, address: IpAddr) -> Decision {
        let (chain, person, roles) = (&holding.chain, &holding.person, &self.terms.roles);
        Decision {
            verdict: judge(presented, chain, person, roles, address, self.clock.now()),
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
            Err(refusal) if refusal.is_of_right_secret() => None,
            Err(_) => return None,
        };
        Some(Tally::new(secret, address, now))
    }
}
