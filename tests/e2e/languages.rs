//! Mails in the language of their readers.

use std::fs;

use rstest::rstest;

use crate::world::{
    Db::{self, Postgres, Sqlite},
    World,
};

/// The subject of the mail to each person.
fn subjects(world: &World) -> Vec<(String, String)> {
    world.sweep();
    let mails = world.take_mails().into_iter();
    let mut subjects: Vec<_> = mails.map(|mail| (mail.to, mail.subject)).collect();
    subjects.sort();
    subjects
}

#[rstest]
fn people_get_mails_in_the_language_that_they_prefer(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world
        .set("service.enabled", "true")
        .set("notify.admins", "[]")
        .at("2026-11-20 00:00:00");
    world.import(&[
        "a,of-ada,ada@example.org,2026-12-01T00:00:00Z",
        "b,of-bob,bob@example.org,2026-12-01T00:00:00Z",
    ]);
    let prefer = ["preference", "set", "ada@example.org", "language", "de"];
    world.run(&prefer).exits(0);
    world.at("2026-11-24 00:00:00");
    let to = |person: &str, subject: &str| (person.to_owned(), subject.to_owned());
    let german = "Token of-ada läuft in 7 Tagen ab (Di., 1. Dez. 2026)";
    let english = "Token of-bob expires in 7 days (Tue 1 Dec 2026)";
    assert_eq!(
        subjects(&world),
        [
            to("ada@example.org", german),
            to("bob@example.org", english)
        ]
    );
    world
        .set("notify.language", "\"de\"")
        .at("2026-11-30 00:00:00");
    let day = |name: &str| format!("Token {name} läuft in 24 Stunden ab (Di., 1. Dez. 2026)");
    assert_eq!(
        subjects(&world),
        [
            to("ada@example.org", &day("of-ada")),
            to("bob@example.org", &day("of-bob"))
        ]
    );
}

#[test]
fn an_unknown_language_is_a_mistake_until_its_phrases_are_there() {
    let mut world = World::new(Sqlite);
    world
        .set("notify.language", "\"fr\"")
        .set("mail.templates", "\"templates\"");
    fs::create_dir_all(world.path("templates")).unwrap();
    let known = "notify.language: there is no language \"fr\"; there are de, en";
    world.run(&["sweep"]).exits(78).says(known);
    let preview = ["preview", "revoked", "--language", "fr"];
    world.run(&preview).exits(2).says("there are de, en");
    let folder = world.path("templates/locales/fr");
    fs::create_dir_all(&folder).unwrap();
    let write = |text: &str| fs::write(folder.join("mails.ftl"), text).unwrap();
    write("revoked-subject = Un essai\n");
    world.run(&["sweep"]).exits(0);
    world
        .run(&["preview", "revoked"])
        .exits(0)
        .says("Subject: Un essai");
    write("revoked-subject = { $who }\n");
    world
        .run(&["check"])
        .exits(78)
        .says("mails.ftl:1: the phrase revoked-subject has no variable $who");
}
