//! Random histories of one token: listings, scheduled sweeps with outages of weeks, renewals there and back,
//! changes of the policy. The ledger is a map that behaves like the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::{address, at, hour, only_id, policy, step};
use crate::domain::diff::{NoticeEffect, Update, new_token, update, update_missing};
use crate::domain::{
    AccountAdmins, Cell, Expiry, ListedToken, MergeRules, NewNotice, Policy, Status, Step, Token,
    Wishes, plan,
};

/// What happens between two sweeps.
#[derive(Debug, Clone)]
enum Event {
    /// The source reports the nth expiry.
    Expiry(usize),
    Enabled(bool),
    Listed(bool),
    Steps(&'static [&'static str]),
    Digest(Option<&'static str>),
    Zone(chrono_tz::Tz),
    /// Whether the mail relay works.
    Relay(bool),
}

/// One sweep, and the events before it.
#[derive(Debug, Clone)]
struct Round {
    events: Vec<Event>,
    /// Minutes to the next tick.
    tick: i64,
    /// Minutes beyond the next tick for which the machine is down after this sweep.
    outage: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Planned,
    Sent,
    Cancelled,
    Suppressed,
}

struct World {
    policy: Policy,
    expiries: [DateTime<Utc>; 3],
    listed: ListedToken,
    is_listed: bool,
    has_relay: bool,
    token: Option<Token>,
    ledger: HashMap<Uuid, (NewNotice, State)>,
    /// The steps that applied when the token last had something due.
    steps: Vec<Step>,
    /// Whether the steps have changed during the history.
    steps_changed: bool,
    /// Expiries that lapsed saw before they passed.
    seen_in_time: HashSet<DateTime<Utc>>,
    /// Expiries that had passed in a sweep with a relay.
    passed: HashSet<DateTime<Utc>>,
    now: DateTime<Utc>,
}

fn start() -> DateTime<Utc> {
    at("2026-03-01T10:20:00Z")
}

