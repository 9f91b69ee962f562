//! People who are erased.

use std::process::Command;

use rstest::rstest;
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};

use crate::waiting::wait_until;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const HEADER: &str = "external_id,name,issuer_email,expires_at\n";
const ERASE: [&str; 5] = [
    "identity",
    "erase",
    "Ada@example.org",
    "--reason",
    "asked by ada@example.org",
];

fn world_with_ada(db: Db) -> World {
    let mut world = World::new(db);
    world
        .table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"")
        .table("[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"");
    world
        .write(
            "exports.csv",
            format!("{HEADER}soon,Soon,ada@example.org,2026-11-28T09:00:00Z\nold,Old,ada@example.org,2026-11-20T09:00:00Z\n"),
        )
        .write("people.csv", "email,status,name\nada@example.org,active,Ada\n");
    world.set("notify.admin_digest", "\"08:00\"");
    world.at("2026-11-21 09:00:05");
    world.sweep();
    world.import(&["later,Later,ada@example.org,2026-11-29T09:00:00Z"]);
    world.at("2026-11-22 08:00:05").sweep();
    world
}

#[rstest]
fn a_person_is_erased_once_nothing_names_them(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_with_ada(db);
    let refused = |world: &World, why: &str| {
        world.run(&ERASE).exits(1).says(why);
    };
    refused(&world, "the source exports still names this person");
    world.write(
        "exports.csv",
        format!(
            "{HEADER}bob,Bob,bob@example.org,never\nold,Old,ada@example.org,2026-11-20T09:00:00Z\n"
        ),
    );
    world.sweep();
    refused(&world, "the source exports still names this person");
    world.write(
        "exports.csv",
        format!("{HEADER}bob,Bob,bob@example.org,never\n"),
    );
    refused(&world, "the directory hr still names this person");
    world.write(
        "people.csv",
        "email,status,name\nada@example.org,deleted,Ada\n",
    );
    world.sweep();
    world.set("notify.admins", "[\"ada@example.org\"]");
    refused(&world, "the configuration still names this person");
    world.set("notify.admins", "[\"boss@example.org\"]");
    world.sweep();
    let before = world.list(&["notice", "list"]).len();

    let erased = world.run(&ERASE);
    erased.exits(0).says("Backups made before");
    let pseudonym = erased
        .stdout
        .split_whitespace()
        .find(|word| word.starts_with("erased-"));
    let pseudonym = pseudonym.unwrap();
    if db == Sqlite {
        for name in ["lapsed.db", "lapsed.db-wal"] {
            let bytes = std::fs::read(world.path(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            assert!(!text.contains("ada@example.org"), "{name}");
        }
    }
    for list in ["notice", "audit", "identity", "finding", "token", "address"] {
        let rows = Value::from(world.list(&[list, "list"])).to_string();
        assert!(
            !rows.to_lowercase().contains("ada@example.org"),
            "{list}: {rows}"
        );
    }
    assert_eq!(world.list(&["notice", "list"]).len(), before);
    let theirs = world.list(&["notice", "list", "--recipient", pseudonym]);
    let states: Vec<&str> = theirs
        .iter()
        .map(|row| row["state"].as_str().unwrap())
        .collect();
    assert!(
        states.contains(&"sent") && !states.contains(&"planned"),
        "{states:?}"
    );
    let entry = &world.list(&["audit", "list"])[0];
    assert_eq!(
        (&entry["action"], &entry["subject"]),
        (&"identity.erase".into(), &pseudonym.into())
    );
    assert_eq!(entry["reason"], format!("asked by {pseudonym}"));

    world.at("2026-11-22 09:00:05").sweep();
    let mails = world.mails().join("\n");
    assert!(!mails.contains("ada@example.org: Token Later"), "{mails}");
    assert!(world.list(&["token", "list", "--name", "Later"])[0]["issuer"].is_null());
    refused(&world, "knows nothing of this person");
}

#[rstest]
fn a_source_that_cannot_be_read_may_still_name_them(#[values(Sqlite, Postgres)] db: Db) {
    let world = world_with_ada(db);
    world.write(
        "people.csv",
        "email,status,name\nada@example.org,deleted,Ada\n",
    );
    world.write(
        "exports.csv",
        format!("{HEADER}old,Old,ada@example.org,2026-11-20T09:00:00Z\n"),
    );
    world.sweep();
    world.write("exports.csv", "external_id,colour\n");
    world
        .run(&ERASE)
        .exits(1)
        .says("the source exports cannot be read now");
}

/// A world in which only the ledger names Ada, who has an expired token there.
fn world_without_ada(db: Db) -> World {
    let world = world_with_ada(db);
    world.write(
        "people.csv",
        "email,status,name\nada@example.org,deleted,Ada\n",
    );
    world.write(
        "exports.csv",
        format!("{HEADER}nada,Nada,nada@example.org,never\n"),
    );
    world.sweep();
    world
}

#[rstest]
fn a_longer_address_does_not_name_them(#[values(Sqlite, Postgres)] db: Db) {
    let world = world_without_ada(db);
    world.run(&ERASE).exits(0);
    let tokens = world.list(&["token", "list", "--name", "Nada"]);
    assert_eq!(tokens[0]["issuer"], "nada@example.org");
}

#[rstest]
fn a_token_names_them_in_any_column(#[values(Sqlite, Postgres)] db: Db) {
    let world = world_without_ada(db);
    for column in ["account", "role", "issuer_name", "description", "scope"] {
        world.write(
            "exports.csv",
            format!(
                "external_id,name,issuer_email,expires_at,{column}\nof-{column},New,bob@example.org,never,by Ada@example.org\n"
            ),
        );
        world.sweep();
        world
            .run(&ERASE)
            .exits(1)
            .says("the source exports still names this person");
    }
}

#[test]
fn a_stop_while_the_log_is_in_use_is_no_failure() {
    let world = world_without_ada(Sqlite);
    let url = format!("sqlite://{}", world.path("lapsed.db").display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let [mut reader, mut watcher] =
        [(); 2].map(|()| runtime.block_on(SqliteConnection::connect(&url)).unwrap());
    let snapshot = "BEGIN; SELECT COUNT(*) FROM token";
    runtime
        .block_on(sqlx::raw_sql(snapshot).execute(&mut reader))
        .unwrap();

    let mut erase = world.start("erase", &ERASE);
    let is_erased = "SELECT EXISTS (SELECT 1 FROM audit WHERE action = 'identity.erase')
                     AND NOT EXISTS (SELECT 1 FROM lease WHERE name = 'sweep' AND until > '1971')";
    wait_until("the person is erased and the lease released", || {
        let query = sqlx::query_scalar(is_erased).fetch_one(&mut watcher);
        runtime.block_on(query).unwrap_or(false).then_some(())
    });
    let signalled = Command::new("kill")
        .args(["-TERM", &erase.id().to_string()])
        .status();
    assert!(signalled.unwrap().success());
    let log = wait_until("it says what is left, or ends", || {
        let has_ended = erase.try_wait().unwrap().is_some();
        let log = std::fs::read_to_string(world.path("erase.log")).unwrap();
        (has_ended || log.contains("Backups made before")).then_some(log)
    });
    assert!(log.contains("may still have the address"), "{log}");
    runtime.block_on(reader.close()).unwrap();
    assert_eq!(erase.wait().unwrap().code(), Some(0));
}
