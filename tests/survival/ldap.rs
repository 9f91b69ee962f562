//! LDAP: what real OpenLDAP servers tell of people, and what lapsed makes of their traps.

mod slapd;
mod wire;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lapsed::clock::Clock;
use lapsed::directories::ldap::{Access, Config, Flavor, LdapDirectory};
use lapsed::directories::{Asked, Common, Directory, Group, LookedUp, Pulled};
use lapsed::domain::{Address, IdentityStatus, Person, Reason};
use lapsed::sources::{Checked, Error, Fetched};
use rstest::rstest;
use serde_json::Value;

use slapd::{PASSWORD, READER, SUFFIX, Setup, Slapd};
use wire::Wire;

use crate::world::{Db, World};

/// How a server is asked, unless a story asks otherwise.
fn config_of(server: &Slapd) -> Config {
    Config {
        access: Access {
            url: server.url().parse().unwrap(),
            starttls: false,
            bind_dn: READER.to_owned(),
            password: PASSWORD.into(),
            ca_file: None,
        },
        base: format!("ou=people,{SUFFIX}"),
        filter: None,
        flavor: None,
        shadow_expire: false,
    }
}

fn built(config: &Config, groups: &[&str]) -> LdapDirectory {
    built_with(config, groups, Duration::from_secs(30))
}

fn built_with(config: &Config, groups: &[&str], timeout: Duration) -> LdapDirectory {
    let common = Common {
        name: "people".to_owned(),
        timeout,
        allowed_groups: groups.iter().map(|name| (*name).to_owned()).collect(),
    };
    let clock = Clock::manual("2026-11-22T06:00:00Z".parse().unwrap());
    config.build(&common, clock).unwrap()
}

/// Does this work to its end; connections live in it.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

/// Everybody in order of address, and what was said in the end.
fn pull(config: &Config, groups: &[&str]) -> Result<(Vec<Person>, Pulled), Error> {
    let directory = built(config, groups);
    let mut people = Vec::new();
    let mut tell = |person: Person| people.push(person);
    let Fetched::New(pulled) = run(directory.pull(&Asked::default(), &mut tell))? else {
        panic!("a list cannot be known");
    };
    people.sort_by(|one, other| one.email().cmp(other.email()));
    Ok((people, pulled))
}

/// What an administrator reads of a pull that fails.
fn failure(config: &Config, groups: &[&str]) -> String {
    let told = pull(config, groups).unwrap_err().to_string();
    for hidden in [PASSWORD, "@example.org", READER] {
        assert!(!told.contains(hidden), "{told}");
    }
    told
}

fn look_up(config: &Config, id: &str) -> LookedUp {
    run(built(config, &[]).look_up(id)).unwrap()
}

fn check(config: &Config, groups: &[&str]) -> Checked {
    run(built(config, groups).check()).unwrap()
}

/// What a check says to be missing.
fn missing(checked: &Checked) -> Vec<String> {
    let lacks = |right: &lapsed::sources::Right| {
        let mend = right.missing.as_ref()?;
        Some(format!("{}: {mend}", right.what))
    };
    checked.rights.iter().filter_map(lacks).collect()
}

/// The person of this name.
fn person(people: &[Person], name: &str) -> Person {
    let address = format!("{name}@example.org").parse().unwrap();
    let found = people
        .iter()
        .find(|person| person.addresses.contains(&address));
    found.unwrap_or_else(|| panic!("{name}")).clone()
}

/// `status reason: evidence` of a person.
fn said(config: &Config, name: &str) -> String {
    let person = person(&pull(config, &[]).unwrap().0, name);
    let reason = person.reason.map(|reason| format!(" {reason}"));
    format!(
        "{}{}: {}",
        person.status,
        reason.unwrap_or_default(),
        person.evidence
    )
}

/// Those who are in an allowed group.
fn members(people: &[Person]) -> Vec<&str> {
    let members = people.iter().filter(|person| person.is_member.unwrap());
    let address = members.map(|person| person.email().as_str());
    address
        .map(|address| address.split_once('@').unwrap().0)
        .collect()
}