impl World {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Expiry(nth) => {
                self.listed.expiry = Cell::Value(Expiry::At(self.expiries[*nth]));
            }
            Event::Enabled(is_enabled) => {
                let status = if *is_enabled {
                    Status::Active
                } else {
                    Status::Disabled
                };
                self.listed.status = Cell::Value(status);
            }
            Event::Listed(is_listed) => self.is_listed = *is_listed,
            Event::Relay(has_relay) => self.has_relay = *has_relay,
            Event::Steps(steps) => {
                self.policy.steps = steps.iter().map(|text| step(text)).collect();
                self.steps_changed = true;
            }
            Event::Digest(digest) => self.policy.admin_digest = digest.map(hour),
            Event::Zone(zone) => self.policy.zone = *zone,
        }
    }

    fn sweep(&mut self, horizon: DateTime<Utc>, old_policy: &str) {
        self.sync();
        self.mark_expired();
        let is_finished = |token: &Token| token.status == Status::Expired && token.due_at.is_none();
        if !self.token.as_ref().is_some_and(is_finished) {
            self.steps = self.policy.steps.clone();
        }
        if self.policy.fingerprint() != old_policy
            && let Some(token) = &mut self.token
        {
            token.due_at = self.policy.due_at(token);
        }
        self.plan(horizon);
        if self.has_relay {
            self.deliver(horizon);
            self.check_notified(horizon);
        }
    }

    fn sync(&mut self) {
        let Some(known) = self.token.take() else {
            self.token = self.is_listed.then(|| {
                new_token(
                    "exports",
                    self.listed.clone(),
                    MergeRules::from(&self.policy),
                    self.now,
                )
            });
            return self.note_expiry();
        };
        let change = if self.is_listed {
            update(
                &known,
                self.listed.clone(),
                MergeRules::from(&self.policy),
                self.now,
            )
        } else {
            update_missing(&known, self.now)
        };
        let Some(Update { token, notices, .. }) = change else {
            self.token = Some(known);
            return;
        };
        let generation = match notices {
            NoticeEffect::Keep => None,
            NoticeEffect::NewGeneration => Some(token.generation()),
            NoticeEffect::Cancel => Some(None),
        };
        if let Some(generation) = generation {
            for (notice, state) in self.ledger.values_mut() {
                match (*state, Some(notice.generation) == generation) {
                    (State::Planned, false) => *state = State::Cancelled,
                    (State::Cancelled, true) => *state = State::Planned,
                    _ => {}
                }
            }
        }
        self.token = Some(token);
        self.note_expiry();
    }

    fn note_expiry(&mut self) {
        let ahead = self
            .token
            .as_ref()
            .and_then(|token| token.expiry.at())
            .filter(|at| *at > self.now);
        self.seen_in_time.extend(ahead);
    }

    fn mark_expired(&mut self) {
        let now = self.now;
        if let Some(token) = &mut self.token
            && token.status == Status::Active
            && token.due_at.is_some_and(|due_at| due_at <= now)
            && token.expiry.at().is_some_and(|at| at <= now)
        {
            token.status = Status::Expired;
        }
    }

    fn plan(&mut self, horizon: DateTime<Utc>) {
        let Some(token) = &mut self.token else { return };
        if token.due_at.is_none_or(|due_at| due_at > horizon) {
            return;
        }
        let admins = AccountAdmins::default();
        let recipients = self.policy.recipients(token, &admins, &[], &|_| false);
        let wishes = Wishes::default();
        let planned = plan(token, &recipients, &wishes, &self.policy, horizon);
        let mut due_now = BTreeMap::<_, Vec<Step>>::new();
        for notice in planned.notices {
            let step = notice.step.unwrap();
            let step_at = notice.generation.at - step.width();
            assert!(
                notice.send_at <= step_at,
                "{notice:?} is sent after its step"
            );
            assert!(
                token.planned_step.is_none_or(|planned| step < planned),
                "{step} was planned before"
            );
            if let Some(from) = token.life_from {
                assert!(
                    step.width() < notice.generation.at - from,
                    "{step} is as wide as the life"
                );
            }
            if notice.send_at <= horizon {
                due_now
                    .entry(notice.recipient.clone())
                    .or_default()
                    .push(step);
            }
            let row = self
                .ledger
                .entry(notice.id)
                .or_insert_with(|| (notice.clone(), State::Cancelled));
            assert_eq!(
                (row.0.generation, row.0.step, &row.0.recipient),
                (notice.generation, notice.step, &notice.recipient),
                "each key has its own id"
            );
            if row.1 == State::Cancelled {
                *row = (notice, State::Planned);
            }
        }
        for (recipient, steps) in due_now {
            assert_eq!(steps.len(), 1, "{recipient:?} is owed {steps:?} at once");
        }
        let is_no_longer_due = planned.due_at.is_none_or(|due_at| due_at > horizon);
        let needs_expiry_mark =
            planned.due_at == token.expiry.at() && token.status == Status::Active;
        assert!(
            is_no_longer_due || needs_expiry_mark,
            "it stays due: {:?}",
            planned.due_at
        );
        token.planned_step = planned.planned_step;
        token.due_at = planned.due_at;
    }

    /// Sends the due notices, merged per recipient.
    fn deliver(&mut self, horizon: DateTime<Utc>) {
        let is_mergeable = |notice: &NewNotice| notice.send_at <= horizon + self.policy.merge_ahead;
        let due: HashSet<_> = self
            .ledger
            .values()
            .filter(|(notice, state)| *state == State::Planned && notice.send_at <= horizon)
            .map(|(notice, _)| notice.recipient.clone())
            .collect();
        let mut mails = BTreeMap::<_, Vec<NewNotice>>::new();
        for (notice, state) in self.ledger.values() {
            if *state == State::Planned && due.contains(&notice.recipient) && is_mergeable(notice) {
                mails
                    .entry(notice.recipient.clone())
                    .or_default()
                    .push(notice.clone());
            }
        }
        for (_, mut notices) in mails {
            notices.sort_by_key(|notice| (notice.generation, notice.step));
            let mut last_generation = None;
            for notice in notices {
                let is_tightest =
                    last_generation.replace(notice.generation) != Some(notice.generation);
                let state = if is_tightest {
                    State::Sent
                } else {
                    State::Suppressed
                };
                if is_tightest {
                    self.check_sending(&notice);
                }
                self.ledger.get_mut(&notice.id).unwrap().1 = state;
            }
        }
    }

    /// Asserts what must hold for every sent notice.
    fn check_sending(&self, notice: &NewNotice) {
        let token = self.token.as_ref().unwrap();
        assert_eq!(
            Some(notice.generation),
            token.generation(),
            "it is about an old expiry"
        );
        assert!(
            matches!(token.status, Status::Active | Status::Expired),
            "it is about a token that is {}",
            token.status
        );
        assert!(
            self.seen_in_time.contains(&notice.generation.at),
            "the token was first seen expired"
        );
        assert!(
            !self.passed.contains(&notice.generation.at),
            "the last sweep saw that it had passed"
        );
    }

    /// After a sweep that could send, every recipient has been notified of the tightest step before the next
    /// tick, or of a tighter one: at least seven days before the expiry, whatever the schedule.
    fn check_notified(&mut self, horizon: DateTime<Utc>) {
        let Some(token) = &self.token else { return };
        let Some(expires_at) = token.expiry.at() else {
            return;
        };
        if !matches!(token.status, Status::Active | Status::Expired) {
            return;
        }
        let has_passed = expires_at <= self.now;
        let was_seen_in_time =
            self.seen_in_time.contains(&expires_at) && token.planned_step != Some(Step::ZERO);
        let steps = self.steps.iter().filter(|step| {
            expires_at - step.width() <= horizon
                && token
                    .life_from
                    .is_none_or(|from| step.width() < expires_at - from)
        });
        if let Some(tightest) = steps.min()
            && was_seen_in_time
            && !self.passed.contains(&expires_at)
        {
            for recipient in self
                .policy
                .recipients(token, &AccountAdmins::default(), &[], &|_| false)
            {
                let is_notified = self.ledger.values().any(|(notice, state)| {
                    // A step that is added after a tighter one was planned is covered by that one,
                    // which may not be sent yet.
                    let waits = self.steps_changed && notice.send_at > horizon;
                    (*state == State::Sent || *state == State::Planned && waits)
                        && notice.generation.at == expires_at
                        && notice.recipient == recipient.address
                        && notice.step <= Some(*tightest)
                });
                assert!(
                    is_notified,
                    "{:?} was not notified of {tightest} at {}",
                    recipient.basis, self.now
                );
            }
        }
        if has_passed {
            self.passed.insert(expires_at);
        }
    }
}

