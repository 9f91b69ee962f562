//! A token that ends at one process is refused by the others: at the command line beside a daemon, and with two daemons
//! on one PostgreSQL.
//!
//! What is known of a token in memory may be used for a second after the last complete look at the changes began. So
//! no request that is *sent* a second after the end of a revocation is accepted, however busy the machine is.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Daemon, free_port};
use crate::postgres::query;
use crate::waiting::wait_until;
use crate::web::{Site, secret, send, verifies};
use crate::world::Db;
use Db::{Postgres, Sqlite};

const BOUND: Duration = Duration::from_secs(1);

/// Asks until the token is refused.
fn assert_refused_in_time(port: u16, token: &str, ended: Instant) {
    wait_until("the token is refused", || {
        let sent = ended.elapsed();
        match verifies(port, token) {
            200 => {
                assert!(
                    sent < BOUND,
                    "accepted a request that was sent {sent:?} later"
                );
                None
            }
            status => {
                assert_eq!(status, 401);
                Some(())
            }
        }
    });
}

/// Issues tokens with a token of the API.
fn issue_over_http(port: u16, caller: &str) -> Value {
    let bearer = format!("Bearer {caller}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let answer = send(port, "POST /api/v1/tokens", &headers, "{\"name\": \"ci\"}");
    assert_eq!(answer.status, 201, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn delete_over_http(port: u16, caller: &str, token: &Value) {
    let bearer = format!("Bearer {caller}");
    let path = format!("DELETE /api/v1/tokens/{}", token["id"].as_str().unwrap());
    let headers = [("Authorization", bearer.as_str()), ("If-Match", "*")];
    assert_eq!(send(port, &path, &headers, "").status, 204);
}

#[test]
fn what_the_command_line_revokes_is_refused_by_the_daemon() {
    let mut site = Site::new(Sqlite);
    // Fifty refusals are no attack.
    site.world
        .set("web.trusted_proxies", "[\"127.0.0.1/32\"]")
        .set("service.per_account", "0");
    let caller = site.issue(&[]);
    let daemon = Daemon::start(&site.world, "daemon");
    for round in 0..50 {
        let issued = issue_over_http(site.port, secret(&caller));
        for _ in 0..3 {
            assert_eq!(verifies(site.port, secret(&issued)), 200);
        }
        let id = issued["id"].as_str().unwrap();
        let verb = if round % 2 == 0 { "delete" } else { "disable" };
        site.world.run(&["token", verb, id]).exits(0);
        assert_refused_in_time(site.port, secret(&issued), Instant::now());
    }
    assert_eq!(verifies(site.port, secret(&caller)), 200);
    daemon.stop();
}

/// Two daemons on one PostgreSQL. The second one signs in to the database with a role of its own.
struct Pair {
    site: Site,
    /// The port of the second daemon.
    second_port: u16,
    /// A role of the database.
    role: String,
    caller: Value,
    first: Daemon,
    second: Daemon,
}

impl Pair {
    fn start() -> Self {
        let mut site = Site::new(Postgres);
        site.world.set("service.per_account", "0");
        let caller = site.issue(&[]);
        let first = Daemon::start(&site.world, "first");
        let url = site.world.store_url();
        let role = url.rsplit('/').next().unwrap().replace("test", "role");
        let rights = "ALL ON ALL TABLES IN SCHEMA public";
        let sequences = "ALL ON ALL SEQUENCES IN SCHEMA public";
        query(
            &url,
            &format!(
                "CREATE ROLE {role} LOGIN PASSWORD '{role}'; GRANT {rights} TO {role}; GRANT {sequences} TO {role}"
            ),
        );
        let mut second_url = url::Url::parse(&url).unwrap();
        second_url.set_username(&role).unwrap();
        second_url.set_password(Some(&role)).unwrap();
        let second_port = free_port();
        site.world
            .set("store.url", &format!("{:?}", second_url.as_str()))
            .set("web.listen", &format!("\"127.0.0.1:{second_port}\""));
        let second = Daemon::start(&site.world, "second");
        site.world
            .set("store.url", &format!("{url:?}"))
            .set("web.listen", &format!("\"127.0.0.1:{}\"", site.port));
        Self {
            site,
            second_port,
            role,
            caller,
            first,
            second,
        }
    }

    fn query(&self, sql: &str) {
        query(
            &self.site.world.store_url(),
            &sql.replace("ROLE", &self.role),
        );
    }

    /// A token that the second daemon has in memory.
    fn known_token(&self) -> Value {
        let issued = issue_over_http(self.site.port, secret(&self.caller));
        for _ in 0..3 {
            assert_eq!(verifies(self.second_port, secret(&issued)), 200);
        }
        issued
    }

    fn revoke_at_first(&self, token: &Value) -> Instant {
        delete_over_http(self.site.port, secret(&self.caller), token);
        let ended = Instant::now();
        assert_eq!(verifies(self.site.port, secret(token)), 401, "at once");
        ended
    }

    fn stop(self) {
        let url = self.site.world.store_url();
        self.first.stop();
        self.second.stop();
        let role = self.role;
        query(&url, &format!("DROP OWNED BY {role}"));
        query(&url, &format!("DROP ROLE {role}"));
    }
}

#[test]
fn what_one_replica_revokes_is_refused_by_the_other() {
    let pair = Pair::start();
    for _ in 0..10 {
        let token = pair.known_token();
        let ended = pair.revoke_at_first(&token);
        assert_refused_in_time(pair.second_port, secret(&token), ended);
    }
    pair.stop();
}

#[test]
fn a_replica_that_cannot_read_changes_reads_the_store() {
    let pair = Pair::start();
    let (revoked, valid) = (pair.known_token(), pair.known_token());
    pair.query("REVOKE SELECT ON change FROM ROLE");
    wait_until("the second daemon reads no changes", || {
        let log = pair.second.log();
        log.contains("cannot read changes of tokens").then_some(())
    });
    let ended = pair.revoke_at_first(&revoked);
    assert_refused_in_time(pair.second_port, secret(&revoked), ended);
    assert_eq!(verifies(pair.second_port, secret(&valid)), 200);
    wait_until("memory is too old", || {
        (ended.elapsed() > BOUND).then_some(())
    });
    // Without any memory: refused by the next request.
    pair.revoke_at_first(&valid);
    assert_eq!(verifies(pair.second_port, secret(&valid)), 401);
    pair.query("GRANT SELECT ON change TO ROLE");
    wait_until("the second daemon reads changes", || {
        let log = pair.second.log();
        log.contains("changes of tokens can be read again")
            .then_some(())
    });
    let token = pair.known_token();
    let ended = pair.revoke_at_first(&token);
    assert_refused_in_time(pair.second_port, secret(&token), ended);
    pair.stop();
}

#[test]
fn a_replica_that_was_suspended_does_not_trust_its_memory() {
    let pair = Pair::start();
    let token = pair.known_token();
    pair.second.signal("-STOP");
    let ended = pair.revoke_at_first(&token);
    wait_until("its memory is too old", || {
        (ended.elapsed() > BOUND).then_some(())
    });
    pair.second.signal("-CONT");
    assert_eq!(verifies(pair.second_port, secret(&token)), 401);
    pair.stop();
}
