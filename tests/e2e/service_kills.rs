//! The daemon is killed while it issues and regenerates tokens: what a client got works, and what no client got is
//! recognisable.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rstest::rstest;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::waiting::wait_until;
use crate::web::{Answer, Site, secret, send, try_send, verifies};
use crate::world::Db;
use Db::{Postgres, Sqlite};

const ROUNDS: usize = 4;
const CLIENTS: usize = 12;

/// One request of a client, and what it got.
#[derive(Debug)]
struct Attempt {
    path: String,
    /// Requests with a key can be repeated.
    key: Option<String>,
    body: String,
    /// `None` if the answer was lost.
    answer: Option<Value>,
}

/// After how many answers a round is cut off. Where each request is then differs from run to run.
fn answers_before_kill(round: usize) -> usize {
    [3, 17, 40, 71][round % 4]
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

impl Attempt {
    fn send(&self, port: u16, token: &str) -> Option<Answer> {
        let bearer = bearer(token);
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("If-Match", "*"),
        ];
        headers.extend(self.key.as_deref().map(|key| ("Idempotency-Key", key)));
        let request = format!("POST {}", self.path);
        try_send(port, &request, &headers, &self.body)
            .ok()
            .flatten()
    }

    /// Sends it to a daemon that may be killed meanwhile.
    fn make(mut self, port: u16, token: &str, answers: &AtomicUsize) -> Self {
        if let Some(answer) = self.send(port, token) {
            assert!([200, 201].contains(&answer.status), "{answer:?}");
            self.answer = Some(serde_json::from_str(&answer.body).unwrap());
            answers.fetch_add(1, Ordering::Relaxed);
        }
        self
    }
}

