//! A store on PostgreSQL of several servers.

use crate::postgres::{Database, Server, query};
use crate::waiting::wait_until;
use crate::world::{Db, World};

#[test]
fn a_write_that_no_standby_has_does_not_count() {
    let server = Server::start();
    let mut world = World::new(Db::Sqlite);
    world.set("store.url", &format!("{:?}", server.url));
    // Also where the log shows no warnings.
    world.set("log.level", "\"error\"");
    world.run(&["migrate"]).exits(0);
    // A standby that never comes: each commit waits for it.
    query(
        &server.url,
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
    );
    query(&server.url, "SELECT pg_reload_conf()");
    world.write(
        "tokens.csv",
        "external_id,name,issuer_email,expires_at\n1,one,a@example.org,2030-01-01\n",
    );
    let mut import = world.start("import", &["import", "tokens.csv"]);
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_until("a commit waits for the standby", || {
        (query(&server.url, cancel) == "t").then_some(())
    });
    assert_eq!(import.wait().unwrap().code(), Some(75));
    let said = std::fs::read_to_string(world.path("import.log")).unwrap();
    assert!(said.contains("did not wait for its standby"), "{said}");
}

#[test]
fn a_list_of_servers_is_taken_from_the_file_and_from_the_environment() {
    let (standby, leader) = (Database::new(), Database::new());
    let name = standby.url().rsplit('/').next().unwrap().to_owned();
    query(
        &standby.url(),
        &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
    );
    let mut world = World::new(Db::Sqlite);
    world.set(
        "store.url",
        &format!("[{:?}, {:?}]", standby.url(), leader.url()),
    );
    world.import(&["1,one,a@example.org,2030-01-01"]);
    assert_eq!(world.tokens().len(), 1);
    let list = format!("[{:?}, \"sqlite:other.db\"]", leader.url());
    world.set("store.url", &list);
    let refused = world.run(&["token", "list"]);
    refused.exits(78).says("only servers of PostgreSQL");
    let urls = format!("{},{}", leader.url(), standby.url());
    world.env("LAPSED__STORE__URL", &urls);
    assert_eq!(world.tokens().len(), 1);
}