#[test]
fn people_are_told_with_their_ids_addresses_and_names() {
    let server = Slapd::start();
    let (people, pulled) = pull(&config_of(&server), &[]).unwrap();
    assert_eq!(people.len(), 4);
    assert_eq!(pulled, Pulled::default());
    let bob = person(&people, "bob");
    let addresses: Vec<&str> = bob.addresses.iter().map(Address::as_str).collect();
    assert_eq!(addresses, ["bob@example.org", "robert.baker@example.org"]);
    assert_eq!(bob.name.as_deref(), Some("Bob Baker"));
    assert_eq!(bob.id.as_ref().unwrap().len(), 36);
    assert_eq!((bob.status, bob.is_member), (IdentityStatus::Active, None));
    let carol = person(&people, "carol");
    assert_eq!(carol.name.as_deref(), Some("Carol C. Clark"));
}

#[test]
fn a_long_list_comes_in_pages_and_whole() {
    let server = Slapd::start();
    server.add_people((0..1200).map(|n| format!("p{n:04}")));
    let (people, _) = pull(&config_of(&server), &[]).unwrap();
    assert_eq!(people.len(), 1204);
}

#[test]
fn an_administrators_lock_ends_access_and_a_lock_out_does_not() {
    let server = Slapd::start();
    let config = config_of(&server);
    server.change_person(
        "bob",
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z",
    );
    assert!(!server.lets_in("bob", "bobpw"));
    let bob = said(&config, "bob");
    assert_eq!(bob, "disabled admin: pwdAccountLockedTime=000001010000Z");

    assert!(server.lets_in("carol", "carolpw"));
    for _ in 0..3 {
        assert!(!server.lets_in("carol", "guess"));
    }
    assert!(!server.lets_in("carol", "carolpw"), "locked out");
    let carol = said(&config, "carol");
    assert!(
        carol.starts_with("active: pwdAccountLockedTime=2"),
        "{carol}"
    );

    server.change_person("bob", "delete: pwdAccountLockedTime");
    assert!(server.lets_in("bob", "bobpw"));
    let bob = said(&config, "bob");
    assert_eq!(bob, "active: its entry has no pwdAccountLockedTime");
}

#[test]
fn an_account_ends_with_its_end_time_and_by_shadow_expire_only_where_that_counts() {
    let server = Slapd::start();
    let mut config = config_of(&server);
    server
        .change_person("alice", "add: pwdEndTime\npwdEndTime: 20261101000000Z")
        .change_person("carol", "add: shadowExpire\nshadowExpire: 20000");
    let alice = person(&pull(&config, &[]).unwrap().0, "alice");
    assert_eq!(
        (alice.status, alice.reason, alice.since),
        (
            IdentityStatus::Disabled,
            Some(Reason::Expired),
            "2026-11-01T00:00:00Z".parse().ok()
        )
    );
    assert!(server.lets_in("carol", "carolpw"), "it is advice");
    assert!(said(&config, "carol").starts_with("active"));
    config.shadow_expire = true;
    let carol = said(&config, "carol");
    assert!(
        carol.starts_with("disabled expired: shadowExpire=20000"),
        "{carol}"
    );
}

#[test]
fn members_are_found_through_groups_in_groups_that_go_in_a_circle() {
    let server = Slapd::start();
    let config = config_of(&server);
    let (people, pulled) = pull(&config, &["cdn-admins"]).unwrap();
    assert_eq!(members(&people), ["alice", "bob", "carol"]);
    let counted = Group {
        name: "cdn-admins".to_owned(),
        members: 3,
    };
    assert_eq!(pulled.groups, [counted]);

    let dn = "CN=cdn-old-hands, ou=groups,dc=example,dc=org";
    let (people, pulled) = pull(&config, &[dn, "operators"]).unwrap();
    assert_eq!(members(&people), ["alice", "bob", "carol", "dave"]);
    let counts: Vec<u64> = pulled.groups.iter().map(|group| group.members).collect();
    assert_eq!(counts, [3, 1]);

    let leaves = "dn: cn=cdn-night-shift,ou=groups,dc=example,dc=org\nchangetype: modify\n\
                  delete: uniqueMember\nuniqueMember: uid=bob,ou=people,dc=example,dc=org\n";
    server.change(leaves);
    let (people, _) = pull(&config, &["cdn-admins"]).unwrap();
    assert_eq!(members(&people), ["alice", "carol"]);
}

