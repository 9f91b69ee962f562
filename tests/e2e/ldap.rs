//! LDAP: listings, look-ups and sweeps with a real OpenLDAP.

pub mod faulty;
mod proxy;
pub mod slapd;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lapsed::clock::Clock;
use lapsed::directories::ldap::{
    Access, ClientCertificate, Config, Flavor, LdapDirectory, OutsideFilter,
};
use lapsed::directories::{Common, Directory, Lookup, PeopleListing, PeopleQuery};
use lapsed::domain::{Address, IdentityStatus, Person, Reason};
use lapsed::sources::{CheckReport, Error};
use rstest::rstest;

use faulty::{Fault, FaultyLdap};
use proxy::CuttableProxy;
use slapd::{PASSWORD, READER, SUFFIX, Setup, Slapd};

use crate::listed::{
    Listed, assert_no_findings, assert_only_finding, common, list, missing, status,
};
use crate::world::{Db, World};

pub fn config_of(server: &Slapd) -> Config {
    config_at(server.port)
}

/// The configuration of a server on 127.0.0.1.
pub fn config_at(port: u16) -> Config {
    Config {
        access: Access {
            url: format!("ldap://127.0.0.1:{port}").parse().unwrap(),
            starttls: false,
            bind_dn: READER.to_owned(),
            password: PASSWORD.into(),
            ca_file: None,
            client_certificate: None,
        },
        base: format!("ou=people,{SUFFIX}"),
        filter: None,
        flavor: None,
        shadow_expire: false,
        outside_filter: OutsideFilter::Unknown,
    }
}

fn build_directory(config: &Config, groups: &[&str]) -> LdapDirectory {
    build_with(config, &common(groups))
}

fn build_with(config: &Config, common: &Common) -> LdapDirectory {
    let common = Common {
        clock: Clock::manual("2026-11-22T06:00:00Z".parse().unwrap()),
        ..common.clone()
    };
    config.build(&common).unwrap()
}

/// Runs a future; connections need its runtime.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

fn list_people(config: &Config, groups: &[&str]) -> Result<Listed, Error> {
    run(list(&build_directory(config, groups), &[]))
}

/// The message of a listing that fails.
fn listing_error(config: &Config, groups: &[&str]) -> String {
    let error = list_people(config, groups).unwrap_err().to_string();
    for hidden in [PASSWORD, "@example.org", READER] {
        assert!(!error.contains(hidden), "{error}");
    }
    error
}

fn look_up(config: &Config, id: &str) -> Lookup {
    run(build_directory(config, &[]).look_up(id)).unwrap()
}

fn check(config: &Config, groups: &[&str]) -> CheckReport {
    run(build_directory(config, groups).check()).unwrap()
}

fn person(listed: &Listed, name: &str) -> Person {
    listed.person(&format!("{name}@example.org")).clone()
}

/// `status reason: evidence` of a person.
fn describe(config: &Config, name: &str) -> String {
    let person = person(&list_people(config, &[]).unwrap(), name);
    let reason = person.reason.map(|reason| format!(" {reason}"));
    format!(
        "{}{}: {}",
        person.status,
        reason.unwrap_or_default(),
        person.evidence
    )
}

fn members(listed: &Listed) -> Vec<&str> {
    let members = listed.members().into_iter();
    members.map(|it| it.split_once('@').unwrap().0).collect()
}

#[test]
fn people_are_listed_with_ids_addresses_and_names() {
    let server = Slapd::start();
    let people = list_people(&config_of(&server), &[]).unwrap();
    assert_eq!(people.people.len(), 4);
    assert_eq!(people.listing, PeopleListing::default());
    let bob = person(&people, "bob");
    let addresses: Vec<&str> = bob.addresses().map(Address::as_str).collect();
    assert_eq!(addresses, ["bob@example.org", "robert.baker@example.org"]);
    assert_eq!(bob.name.as_deref(), Some("Bob Baker"));
    assert_eq!(bob.id.as_ref().unwrap().len(), 36);
    assert_eq!((bob.status, bob.is_member), (IdentityStatus::Active, None));
    let carol = person(&people, "carol");
    assert_eq!(carol.name.as_deref(), Some("Carol C. Clark"));
}

