//! `lapsed move`: the store goes to the other database, and the old one is not used again.

use rstest::rstest;
use url::Url;

use crate::postgres::Database;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

#[rstest]
fn a_store_moves_with_its_ledger(#[values(Sqlite, Postgres)] from: Db) {
    let mut world = World::new(from);
    world
        .at("2026-11-24 00:00:00")
        .import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    world.sweep();
    assert_eq!(world.mails().len(), 2);
    let before = (world.notices(), world.tokens());
    let database = Database::new();
    let target = match from {
        Sqlite => {
            let mut url = Url::parse(&database.url()).unwrap();
            url.set_password(Some("s3cret")).unwrap();
            url.to_string()
        }
        Postgres => "sqlite:moved.db".to_owned(),
    };
    let moved = world.run(&["move", "--to", &target]);
    moved.exits(0).says("each compared");
    let refused = world.run(&["move", "--to", &target]);
    refused.exits(1).says("the other store is not empty");
    let commands: [&[&str]; 5] = [
        &["sweep"],
        &["sweep", "--dry-run"],
        &["run"],
        &["token", "list"],
        &["check"],
    ];
    for command in commands {
        let ran = world.run(command);
        ran.exits(78).says("the store was moved to");
        assert!(!format!("{ran:?}").contains("s3cret"), "{ran:?}");
    }
    if from == Sqlite {
        world.run(&["backup", "old.db"]).exits(0);
    }
    assert!(!format!("{moved:?}").contains("s3cret"), "{moved:?}");

    world.set("store.url", &format!("{target:?}"));
    assert_eq!((world.notices(), world.tokens()), before);
    world.sweep().says("nothing was due");
    assert!(world.mails().is_empty());
}

#[test]
fn a_store_is_not_moved_to_itself_or_to_a_file_of_the_same_kind() {
    let world = World::new(Sqlite);
    world.run(&["migrate"]).exits(0);
    world.run(&["move", "--to", "sqlite:lapsed.db"]).exits(2);
    let ran = world.run(&["move", "--to", "sqlite:other.db"]);
    ran.exits(1).says("move the file");
    world.run(&["token", "list"]).exits(0);
}