#[test]
fn a_posix_group_is_that_of_whoever_has_its_number_too() {
    let server = Slapd::start();
    let dn = "cn=staff,ou=groups,dc=example,dc=org";
    let (people, _) = pull(&config_of(&server), &[dn]).unwrap();
    assert_eq!(members(&people), ["alice", "bob", "carol"]);
}

#[test]
fn a_group_that_is_not_one_is_an_error_that_names_it() {
    let server = Slapd::start();
    let config = config_of(&server);
    let told = failure(&config, &["cdn-admins", "cdn-admin"]);
    assert!(told.contains("no group called \"cdn-admin\""), "{told}");
    let told = failure(&config, &["staff"]);
    assert!(told.contains("2 groups called \"staff\""), "{told}");
    let told = failure(&config, &["cn=nobody,ou=groups,dc=example,dc=org"]);
    assert!(told.contains("no group \"cn=nobody,"), "{told}");
}

#[test]
fn an_account_is_looked_up_by_its_id_whatever_becomes_of_its_name() {
    let server = Slapd::start();
    let config = config_of(&server);
    let (people, _) = pull(&config, &[]).unwrap();
    let id = |name| person(&people, name).id.unwrap();
    server
        .change_person("bob", "replace: mail\nmail: bobby@example.org")
        .change("dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modrdn\nnewrdn: uid=bobby\ndeleteoldrdn: 1\n");
    let LookedUp::Found(bob) = look_up(&config, &id("bob").to_uppercase()) else {
        panic!("not found");
    };
    assert_eq!(bob.email().as_str(), "bobby@example.org");

    server.delete_person("dave");
    let gone = LookedUp::Gone {
        evidence: "no entry has its entryUUID".to_owned(),
        is_certain: false,
    };
    assert_eq!(look_up(&config, &id("dave")), gone);
    assert_eq!(look_up(&config, "*"), gone, "no pattern");
    assert!(matches!(look_up(&config, &id("carol")), LookedUp::Found(_)));
}

#[test]
fn what_the_reader_may_not_see_is_no_evidence() {
    let mut server = Slapd::start();
    let config = config_of(&server);
    let (people, _) = pull(&config, &[]).unwrap();
    let alice = person(&people, "alice").id.unwrap();

    server.set_up_again(Setup {
        access: "access to attrs=mail by * none",
        ..Setup::default()
    });
    let config = config_of(&server);
    let told = failure(&config, &[]);
    assert!(told.starts_with("it shows nobody"), "{told}");
    let LookedUp::Found(seen) = look_up(&config, &alice) else {
        panic!("her entry is there");
    };
    assert_eq!(seen.status, IdentityStatus::Active);
    assert!(seen.addresses.is_empty());
    assert_eq!(missing(&check(&config, &[])).len(), 1);

    server.set_up_again(Setup {
        access: "access to attrs=entryUUID by * none",
        ..Setup::default()
    });
    let config = config_of(&server);
    let told = failure(&config, &[]);
    assert!(
        told.starts_with("4 entries show no id (entryUUID)"),
        "{told}"
    );
    let looked_up = look_up(&config, &alice);
    assert!(matches!(looked_up, LookedUp::Unclear(_)), "{looked_up:?}");

    // All but the reader's own right to sign in.
    server.set_up_again(Setup {
        access: "access to * by anonymous auth by * none",
        ..Setup::default()
    });
    let config = config_of(&server);
    let told = failure(&config, &[]);
    assert!(told.contains("LDAP code 32"), "{told}");
    assert!(run(built(&config, &[]).look_up(&alice)).is_err());
}