#[test]
fn an_administrators_lock_is_a_loss_of_access_and_a_lock_out_is_not() {
    let server = Slapd::start();
    let config = config_of(&server);
    server.change_person(
        "bob",
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z",
    );
    assert!(!server.can_bind("bob", "bobpw"));
    let bob = describe(&config, "bob");
    assert_eq!(bob, "disabled admin: pwdAccountLockedTime=000001010000Z");

    assert!(server.can_bind("carol", "carolpw"));
    for _ in 0..3 {
        assert!(!server.can_bind("carol", "guess"));
    }
    assert!(!server.can_bind("carol", "carolpw"), "locked out");
    let carol = describe(&config, "carol");
    assert!(
        carol.starts_with("active: pwdAccountLockedTime=2"),
        "{carol}"
    );

    server.change_person("bob", "delete: pwdAccountLockedTime");
    assert!(server.can_bind("bob", "bobpw"));
    let bob = describe(&config, "bob");
    assert_eq!(bob, "active: its entry has no pwdAccountLockedTime");
}

#[test]
fn an_account_ends_at_pwd_end_time_and_at_shadow_expire_if_configured() {
    let server = Slapd::start();
    let mut config = config_of(&server);
    server
        .change_person("alice", "add: pwdEndTime\npwdEndTime: 20261101000000Z")
        .change_person("carol", "add: shadowExpire\nshadowExpire: 20000");
    let alice = person(&list_people(&config, &[]).unwrap(), "alice");
    assert_eq!(
        (alice.status, alice.reason, alice.since),
        (
            IdentityStatus::Disabled,
            Some(Reason::Expired),
            "2026-11-01T00:00:00Z".parse().ok()
        )
    );
    assert!(
        server.can_bind("carol", "carolpw"),
        "OpenLDAP does not enforce it"
    );
    assert!(describe(&config, "carol").starts_with("active"));
    config.shadow_expire = true;
    let carol = describe(&config, "carol");
    assert!(
        carol.starts_with("disabled expired: shadowExpire=20000"),
        "{carol}"
    );
}

#[test]
fn members_of_nested_and_circular_groups_are_found() {
    let server = Slapd::start();
    let config = config_of(&server);
    let people = list_people(&config, &["cdn-admins"]).unwrap();
    assert_eq!(members(&people), ["alice", "bob", "carol"]);
    assert_eq!(people.groups(), [("cdn-admins", 3)]);

    let dn = "CN=cdn-old-hands, ou=groups,dc=example,dc=org";
    let people = list_people(&config, &[dn, "operators"]).unwrap();
    assert_eq!(members(&people), ["alice", "bob", "carol", "dave"]);
    assert_eq!(people.groups(), [(dn, 3), ("operators", 1)]);

    let leaves = "dn: cn=cdn-night-shift,ou=groups,dc=example,dc=org\nchangetype: modify\n\
                  delete: uniqueMember\nuniqueMember: uid=bob,ou=people,dc=example,dc=org\n";
    server.change(leaves);
    let people = list_people(&config, &["cdn-admins"]).unwrap();
    assert_eq!(members(&people), ["alice", "carol"]);
}

#[test]
fn a_posix_group_includes_people_with_its_gid_number() {
    let server = Slapd::start();
    let dn = "cn=staff,ou=groups,dc=example,dc=org";
    let people = list_people(&config_of(&server), &[dn]).unwrap();
    assert_eq!(members(&people), ["alice", "bob", "carol"]);
}

#[test]
fn an_unknown_or_ambiguous_group_is_an_error_that_names_it() {
    let server = Slapd::start();
    let config = config_of(&server);
    let error = listing_error(&config, &["staff"]);
    assert_contains!(error, "2 groups called \"staff\"");
    let error = listing_error(&config, &["cn=nobody,ou=groups,dc=example,dc=org"]);
    assert_contains!(error, "no group \"cn=nobody,");
}

