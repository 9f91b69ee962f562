//! A source that cannot be read does not stop the others, and is alerted once.

use rstest::rstest;

use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const TOKENS: &str = "external_id,issuer_email,expires_at\na,ada@example.org,2026-11-30\n";

#[rstest]
fn three_failures_in_a_row_and_the_recovery_are_alerted_once(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.table("[[source]]\nname = \"broken\"\nkind = \"file\"\npath = \"broken.csv\"");
    world.table("[[source]]\nname = \"sound\"\nkind = \"file\"\npath = \"sound.csv\"");
    world.write("sound.csv", TOKENS);

    for sweep in 1..=4 {
        world.at(&format!("2026-11-20 0{sweep}:00:00"));
        world.run(&["sweep"]).exits(1);
        let subjects: Vec<_> = world
            .take_mails()
            .into_iter()
            .map(|mail| mail.subject)
            .collect();
        let expected: &[&str] = match sweep {
            3 => &["The source broken cannot be read"],
            _ => &[],
        };
        assert_eq!(subjects, expected, "sweep {sweep}");
    }
    assert_eq!(world.tokens().len(), 1, "the sound source was read");

    world.write("broken.csv", TOKENS);
    world.at("2026-11-20 05:00:00").sweep();
    let mails = world.take_mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].subject, "The source broken can be read again");
    assert_contains!(mails[0].text, "2026-11-20 01:00 UTC");

    std::fs::remove_file(world.path("broken.csv")).unwrap();
    world.at("2026-11-20 06:00:00").run(&["sweep"]).exits(1);
    world.write("broken.csv", TOKENS);
    world.at("2026-11-20 07:00:00").sweep();
    assert!(world.take_mails().is_empty(), "one failure is not alerted");
}