#[test]
fn a_wrong_base_is_an_error_and_nobody_is_gone() {
    let server = Slapd::start();
    let right = config_of(&server);
    let bob = person(&pull(&right, &[]).unwrap().0, "bob").id.unwrap();
    let wrong = Config {
        base: "ou=persons,dc=example,dc=org".to_owned(),
        ..right.clone()
    };
    let told = failure(&wrong, &[]);
    assert!(
        told.contains("LDAP code 32") && told.contains("correct base"),
        "{told}"
    );
    assert!(run(built(&wrong, &[]).look_up(&bob)).is_err());
    assert!(run(built(&wrong, &[]).check()).is_err());
    let narrow = Config {
        base: "ou=services,dc=example,dc=org".to_owned(),
        ..right
    };
    let told = failure(&narrow, &[]);
    assert!(told.contains("correct base and filter"), "{told}");
}

#[test]
fn half_a_list_is_an_error() {
    let server = Slapd::set_up(Setup {
        limits: "limits dn.exact=\"cn=reader,ou=services,dc=example,dc=org\" size.hard=3 size.soft=3 size.prtotal=3",
        ..Setup::default()
    });
    let told = failure(&config_of(&server), &[]);
    assert!(
        told.contains("LDAP code 4") && told.contains("size=unlimited"),
        "{told}"
    );
}

#[test]
fn a_server_that_dies_or_hangs_in_the_middle_of_a_list_is_an_error() {
    let mut server = Slapd::start();
    server.add_people((0..600).map(|n| format!("p{n:04}")));
    let directory = built(&config_of(&server), &[]);
    let mut count = 0;
    let mut tell = |_: Person| {
        count += 1;
        server.stop();
    };
    let failed = run(directory.pull(&Asked::default(), &mut tell));
    let told = failed.err().unwrap().to_string();
    assert!(told.contains("broke off"), "{told}");
    assert_eq!(count, 500, "a page");
    let told = failure(&config_of(&server), &[]);
    assert!(told.starts_with("cannot reach ldap://127.0.0.1:"), "{told}");

    server.listen();
    let directory = built_with(&config_of(&server), &[], Duration::from_secs(1));
    let pid = server.pid();
    let mut tell = |_: Person| signal(pid, "-STOP");
    let failed = run(directory.pull(&Asked::default(), &mut tell));
    let told = failed.err().unwrap().to_string();
    assert!(told.contains("did not answer within 1 s"), "{told}");
    let failed = run(directory.check());
    assert!(failed.err().unwrap().to_string().contains("within 1 s"));
    signal(pid, "-CONT");
    assert_eq!(pull(&config_of(&server), &[]).unwrap().0.len(), 604);
}

fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let server = Slapd::start();
    let right = config_of(&server);
    let mut wrong = right.clone();
    wrong.access.password = "s3cret-that-is-wrong".into();
    let told = failure(&wrong, &[]);
    assert!(
        told.contains("LDAP code 49") && !told.contains("s3cret"),
        "{told}"
    );
    let mut wrong = right;
    wrong.access.bind_dn = "reader".to_owned();
    let told = failure(&wrong, &[]);
    assert!(told.contains("LDAP code 34"), "{told}");
}

#[rstest]
#[case::from_the_start(false)]
#[case::by_starttls(true)]
fn a_connection_is_encrypted_and_only_with_whom_is_trusted(#[case] starttls: bool) {
    let server = Slapd::set_up(Setup {
        has_certificate: true,
        limits: "security simple_bind=128",
        ..Setup::default()
    });
    let mut config = config_of(&server);
    assert!(
        failure(&config, &[]).contains("LDAP code 13"),
        "not without"
    );

    let url = if starttls {
        format!("ldap://localhost:{}", server.port)
    } else {
        format!("ldaps://localhost:{}", server.tls_port)
    };
    config.access.url = url.parse().unwrap();
    config.access.starttls = starttls;
    config.access.ca_file = Some(server.authority());
    assert_eq!(pull(&config, &[]).unwrap().0.len(), 4);

    let other = Slapd::set_up(Setup {
        has_certificate: true,
        ..Setup::default()
    });
    config.access.ca_file = Some(other.authority());
    let told = failure(&config, &[]);
    assert!(told.contains("invalid peer certificate"), "{told}");
    // It is a certificate for localhost.
    let url = config.access.url.as_str().replace("localhost", "127.0.0.1");
    config.access.url = url.parse().unwrap();
    config.access.ca_file = Some(server.authority());
    let told = failure(&config, &[]);
    assert!(told.contains("not valid for name"), "{told}");
}