#[test]
fn an_account_is_looked_up_by_id_after_a_rename() {
    let server = Slapd::start();
    let config = config_of(&server);
    let people = list_people(&config, &[]).unwrap();
    let id = |name| person(&people, name).id.unwrap();
    server
        .change_person("bob", "replace: mail\nmail: bobby@example.org")
        .change("dn: uid=bob,ou=people,dc=example,dc=org\nchangetype: modrdn\nnewrdn: uid=bobby\ndeleteoldrdn: 1\n");
    let Lookup::Found(bob) = look_up(&config, &id("bob").to_uppercase()) else {
        panic!("not found");
    };
    assert_eq!(bob.main.as_ref().unwrap().as_str(), "bobby@example.org");
    let gone = Lookup::Gone {
        evidence: "no entry has its entryUUID".to_owned(),
        is_certain: false,
    };
    assert_eq!(look_up(&config, "*"), gone, "not a pattern");
}

#[test]
fn hidden_attributes_are_not_evidence() {
    let mut server = Slapd::start();
    let config = config_of(&server);
    let people = list_people(&config, &[]).unwrap();
    let alice = person(&people, "alice").id.unwrap();

    server.reconfigure(Setup {
        access: "access to attrs=mail by * none",
        ..Setup::default()
    });
    let config = config_of(&server);
    let error = listing_error(&config, &[]);
    assert!(error.starts_with("the server shows no people"), "{error}");
    let Lookup::Found(seen) = look_up(&config, &alice) else {
        panic!("the entry exists");
    };
    assert_eq!(seen.status, IdentityStatus::Active);
    assert_eq!(seen.main, None);
    assert_eq!(missing(&check(&config, &[])).len(), 1);

    server.reconfigure(Setup {
        access: "access to attrs=entryUUID by * none",
        ..Setup::default()
    });
    let config = config_of(&server);
    let error = listing_error(&config, &[]);
    assert!(
        error.starts_with("4 entries show no id (entryUUID)"),
        "{error}"
    );
    let looked_up = look_up(&config, &alice);
    assert!(matches!(looked_up, Lookup::Unclear(_)), "{looked_up:?}");

    // Everything but the right to bind.
    server.reconfigure(Setup {
        access: "access to * by anonymous auth by * none",
        ..Setup::default()
    });
    let config = config_of(&server);
    let error = listing_error(&config, &[]);
    assert_contains!(error, "LDAP code 32");
    assert!(run(build_directory(&config, &[]).look_up(&alice)).is_err());
}

#[test]
fn a_wrong_base_is_an_error_and_no_one_is_gone() {
    let server = Slapd::start();
    let right = config_of(&server);
    let bob = person(&list_people(&right, &[]).unwrap(), "bob")
        .id
        .unwrap();
    let wrong = Config {
        base: "ou=persons,dc=example,dc=org".to_owned(),
        ..right.clone()
    };
    let error = listing_error(&wrong, &[]);
    assert_contains!(error, "LDAP code 32", "correct base");
    assert!(run(build_directory(&wrong, &[]).look_up(&bob)).is_err());
    assert!(run(build_directory(&wrong, &[]).check()).is_err());
    let narrow = Config {
        base: "ou=services,dc=example,dc=org".to_owned(),
        ..right
    };
    let error = listing_error(&narrow, &[]);
    assert_contains!(error, "correct base and filter");
}

#[test]
fn an_incomplete_list_is_an_error() {
    let server = Slapd::start_with(Setup {
        limits: "limits dn.exact=\"cn=reader,ou=services,dc=example,dc=org\" size.hard=3 size.soft=3 size.prtotal=3",
        ..Setup::default()
    });
    let error = listing_error(&config_of(&server), &[]);
    assert_contains!(error, "LDAP code 4", "size=unlimited");
}