/// Steps, widest first. None is at the expiry itself, because a marked token has that as `planned_step`.
const STEPS: [&[&str]; 5] = [
    &["7d", "1d"],
    &["30d", "14d", "36h"],
    &["1d"],
    &["7d", "1d", "2h"],
    &[],
];

fn event() -> impl Strategy<Value = Event> {
    use prop::sample::select;
    prop_oneof![
        4 => (0_usize..3).prop_map(Event::Expiry),
        2 => any::<bool>().prop_map(Event::Enabled),
        1 => any::<bool>().prop_map(Event::Listed),
        2 => select(STEPS.to_vec()).prop_map(Event::Steps),
        1 => select(vec![None, Some("09:00:00"), Some("02:30:00"), Some("23:59:00")]).prop_map(Event::Digest),
        1 => select(vec![
            chrono_tz::UTC,
            chrono_tz::Europe::Berlin,
            chrono_tz::America::Havana,
            chrono_tz::Australia::Lord_Howe,
        ]).prop_map(Event::Zone),
        2 => any::<bool>().prop_map(Event::Relay),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let tick = prop::sample::select(vec![1, 60, 60 * 12, 60 * 24, 60 * 24 * 7]);
    let outage = prop_oneof![4 => Just(0), 1 => 1_i64..60 * 24 * 30];
    (prop::collection::vec(event(), 0..2), tick, outage).prop_map(|(events, tick, outage)| Round {
        events,
        tick,
        outage,
    })
}

fn run_history(expiries: [i64; 3], created: Option<i64>, is_known: bool, rounds: &[Round]) {
    let expiries = expiries.map(|minutes| start() + TimeDelta::minutes(minutes));
    let created_at = created.map_or(Cell::Empty, |days| {
        Cell::Value(start() - TimeDelta::days(days))
    });
    let mut world = World {
        policy: policy(),
        expiries,
        listed: ListedToken {
            issuer: Cell::Value(address("ada@example.org")),
            account: Cell::Value("acme".into()),
            expiry: Cell::Value(Expiry::At(expiries[0])),
            created_at,
            ..only_id()
        },
        is_listed: is_known,
        has_relay: true,
        token: None,
        ledger: HashMap::new(),
        steps: vec![],
        steps_changed: false,
        seen_in_time: HashSet::new(),
        passed: HashSet::new(),
        now: start(),
    };
    for Round {
        events,
        tick,
        outage,
    } in rounds
    {
        let old_policy = world.policy.fingerprint();
        for event in events {
            world.apply(event);
        }
        let next = world.now + TimeDelta::minutes(*tick);
        world.sweep(next + TimeDelta::seconds(10), &old_policy);
        world.now = next + TimeDelta::minutes(*outage);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn all_recipients_are_notified_in_time_and_once(
        expiries in prop::array::uniform3(-60 * 24 * 2_i64..60 * 24 * 60),
        created in prop::option::of(0_i64..100),
        is_known in prop::bool::weighted(0.9),
        rounds in prop::collection::vec(round(), 1..40),
    ) {
        run_history(expiries, created, is_known, &rounds);
    }
}

fn quiet(tick: i64, count: usize) -> Vec<Round> {
    vec![
        Round {
            events: vec![],
            tick,
            outage: 0
        };
        count
    ]
}

#[test]
fn a_renewal_there_and_back_warns_again() {
    let day = 24 * 60;
    for relay in [false, true] {
        let mut rounds = quiet(60, 5);
        // Six days before the expiry: planned for seven days and, with a relay, sent.
        rounds[0].events = vec![Event::Relay(relay)];
        rounds[1].events = vec![Event::Expiry(1)];
        rounds[2].events = vec![Event::Expiry(0)];
        rounds[3].events = vec![Event::Relay(true)];
        // The checks of the history assert a notification after the second renewal.
        run_history([6 * day, 90 * day, 90 * day], Some(80), true, &rounds);
    }
}

#[test]
fn a_token_that_expired_in_an_outage_gets_one_late_warning() {
    let day = 24 * 60;
    let mut rounds = quiet(60, 3);
    rounds[0].outage = 30 * day;
    run_history([20 * day, 0, 0], Some(80), true, &rounds);
}

#[test]
fn a_step_added_later_does_not_apply_to_expired_tokens() {
    let day = 24 * 60;
    let mut rounds = quiet(day, 30);
    rounds[25].events = vec![Event::Steps(&["7d", "1d", "0d"])];
    run_history([10 * day + 5, 0, 0], Some(80), true, &rounds);
}