#[test]
fn starttls_is_not_left_out_where_it_is_not_offered() {
    let server = Slapd::start();
    let mut config = config_of(&server);
    config.access.starttls = true;
    let told = failure(&config, &[]);
    assert!(told.contains("StartTLS"), "{told}");
}

#[test]
fn look_ups_share_a_connection_and_open_another_when_it_breaks() {
    let server = Slapd::start();
    let wire = Wire::to(server.port);
    let mut config = config_of(&server);
    config.access.url = format!("ldap://127.0.0.1:{}", wire.port).parse().unwrap();
    let (people, _) = pull(&config, &[]).unwrap();
    let taken = wire.count();
    let directory = built(&config, &[]);
    run(async {
        let find = async |name| {
            let id = person(&people, name).id.unwrap();
            directory.look_up(&id).await.unwrap()
        };
        for name in ["alice", "bob", "carol"] {
            assert!(matches!(find(name).await, LookedUp::Found(_)));
        }
        assert_eq!(wire.count(), taken + 1);
        wire.cut();
        assert!(matches!(find("dave").await, LookedUp::Found(_)));
        assert_eq!(wire.count(), taken + 2);
    });
}

#[test]
fn a_check_says_what_is_seen_and_what_is_lacking() {
    let server = Slapd::start();
    let config = config_of(&server);
    server.change_person(
        "bob",
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z",
    );
    let checked = check(&config, &["cdn-admins"]);
    assert_eq!(
        checked.summary,
        "OpenLDAP, 4 people, 1 of them without access"
    );
    assert!(missing(&checked).is_empty(), "{checked:?}");
    let lacking = missing(&check(&config, &["cdn-admins", "cdn-boss"]));
    assert_eq!(lacking.len(), 1, "{lacking:?}");
    assert!(
        lacking[0].starts_with("read the group cdn-boss: it shows no group"),
        "{lacking:?}"
    );
}

#[test]
fn a_389ds_is_read_by_its_own_attributes() {
    let server = Slapd::set_up(Setup {
        is_like_389ds: true,
        ..Setup::default()
    });
    let mut config = config_of(&server);
    config.flavor = Some(Flavor::Ds389);
    let told = failure(&config, &[]);
    assert!(told.starts_with("4 entries show no id"), "{told}");
    for (n, name) in ["alice", "bob", "carol", "dave"].iter().enumerate() {
        let id = format!("{n}a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9");
        let lines = format!(
            "add: objectClass\nobjectClass: like389ds\n-\nadd: nsUniqueId\nnsUniqueId: {id}"
        );
        server.change_person(name, &lines);
    }
    server.change_person("bob", "add: nsAccountLock\nnsAccountLock: TRUE");
    let expired = "add: krbPrincipalExpiration\nkrbPrincipalExpiration: 20261101000000Z";
    server.change_person("carol", expired);
    assert_eq!(said(&config, "bob"), "disabled admin: nsAccountLock=TRUE");
    let carol = said(&config, "carol");
    assert!(
        carol.starts_with("disabled expired: krbPrincipalExpiration="),
        "{carol}"
    );
    let alice = said(&config, "alice");
    assert_eq!(alice, "active: its entry has no nsAccountLock");
    let bob = look_up(&config, "1a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9");
    assert!(matches!(bob, LookedUp::Found(bob) if bob.status == IdentityStatus::Disabled));
}

/// The table of a directory, with more keys.
fn table(server: &Slapd, keys: &str) -> String {
    format!(
        "[[directory]]\nname = \"people\"\nkind = \"ldap\"\nurl = \"{}\"\nbind_dn = \"{READER}\"\n\
         password = {{ file = \"ldap-password\" }}\nabsence_grace = \"0s\"\n{keys}",
        server.url()
    )
}

const BASE: &str = "base = \"ou=people,dc=example,dc=org\"\n";