#[test]
fn a_server_that_dies_or_hangs_during_a_listing_is_an_error() {
    let mut server = Slapd::start();
    server.add_people((0..600).map(|n| format!("p{n:04}")));
    let directory = build_directory(&config_of(&server), &[]);
    let mut count = 0;
    let mut sink = |_: Person| {
        count += 1;
        server.stop();
    };
    let failed = run(directory.list_people(&PeopleQuery::default(), &mut sink));
    let error = failed.err().unwrap().to_string();
    assert_contains!(error, "closed the connection");
    assert_eq!(count, 500, "a page");
    let error = listing_error(&config_of(&server), &[]);
    assert!(
        error.starts_with("cannot reach ldap://127.0.0.1:"),
        "{error}"
    );

    server.listen();
    let hasty = Common {
        timeout: Duration::from_secs(1),
        ..common(&[])
    };
    let directory = build_with(&config_of(&server), &hasty);
    let pid = server.pid();
    let mut sink = |_: Person| signal(pid, "-STOP");
    let failed = run(directory.list_people(&PeopleQuery::default(), &mut sink));
    let error = failed.err().unwrap().to_string();
    assert_contains!(error, "did not answer within 1 s");
    let failed = run(directory.check());
    assert_contains!(failed.err().unwrap(), "within 1 s");
    signal(pid, "-CONT");
    assert_eq!(
        list_people(&config_of(&server), &[]).unwrap().people.len(),
        604
    );
}

fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_failed_bind_is_explained() {
    let server = Slapd::start();
    let right = config_of(&server);
    let mut wrong = right.clone();
    wrong.access.password = "s3cret-that-is-wrong".into();
    let error = listing_error(&wrong, &[]);
    assert_contains!(error, "LDAP code 49");
    assert_lacks!(error, "s3cret");
    let mut wrong = right;
    wrong.access.bind_dn = "reader".to_owned();
    let error = listing_error(&wrong, &[]);
    assert_contains!(error, "LDAP code 34");
}

#[rstest]
#[case::from_the_start(false)]
#[case::by_starttls(true)]
fn connections_are_encrypted_and_only_to_trusted_servers(#[case] starttls: bool) {
    let server = Slapd::start_with(Setup {
        has_certificate: true,
        limits: "security simple_bind=128",
        ..Setup::default()
    });
    let mut config = config_of(&server);
    assert!(
        listing_error(&config, &[]).contains("LDAP code 13"),
        "encryption is required"
    );

    let url = if starttls {
        format!("ldap://localhost:{}", server.port)
    } else {
        format!("ldaps://localhost:{}", server.tls_port)
    };
    config.access.url = url.parse().unwrap();
    config.access.starttls = starttls;
    config.access.ca_file = Some(server.authority());
    assert_eq!(list_people(&config, &[]).unwrap().people.len(), 4);

    let other = Slapd::start_with(Setup {
        has_certificate: true,
        ..Setup::default()
    });
    config.access.ca_file = Some(other.authority());
    let error = listing_error(&config, &[]);
    assert_contains!(error, "invalid peer certificate");
    // The certificate is for localhost.
    let url = config.access.url.as_str().replace("localhost", "127.0.0.1");
    config.access.url = url.parse().unwrap();
    config.access.ca_file = Some(server.authority());
    let error = listing_error(&config, &[]);
    assert_contains!(error, "not valid for name");
}