/// Each client sends what `next` says, one request after the other, until the daemon is killed. Returns what each did.
fn kill_under(
    site: &Site,
    daemon: Daemon,
    token: &str,
    round: usize,
    next: impl Fn(usize, usize) -> Attempt + Sync,
) -> Vec<Vec<Attempt>> {
    let answers = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = |client: usize| {
            let (next, answers) = (&next, &answers);
            scope.spawn(move || {
                let mut attempts: Vec<Attempt> = Vec::new();
                while attempts.last().is_none_or(|last| last.answer.is_some()) {
                    let attempt = next(client, attempts.len());
                    attempts.push(attempt.make(site.port, token, answers));
                }
                attempts
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(work).collect();
        wait_until("tokens are made", || {
            let count = answers.load(Ordering::Relaxed);
            (count >= answers_before_kill(round)).then_some(())
        });
        // With SIGKILL.
        drop(daemon);
        let clients = clients.into_iter();
        clients.map(|client| client.join().unwrap()).collect()
    })
}

fn start(db: Db) -> (Site, String) {
    let mut site = Site::new(db);
    site.world.set("service.per_account", "0");
    let caller = site.issue(&[]);
    let token = secret(&caller).to_owned();
    (site, token)
}

fn show(site: &Site, token: &str, id: &str) -> Value {
    let bearer = bearer(token);
    let path = format!("GET /api/v1/tokens/{id}");
    let answer = send(site.port, &path, &[("Authorization", &bearer)], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// A request with a key gets its answer after all, and again, and has one effect.
fn repeat(site: &Site, token: &str, attempt: &Attempt) -> Value {
    let answers = [(); 2].map(|()| attempt.send(site.port, token).unwrap());
    for answer in &answers {
        assert!([200, 201].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(answers[0].body, answers[1].body);
    let made: Value = serde_json::from_str(&answers[0].body).unwrap();
    assert_eq!(verifies(site.port, secret(&made)), 200);
    made
}

#[rstest]
fn killed_while_it_issues(#[values(Sqlite, Postgres)] db: Db) {
    let (site, token) = start(db);
    let mut unseen = 0;
    for round in 0..ROUNDS {
        let daemon = Daemon::start(&site.world, "daemon");
        let next = |client: usize, nth: usize| {
            let name = format!("r{round}-c{client}-{nth}");
            Attempt {
                path: "/api/v1/tokens".to_owned(),
                key: client.is_multiple_of(2).then(|| format!("key-{name}")),
                body: json!({ "name": name }).to_string(),
                answer: None,
            }
        };
        let attempts = kill_under(&site, daemon, &token, round, next);
        let daemon = Daemon::start(&site.world, "daemon");
        let ids = |site: &Site| {
            let mut ids: HashMap<String, Vec<String>> = HashMap::new();
            for row in site.world.list(&["token", "list", "--source", "local"]) {
                let text = |key: &str| row[key].as_str().unwrap().to_owned();
                ids.entry(text("name")).or_default().push(text("id"));
            }
            ids
        };
        let before = ids(&site);
        for attempt in attempts.iter().flatten() {
            let body: Value = serde_json::from_str(&attempt.body).unwrap();
            let made = before.get(body["name"].as_str().unwrap());
            let made = made.map(Vec::as_slice).unwrap_or_default();
            match (&attempt.answer, &attempt.key) {
                (Some(answer), _) => {
                    assert_eq!(verifies(site.port, secret(answer)), 200, "{attempt:?}");
                    assert_eq!(made, [answer["id"].as_str().unwrap()]);
                }
                (None, Some(_)) => {
                    for id in made {
                        assert_eq!(show(&site, &token, id)["never_shown"], true, "{attempt:?}");
                    }
                    repeat(&site, &token, attempt);
                }
                (None, None) => {
                    assert!(made.len() <= 1, "{attempt:?}");
                    for id in made {
                        assert_eq!(show(&site, &token, id)["never_shown"], true, "{attempt:?}");
                        let shown = site.world.run(&["token", "show", id]);
                        shown.exits(0).says("was never shown");
                        unseen += 1;
                    }
                }
            }
        }
        let after = ids(&site);
        for attempt in attempts.iter().flatten().filter(|it| it.key.is_some()) {
            let body: Value = serde_json::from_str(&attempt.body).unwrap();
            let name = body["name"].as_str().unwrap();
            assert_eq!(after[name].len(), 1, "{attempt:?}");
        }
        drop(daemon);
    }
    println!("{unseen} tokens were made for no one");
}

#[rstest]
fn killed_while_it_regenerates(#[values(Sqlite, Postgres)] db: Db) {
    let (site, token) = start(db);
    let mut targets: Vec<Value> = (0..CLIENTS).map(|_| site.issue(&[])).collect();
    for round in 0..ROUNDS {
        let daemon = Daemon::start(&site.world, "daemon");
        let next = |client: usize, nth: usize| Attempt {
            path: format!(
                "/api/v1/tokens/{}/regenerate",
                targets[client]["id"].as_str().unwrap()
            ),
            key: client
                .is_multiple_of(2)
                .then(|| format!("key-r{round}-c{client}-{nth}")),
            body: "{}".to_owned(),
            answer: None,
        };
        let mut attempts = kill_under(&site, daemon, &token, round, next);
        let daemon = Daemon::start(&site.world, "daemon");
        for (target, attempts) in targets.iter_mut().zip(&mut attempts) {
            let lost = attempts.pop().unwrap();
            let mut answers = attempts.iter().filter_map(|attempt| attempt.answer.clone());
            let last = answers.next_back().unwrap_or_else(|| target.clone());
            let shown = show(&site, &token, last["id"].as_str().unwrap());
            // The token may have one more secret, and the last one that the client has works beside it.
            let number = shown["secrets"][0]["number"].as_u64().unwrap();
            let known = target["secret"].as_u64().unwrap_or(1) + attempts.len() as u64;
            assert!((known..=known + 1).contains(&number), "{shown}");
            assert!(number == known || shown["never_shown"] == true, "{shown}");
            assert_eq!(verifies(site.port, secret(&last)), 200, "{shown}");
            *target = last;
            let mut current = number;
            if lost.key.is_some() {
                *target = repeat(&site, &token, &lost);
                let shown = show(&site, &token, target["id"].as_str().unwrap());
                current = shown["secrets"][0]["number"].as_u64().unwrap();
                assert_eq!(current, known + 1, "{shown}");
            }
            target["secret"] = current.into();
        }
        drop(daemon);
    }
}