/// A world with a token of each of the four people, who are all seen to be active.
fn world_with(db: Db, server: &Slapd, keys: &str) -> World {
    let mut world = World::new(db);
    world.write("ldap-password", format!("{PASSWORD}\n"));
    world.table_alone(&table(server, &format!("{BASE}{keys}")));
    world.import(&[
        "a,A,alice@example.org,2099-01-01",
        "b,B,Robert.Baker@example.org,2099-01-01",
        "c,C,carol@example.org,2099-01-01",
        "d,D,dave@example.org,2099-01-01",
    ]);
    world.run(&["sweep"]).exits(0);
    for name in ["alice", "robert.baker", "carol", "dave"] {
        assert_eq!(status(&world, name), "active", "{name}");
    }
    world
}

fn shown(world: &World, name: &str) -> Value {
    let email = format!("{name}@example.org");
    let ran = world.run(&["identity", "show", &email, "--format", "json"]);
    let shown: Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    shown["directories"][0].clone()
}

fn status(world: &World, name: &str) -> String {
    shown(world, name)["status"].as_str().unwrap().to_owned()
}

fn evidence(world: &World, name: &str) -> String {
    shown(world, name)["evidence"].as_str().unwrap().to_owned()
}

/// The tokens of those who have lost their access.
fn flagged(world: &World) -> Vec<String> {
    let findings = world.list(&["finding", "list", "--kind", "sso_revoked"]);
    let name = |finding: &Value| finding["token_name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = findings.iter().map(name).collect();
    names.sort();
    names
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn tokens_of_those_who_leave_are_found_and_forgotten_when_they_come_back(#[case] db: Db) {
    let server = Slapd::start();
    let world = world_with(db, &server, "");
    server.change_person(
        "bob",
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z",
    );
    for _ in 0..3 {
        assert!(!server.lets_in("carol", "guess"));
    }
    world.run(&["sweep"]).exits(0).says("1 opened");
    assert_eq!(flagged(&world), ["B"]);
    assert_eq!(status(&world, "robert.baker"), "disabled");
    let said = evidence(&world, "robert.baker");
    assert!(
        said.starts_with("pwdAccountLockedTime=000001010000Z"),
        "{said}"
    );
    assert_eq!(status(&world, "carol"), "active", "locked out for a time");

    server.change_person("bob", "delete: pwdAccountLockedTime");
    world.run(&["sweep"]).exits(0).says("1 resolved");
    assert_eq!(status(&world, "robert.baker"), "active");

    server.delete_person("dave");
    world.run(&["sweep"]).exits(0);
    assert!(flagged(&world).is_empty(), "not by one look");
    world.run(&["sweep"]).exits(0);
    world.run(&["sweep"]).exits(0);
    assert_eq!(status(&world, "dave"), "deleted");
    assert_eq!(flagged(&world), ["D"]);
    let said = evidence(&world, "dave");
    assert!(said.starts_with("no entry has its entryUUID"), "{said}");
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn who_is_in_no_allowed_group_any_more_is_found_at_the_second_reading(#[case] db: Db) {
    let server = Slapd::start();
    let keys = "allowed_groups = [\"cdn-admins\", \"operators\"]\n";
    let world = world_with(db, &server, keys);
    let of_bob = |what: &str| {
        server.change(&format!(
            "dn: cn=cdn-night-shift,ou=groups,{SUFFIX}\nchangetype: modify\n\
             {what}: uniqueMember\nuniqueMember: uid=bob,ou=people,{SUFFIX}\n"
        ));
    };
    of_bob("delete");
    world.run(&["sweep"]).exits(0);
    assert!(flagged(&world).is_empty(), "not by one reading");
    world.run(&["sweep"]).exits(0);
    assert_eq!(status(&world, "robert.baker"), "out_of_group");
    assert_eq!(flagged(&world), ["B"]);
    of_bob("add");
    world.run(&["sweep"]).exits(0);
    assert_eq!(status(&world, "robert.baker"), "active");
    assert!(flagged(&world).is_empty());
}

#[test]
fn whatever_goes_wrong_nobody_is_taken_to_have_left_and_it_is_seen() {
    let mut server = Slapd::start();
    let mut world = world_with(Db::Sqlite, &server, "");
    let fails = |world: &World, words: &str| {
        for _ in 0..3 {
            world.run(&["sweep"]).exits(1).says(words);
        }
        assert!(flagged(world).is_empty(), "{words}");
        for name in ["alice", "robert.baker", "carol", "dave"] {
            assert_eq!(status(world, name), "active", "{words}");
        }
    };
    for (setup, words) in [
        (
            Setup {
                access: "access to attrs=mail by * none",
                ..Setup::default()
            },
            "nobody, or nobody with a mail address",
        ),
        (
            Setup {
                access: "access to * by anonymous auth by * none",
                ..Setup::default()
            },
            "LDAP code 32",
        ),
        (
            Setup {
                limits: "limits dn.exact=\"cn=reader,ou=services,dc=example,dc=org\" size=3",
                ..Setup::default()
            },
            "LDAP code 4",
        ),
    ] {
        server.set_up_again(setup);
        world.table_alone(&table(&server, BASE));
        fails(&world, words);
    }
    server.set_up_again(Setup::default());
    world.table_alone(&table(&server, "base = \"ou=persons,dc=example,dc=org\"\n"));
    fails(&world, "LDAP code 32");
    world.table_alone(&table(
        &server,
        &format!("{BASE}allowed_groups = [\"cdn-admin\"]\n"),
    ));
    fails(&world, "no group called");
    world.table_alone(&table(&server, BASE));
    server.stop();
    fails(&world, "cannot reach ldap://127.0.0.1:");
    server.listen();
    world.table_alone(&table(&server, BASE));
    world.run(&["sweep"]).exits(0);
    // At last, because the server locks the reader out for it.
    world.write("ldap-password", "wr0ng-passw0rd");
    fails(&world, "LDAP code 49");
    let log = world.run(&["sweep"]);
    for secret in [PASSWORD, "wr0ng"] {
        assert!(!log.stderr.contains(secret) && !log.stdout.contains(secret));
    }
}

#[test]
fn an_issuer_whose_mail_alone_is_hidden_is_not_gone() {
    let server = Slapd::start();
    let world = world_with(Db::Sqlite, &server, "");
    server.change_person("dave", "delete: mail");
    for _ in 0..3 {
        world.run(&["sweep"]).exits(0);
    }
    assert_eq!(status(&world, "dave"), "active");
    assert!(flagged(&world).is_empty());
}

#[test]
fn an_account_that_is_locked_and_loses_its_mail_in_one_change_is_found() {
    let server = Slapd::start();
    let world = world_with(Db::Sqlite, &server, "");
    server.change_person(
        "dave",
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n-\ndelete: mail",
    );
    world.run(&["sweep"]).exits(0);
    assert_eq!(status(&world, "dave"), "disabled");
    assert_eq!(flagged(&world), ["D"]);
    let said = evidence(&world, "dave");
    assert!(
        said.starts_with("pwdAccountLockedTime=000001010000Z"),
        "{said}"
    );
}

#[rstest]
#[case::nothing(b"")]
#[case::text(b"HTTP/1.1 400 Bad Request\r\n\r\n")]
#[case::no_operation(b"\x30\x03\x02\x01\x01")]
#[case::no_result(b"\x30\x05\x02\x01\x01\x61\x00")]
#[case::no_code(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x00\x04\x00\x04\x01\xff")]
fn what_is_no_ldap_is_an_error(#[case] answer: &'static [u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 512];
        assert!(stream.read(&mut question).unwrap() > 0);
        stream.write_all(answer).unwrap();
    });
    let config = Config {
        access: Access {
            url: format!("ldap://127.0.0.1:{port}").parse().unwrap(),
            starttls: false,
            bind_dn: READER.to_owned(),
            password: PASSWORD.into(),
            ca_file: None,
        },
        base: SUFFIX.to_owned(),
        filter: None,
        flavor: None,
        shadow_expire: false,
    };
    let told = failure(&config, &[]);
    let is_told = told.contains("broke off") || told.contains("is no LDAP");
    assert!(is_told, "{told}");
    server.join().unwrap();
}