#[rstest]
#[case::by_ldaps(false)]
#[case::by_starttls(true)]
fn a_server_that_demands_a_client_certificate_gets_it(#[case] starttls: bool) {
    let setup = Setup {
        has_certificate: true,
        verify_client: "demand",
        ..Setup::default()
    };
    let server = Slapd::start_with(setup);
    let mut config = config_of(&server);
    let url = if starttls {
        format!("ldap://localhost:{}", server.port)
    } else {
        format!("ldaps://localhost:{}", server.tls_port)
    };
    config.access.url = url.parse().unwrap();
    config.access.starttls = starttls;
    config.access.ca_file = Some(server.authority());
    let error = listing_error(&config, &[]);
    assert_contains!(
        error,
        "asked for a client certificate",
        "set client_certificate and client_key"
    );

    let (path, key) = server.client_certificate();
    config.access.client_certificate = Some(ClientCertificate {
        path,
        key: key.into(),
    });
    assert_eq!(list_people(&config, &[]).unwrap().people.len(), 4);

    let other = Slapd::start_with(setup);
    let (path, key) = other.client_certificate();
    config.access.client_certificate = Some(ClientCertificate {
        path: path.clone(),
        key: key.into(),
    });
    let error = listing_error(&config, &[]);
    assert_contains!(
        error,
        "shown client_certificate; check that the server accepts it"
    );
    let (_, own_key) = server.client_certificate();
    for (key, words) in [
        (own_key.as_str(), "is it the key of that certificate?"),
        ("s3cret", "client_key is not a private key"),
    ] {
        config.access.client_certificate = Some(ClientCertificate {
            path: path.clone(),
            key: key.into(),
        });
        let error = config.build(&common(&[])).err().unwrap().to_string();
        assert_contains!(error, words);
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn starttls_is_required_even_if_the_server_lacks_it() {
    let server = Slapd::start();
    let mut config = config_of(&server);
    config.access.starttls = true;
    let error = listing_error(&config, &[]);
    assert_contains!(error, "StartTLS");
}

#[test]
fn look_ups_share_a_connection_and_reconnect_when_it_breaks() {
    let server = Slapd::start();
    let proxy = CuttableProxy::to(server.port);
    let mut config = config_of(&server);
    config.access.url = config_at(proxy.port).access.url;
    let people = list_people(&config, &[]).unwrap();
    let connections = proxy.count();
    let directory = build_directory(&config, &[]);
    run(async {
        let find = async |name| {
            let id = person(&people, name).id.unwrap();
            directory.look_up(&id).await.unwrap()
        };
        for name in ["alice", "bob", "carol"] {
            assert!(matches!(find(name).await, Lookup::Found(_)));
        }
        assert_eq!(proxy.count(), connections + 1);
        proxy.cut();
        assert!(matches!(find("dave").await, Lookup::Found(_)));
        assert_eq!(proxy.count(), connections + 2);
    });
}

#[test]
fn a_check_reports_what_it_sees_and_what_is_missing() {
    let server = Slapd::start();
    let config = config_of(&server);
    server.change_person(
        "bob",
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z",
    );
    let checked = check(&config, &["cdn-admins"]);
    let expected = "OpenLDAP, 4 people, 1 of them without access";
    assert_eq!(checked.summary, expected);
    assert!(missing(&checked).is_empty(), "{checked:?}");
    let lacking = missing(&check(&config, &["cdn-admins", "cdn-boss"]));
    assert_eq!(lacking.len(), 1, "{lacking:?}");
    assert!(
        lacking[0].starts_with("read the group cdn-boss: the server shows no group"),
        "{lacking:?}"
    );
}

#[test]
fn a_389ds_is_read_with_its_own_attributes() {
    let server = Slapd::start_with(Setup {
        is_like_389ds: true,
        ..Setup::default()
    });
    let mut config = config_of(&server);
    config.flavor = Some(Flavor::Ds389);
    let error = listing_error(&config, &[]);
    assert!(error.starts_with("4 entries show no id"), "{error}");
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
    let expected = "disabled admin: nsAccountLock=TRUE";
    assert_eq!(describe(&config, "bob"), expected);
    let carol = describe(&config, "carol");
    assert!(
        carol.starts_with("disabled expired: krbPrincipalExpiration="),
        "{carol}"
    );
    let alice = describe(&config, "alice");
    assert_eq!(alice, "active: its entry has no nsAccountLock");
    let bob = look_up(&config, "1a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9");
    assert!(matches!(bob, Lookup::Found(bob) if bob.status == IdentityStatus::Disabled));
}

/// The keys of the `[[directory]]` of a server on 127.0.0.1, without `base`.
pub fn keys_at(port: u16) -> String {
    format!(
        "kind = \"ldap\"\nurl = \"ldap://127.0.0.1:{port}\"\nbind_dn = \"{READER}\"\n\
         password = {{ file = \"ldap-password\" }}\n"
    )
}

/// The configuration table of the directory, with extra keys.
fn table(server: &Slapd, keys: &str) -> String {
    let own = keys_at(server.port);
    format!("[[directory]]\nname = \"people\"\nabsence_grace = \"0s\"\n{own}{keys}")
}

const BASE: &str = "base = \"ou=people,dc=example,dc=org\"\n";

/// A world with a token of each of the four people, all active.
fn world_of(server: &Slapd) -> World {
    let mut world = World::new(Db::Sqlite);
    world.write("ldap-password", format!("{PASSWORD}\n"));
    world.replace_tables(&table(server, BASE));
    world.import(&[
        "a,A,alice@example.org,2099-01-01",
        "b,B,Robert.Baker@example.org,2099-01-01",
        "c,C,carol@example.org,2099-01-01",
        "d,D,dave@example.org,2099-01-01",
    ]);
    world.sweep();
    for name in ["alice", "robert.baker", "carol", "dave"] {
        assert_eq!(status_of(&world, name), "active", "{name}");
    }
    world
}

fn status_of(world: &World, name: &str) -> String {
    status(world, &format!("{name}@example.org"))
}

#[test]
fn an_issuer_whose_mail_is_hidden_is_not_gone() {
    let server = Slapd::start();
    let world = world_of(&server);
    server.change_person("dave", "delete: mail");
    for _ in 0..3 {
        world.sweep();
    }
    assert_eq!(status_of(&world, "dave"), "active");
    assert_no_findings(&world);
}

/// Administrators write into `filter` what takes access away.
#[rstest]
#[case::unknown("unknown", "unknown outside_filter", "unknown outside_filter")]
#[case::lost("lost", "unknown unconfirmed", "out_of_group")]
fn an_issuer_who_leaves_the_filter_is_not_active(
    #[case] outside: &str,
    #[case] first: &str,
    #[case] then: &str,
) {
    let server = Slapd::start();
    let mut world = world_of(&server);
    let keys = format!(
        "{BASE}filter = \"(&(mail=*)(!(employeeType=left)))\"\noutside_filter = \"{outside}\"\n"
    );
    world.replace_tables(&table(&server, &keys));
    world.sweep();
    assert_eq!(status_of(&world, "carol"), "active");
    server.change_person("carol", "add: employeeType\nemployeeType: left");
    world.sweep();
    assert_eq!(status_of(&world, "carol"), first);
    world.sweep();
    assert_eq!(status_of(&world, "carol"), then);
    if outside == "lost" {
        let evidence = "its entry does not match the filter, read twice";
        assert_only_finding(&world, "C", evidence);
    } else {
        assert_no_findings(&world);
    }
    // A lock is a statement of the entry itself, in the filter or not.
    server.change_person(
        "dave",
        "add: employeeType\nemployeeType: left\n-\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z",
    );
    world.sweep();
    assert_eq!(status_of(&world, "dave"), "disabled admin");
    server.change_person("carol", "delete: employeeType");
    world.sweep();
    assert_eq!(status_of(&world, "carol"), "active");
}

/// LDAP has no sign-in names, so nothing but the operator tells which entry is the person's.
#[rstest]
#[case::bound_before(true)]
#[case::both_from_the_beginning(false)]
fn the_order_of_two_entries_with_one_mailbox_does_not_matter(#[case] is_bound_before: bool) {
    let server = Slapd::start();
    let mut world = World::new(Db::Sqlite);
    world.write("ldap-password", format!("{PASSWORD}\n"));
    world.replace_tables(&table(&server, BASE));
    world.import(&["d,D,dave@example.org,2099-01-01"]);
    if is_bound_before {
        world.sweep();
        assert_eq!(status_of(&world, "dave"), "active");
    }
    server.add_people(["dave.admin".to_owned()].into_iter());
    server.change_person("dave.admin", "replace: mail\nmail: dave@example.org");
    world.sweep();
    assert_eq!(status_of(&world, "dave"), "unknown ambiguous");
    let rebind = |account: &[&str]| {
        let command = [
            "identity",
            "rebind",
            "dave@example.org",
            "--directory",
            "people",
        ];
        world.run(&[&command[..], account].concat())
    };
    rebind(&[])
        .exits(1)
        .says("several entries have their address")
        .says("--account ID");
    rebind(&["--account", "00000000-0000-0000-0000-000000000000"])
        .exits(1)
        .says("there is no entry");

    let listed = list_people(&config_of(&server), &[]).unwrap();
    let mut entries = listed.people.iter();
    let named = |entry: &&Person| entry.name.as_deref() == Some("dave.admin");
    let admin = entries.find(named).unwrap().id.clone().unwrap();
    rebind(&["--account", &admin])
        .exits(0)
        .says(&format!("now bound to the entry {admin}"));
    world.sweep();
    assert_eq!(status_of(&world, "dave"), "active");

    let lock = "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z";
    server.change_person("dave.admin", lock);
    world.sweep();
    assert_eq!(status_of(&world, "dave"), "unknown ambiguous");
    assert_no_findings(&world);
    server.change_person("dave", lock);
    world.sweep();
    assert_eq!(status_of(&world, "dave"), "disabled admin");
    assert_only_finding(&world, "D", "pwdAccountLockedTime=000001010000Z");
}

#[test]
fn a_stopped_server_fails_the_sweep_and_flags_no_one() {
    let mut server = Slapd::start();
    let world = world_of(&server);
    server.stop();
    let words = format!(
        "directory people: cannot reach ldap://127.0.0.1:{}",
        server.port
    );
    for _ in 0..3 {
        world.run(&["sweep"]).exits(1).says(&words);
    }
    for name in ["alice", "robert.baker", "carol", "dave"] {
        assert_eq!(status_of(&world, name), "active", "{name}");
    }
    assert_no_findings(&world);
}

#[test]
fn an_account_that_is_locked_and_loses_its_mail_at_once_is_flagged() {
    let server = Slapd::start();
    let world = world_of(&server);
    server.change_person(
        "dave",
        "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n-\ndelete: mail",
    );
    world.sweep();
    assert_eq!(status_of(&world, "dave"), "disabled admin");
    assert_only_finding(&world, "D", "pwdAccountLockedTime=000001010000Z");
}

#[rstest]
#[case::nothing(b"")]
#[case::text(b"HTTP/1.1 400 Bad Request\r\n\r\n")]
#[case::no_operation(b"\x30\x03\x02\x01\x01")]
#[case::no_result(b"\x30\x05\x02\x01\x01\x61\x00")]
#[case::no_code(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x00\x04\x00\x04\x01\xff")]
fn a_response_that_is_not_ldap_is_an_error(#[case] answer: &'static [u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 512];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(answer).unwrap();
    });
    let error = listing_error(&config_at(port), &[]);
    let is_reported = error.contains("closed the connection") || error.contains("is not LDAP");
    assert!(is_reported, "{error}");
    server.join().unwrap();
}

#[test]
fn a_response_on_which_the_library_panics_is_one_error() {
    let server = FaultyLdap::start(3);
    server.break_page(1, Some(Fault::Empty));
    let mut world = World::new(Db::Sqlite);
    world.table(&format!(
        "[[directory]]\nname = 'people'\nkind = 'ldap'\nurl = 'ldap://127.0.0.1:{}'\nbind_dn = 'cn=a'\n\
         password = 's3cret'\nbase = 'dc=example'",
        server.port
    ));
    world.import(&["1,t,ada@example.org,2099-01-01"]);
    for arguments in [&["directory", "check", "people"][..], &["sweep"]] {
        let ran = world.run(arguments);
        ran.exits(1).says("sent a response that is not LDAP");
        for word in ["panic", "protocol.rs", "/src/", "closed the connection"] {
            assert!(!ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    }
}
