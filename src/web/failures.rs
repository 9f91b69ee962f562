//! Limits how often an address may fail.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::network::client_key;

const PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Addresses that are remembered; further ones share one limit.
const MAX_ADDRESSES: usize = 50_000;
const CLEANING_INTERVAL: Duration = Duration::from_secs(1);
const OVERFLOW: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit");

type Limiter =
    RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock, StateInformationMiddleware>;

/// Ten a minute for each address; a network of /64 counts as one IPv6 address.
pub struct RateLimit {
    name: &'static str,
    limiter: Limiter,
    /// When addresses that have all left were forgotten last, if there were too many.
    cleaned_at: Mutex<Option<Instant>>,
}

/// What is left, as headers for the answer (draft-ietf-httpapi-ratelimit-headers).
pub type LimitHeaders = [(HeaderName, HeaderValue); 2];

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    pub seconds: u64,
}

impl RateLimit {
    pub fn new(name: &'static str) -> Self {
        let quota = Quota::per_minute(PER_MINUTE);
        Self {
            name,
            limiter: RateLimiter::dashmap(quota).with_middleware(),
            cleaned_at: Mutex::default(),
        }
    }

    /// Takes one of what the address has left.
    ///
    /// # Errors
    /// If nothing is left.
    pub fn take(&self, address: IpAddr) -> Result<LimitHeaders, (Exhausted, LimitHeaders)> {
        match self.limiter.check_key(&self.key(address)) {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                Ok(self.headers(left, 60 / u64::from(PER_MINUTE.get())))
            }
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now());
                let seconds = round_up(wait);
                Err((Exhausted { seconds }, self.headers(0, seconds)))
            }
        }
    }

    fn key(&self, address: IpAddr) -> IpAddr {
        if self.limiter.len() >= MAX_ADDRESSES {
            self.clean();
            if self.limiter.len() >= MAX_ADDRESSES {
                return OVERFLOW;
            }
        }
        client_key(address)
    }

    /// At most once in a while, because it reads all addresses.
    fn clean(&self) {
        let mut cleaned_at = self
            .cleaned_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if cleaned_at.is_none_or(|at| at.elapsed() >= CLEANING_INTERVAL) {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            *cleaned_at = Some(Instant::now());
        }
    }

    fn headers(&self, left: u32, seconds: u64) -> LimitHeaders {
        let policy = format!("\"{}\";q={PER_MINUTE};w=60", self.name);
        let remaining = format!("\"{}\";r={left};t={seconds}", self.name);
        let value = |text| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        [(POLICY, value(policy)), (REMAINING, value(remaining))]
    }
}

fn round_up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_failure_of_an_address_waits() {
        let limit = RateLimit::new("failures");
        let address = "192.0.2.1".parse().unwrap();
        for left in (0..10).rev() {
            let [policy, remaining] = limit.take(address).unwrap();
            assert_eq!(policy.1, "\"failures\";q=10;w=60");
            assert_eq!(remaining.1, format!("\"failures\";r={left};t=6"));
        }
        let (exhausted, [_, remaining]) = limit.take(address).unwrap_err();
        assert!((1..=6).contains(&exhausted.seconds), "{exhausted:?}");
        let expected = format!("\"failures\";r=0;t={}", exhausted.seconds);
        assert_eq!(remaining.1, expected);
        assert!(limit.take("192.0.2.2".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_v6_network_of_64_bits_counts_as_one_address() {
        let limit = RateLimit::new("failures");
        for host in 0..10 {
            let address = format!("2001:db8:0:1::{host}").parse().unwrap();
            assert!(limit.take(address).is_ok());
        }
        assert!(limit.take("2001:db8:0:1:f::1".parse().unwrap()).is_err());
        assert!(limit.take("2001:db8:0:2::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn the_addresses_that_are_remembered_are_bounded() {
        let limit = RateLimit::new("failures");
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() + 20 {
            let _ = limit.take(IpAddr::V4((0x0b00_0000 + number).into()));
        }
        assert!(limit.limiter.len() <= MAX_ADDRESSES + 1);
        assert!(limit.take("198.51.100.1".parse().unwrap()).is_err());
    }
}
