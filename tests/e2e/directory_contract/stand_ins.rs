//! One stand-in per kind of directory: the knobs that the laws need, on top of the stub of the kind.

use std::sync::Mutex;
use std::{fs, mem};

use lapsed::directories::{Directory, Kind, file};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bad_responses::LEAKED_SECRET;
use crate::entra::tenant::{self, Tenant};
use crate::keycloak::realm::{self, Realm};
use crate::ldap::faulty::{self, FaultyLdap};
use crate::ldap::slapd::{PASSWORD, READER, SUFFIX, Slapd};
use crate::ldap::{config_at, config_of, keys_at};
use crate::listed::common;
use crate::okta::org::{self, Okta};
use crate::scim::{self as idp, Idp};
use crate::stub::{Answer, Stub, StubRequest};
use crate::world::World;

/// The name of the only group.
pub const GROUP: &str = "ops";

/// A directory of `user1@example.org` and so on.
pub trait StandIn {
    fn kind(&self) -> Kind;

    /// The keys of its `[[directory]]`; writes the files that they name.
    fn keys(&self, world: &World) -> String;

    fn set_active(&self, _number: usize, _active: bool) {
        unimplemented!("its people never change")
    }

    fn delete(&self, _number: usize) {
        unimplemented!("its people never change")
    }

    /// Replaces the members of [`GROUP`].
    fn set_members(&self, _members: &[usize]) {
        unimplemented!("it has no groups")
    }

    /// The `nth` page of the list of people and those after it go wrong.
    fn break_page(&self, nth: usize, fault: Fault) {
        self.api().break_page(nth, fault);
    }

    /// The credentials of lapsed, and what begins access tokens.
    fn secrets(&self) -> Vec<&'static str>;

    /// The address with which a person signs in, and their mailbox.
    fn set_addresses(&self, _number: usize, _sign_in: &str, _mailbox: &str) {
        unimplemented!("its people have only mailboxes")
    }

    /// The HTTP API, if it has one.
    fn api(&self) -> Api<'_> {
        unimplemented!("it has no HTTP API")
    }

    fn directory(&self, groups: &[&str]) -> Box<dyn Directory> {
        self.kind().build(&common(groups)).unwrap()
    }
}

pub struct Api<'a> {
    pub stub: &'a Stub,
    /// The path of the list of people.
    pub users: &'static str,
    /// The path of the list of groups.
    pub groups: &'static str,
    /// The path that issues access tokens.
    pub token: Option<String>,
    /// The list of people without anybody.
    pub no_users: Value,
}

impl Api<'_> {
    fn break_page(&self, nth: usize, fault: Fault) {
        let (users, mut pages, mut first) = (self.users, 0, None::<StubRequest>);
        self.stub.intercept(move |request, stub| {
            if request.path != users {
                return stub(request);
            }
            pages += 1;
            let first = first.get_or_insert_with(|| request.clone());
            match fault {
                _ if pages < nth => stub(request),
                Fault::Repeats => stub(first),
                Fault::Broken => Answer::text(500, LEAKED_SECRET),
                Fault::Cut => Answer::cut(LEAKED_SECRET),
            }
        });
    }

    /// Every request for people gets this answer.
    pub fn answer(&self, answer: impl Fn() -> Answer + Send + 'static) {
        let users = self.users;
        self.stub.intercept(move |request, stub| {
            if request.path == users {
                answer()
            } else {
                stub(request)
            }
        });
    }

    pub fn count_requests(&self, path: &str) -> usize {
        let requests = self.stub.requests();
        requests.iter().filter(|it| it.path == path).count()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The first page comes again.
    Repeats,
    /// The server fails.
    Broken,
    /// The connection is cut.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    File,
    /// Pages by index, with filters.
    Scim,
    /// Pages by cursor, without filters.
    ScimByCursor,
    Keycloak,
    Entra,
    Okta,
    Ldap,
    /// An LDAP server that can go wrong.
    LdapStandIn,
}

impl Of {
    pub fn start(self, people: usize) -> Box<dyn StandIn> {
        let numbers = 1..=people;
        match self {
            Self::File => Box::new(PeopleFile::new(people)),
            Self::Scim => Box::new(Scim::new(idp::by_index(), people)),
            Self::ScimByCursor => Box::new(Scim::new(idp::by_cursor(), people)),
            Self::Keycloak => {
                let realm = Realm::with_people(people);
                let stub = realm.start();
                Box::new(KeycloakRealm { realm, stub })
            }
            Self::Entra => {
                let tenant = Tenant::new(u32::try_from(people).unwrap());
                tenant.state().page = self.page_size();
                let stub = tenant.start();
                Box::new(EntraTenant { tenant, stub })
            }
            Self::Okta => {
                let user = |n| org::user(&okta_id(n), &address(n), "ACTIVE");
                let okta = Okta::with_users(numbers.map(user).collect());
                okta.org().page = self.page_size();
                Box::new(okta)
            }
            Self::Ldap => {
                let server = Slapd::start();
                for uid in ["alice", "bob", "carol", "dave"] {
                    server.delete_person(uid);
                }
                server.add_people(numbers.map(|n| format!("user{n}")));
                let has_group = Mutex::default();
                Box::new(LdapServer { server, has_group })
            }
            Self::LdapStandIn => Box::new(FaultyLdap::start(people)),
        }
    }

    pub fn page_size(self) -> usize {
        match self {
            Self::Keycloak => 200,
            Self::Ldap => 500,
            _ => FaultyLdap::PAGE_SIZE,
        }
    }
}

fn address(number: usize) -> String {
    format!("user{number}@example.org")
}

struct PeopleFile {
    folder: TempDir,
    /// Per person the status, and whether they are a member.
    people: Mutex<Vec<(&'static str, bool)>>,
}

impl PeopleFile {
    fn new(people: usize) -> Self {
        let file = Self {
            folder: tempfile::tempdir().unwrap(),
            people: Mutex::new(vec![("active", false); people]),
        };
        file.change(|_| ());
        file
    }

    fn change(&self, change: impl FnOnce(&mut Vec<(&'static str, bool)>)) {
        let mut people = self.people.lock().unwrap();
        change(&mut people);
        let row = |(index, (status, is_member)): (usize, &(&str, bool))| {
            let group = if *is_member { GROUP } else { "" };
            format!("{},{status},{group}\n", address(index + 1))
        };
        let rows: String = people.iter().enumerate().map(row).collect();
        drop(people);
        let text = format!("email,status,groups\n{rows}");
        fs::write(self.folder.path().join("people.csv"), text).unwrap();
    }
}

impl StandIn for PeopleFile {
    fn kind(&self) -> Kind {
        let path = self.folder.path().join("people.csv");
        Kind::File(file::Config { path })
    }

    fn keys(&self, _: &World) -> String {
        let path = self.folder.path().join("people.csv");
        format!("kind = \"file\"\npath = '{}'", path.display())
    }

    fn set_active(&self, number: usize, active: bool) {
        let status = if active { "active" } else { "disabled" };
        self.change(|people| people[number - 1].0 = status);
    }

    fn delete(&self, number: usize) {
        self.change(|people| people[number - 1].0 = "deleted");
    }

    fn set_members(&self, members: &[usize]) {
        self.change(|people| {
            for (index, (_, is_member)) in people.iter_mut().enumerate() {
                *is_member = members.contains(&(index + 1));
            }
        });
    }

    fn secrets(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

struct Scim {
    idp: Idp,
    stub: Stub,
}

impl Scim {
    fn new(provider: Value, people: usize) -> Self {
        let idp = Idp::new(provider);
        idp.state().page = Of::Scim.page_size();
        let user = |n| idp::user(&format!("id-{n}"), &address(n), json!({}));
        idp.state().users = (1..=people).map(user).collect();
        let stub = idp.start();
        Self { idp, stub }
    }

    fn change(&self, number: usize, fields: Value) {
        let id = format!("id-{number}");
        let users = &mut self.idp.state().users;
        let user = users.iter_mut().find(|user| user["id"] == *id);
        idp::merge(user.unwrap(), fields);
    }
}

impl StandIn for Scim {
    fn kind(&self) -> Kind {
        Kind::Scim(idp::config(&self.stub))
    }

    fn keys(&self, world: &World) -> String {
        world.write("token", idp::TOKEN);
        let url = &self.stub.url;
        format!("kind = \"scim\"\nurl = \"{url}/scim/v2\"\ntoken = {{ file = \"token\" }}")
    }

    fn set_active(&self, number: usize, active: bool) {
        self.change(number, json!({ "active": active }));
    }

    fn delete(&self, number: usize) {
        let id = format!("id-{number}");
        self.idp.state().users.retain(|user| user["id"] != *id);
    }

    fn set_members(&self, members: &[usize]) {
        let members = members.iter().map(|n| json!({"value": format!("id-{n}")}));
        let group = idp::group("g-1", GROUP, &members.collect());
        self.idp.state().groups = vec![group];
    }

    fn set_addresses(&self, number: usize, sign_in: &str, mailbox: &str) {
        let emails = json!([{"value": mailbox, "primary": true}]);
        self.change(number, json!({"userName": sign_in, "emails": emails}));
    }

    fn api(&self) -> Api<'_> {
        Api {
            stub: &self.stub,
            users: "/scim/v2/Users",
            groups: "/scim/v2/Groups",
            token: None,
            no_users: json!({"totalResults": 0, "Resources": []}),
        }
    }

    fn secrets(&self) -> Vec<&'static str> {
        vec![idp::TOKEN]
    }
}

struct KeycloakRealm {
    realm: Realm,
    stub: Stub,
}

impl StandIn for KeycloakRealm {
    fn kind(&self) -> Kind {
        Kind::Keycloak(realm::config(&self.stub))
    }

    fn keys(&self, world: &World) -> String {
        realm::keys(&self.stub, world)
    }

    fn set_active(&self, number: usize, active: bool) {
        self.realm.user(number, json!({ "enabled": active }));
    }

    fn delete(&self, number: usize) {
        self.realm.delete(number);
    }

    fn set_members(&self, members: &[usize]) {
        self.realm.group(1001, &format!("/{GROUP}"), members);
    }

    fn set_addresses(&self, number: usize, sign_in: &str, mailbox: &str) {
        let fields = json!({"username": sign_in, "email": mailbox});
        self.realm.user(number, fields);
    }

    fn api(&self) -> Api<'_> {
        Api {
            stub: &self.stub,
            users: "/auth/admin/realms/example/users",
            groups: "/auth/admin/realms/example/groups",
            token: Some(realm::TOKEN.to_owned()),
            no_users: json!([]),
        }
    }

    fn secrets(&self) -> Vec<&'static str> {
        vec![realm::SECRET, "token-1"]
    }
}

struct EntraTenant {
    tenant: Tenant,
    stub: Stub,
}

impl StandIn for EntraTenant {
    fn kind(&self) -> Kind {
        Kind::Entra(tenant::config(&self.stub))
    }

    fn keys(&self, world: &World) -> String {
        world.write("client-secret", tenant::SECRET);
        let secret = "client_secret = { file = \"client-secret\" }";
        format!("{}{secret}", tenant::keys(&self.stub))
    }

    fn set_active(&self, number: usize, active: bool) {
        let number = u32::try_from(number).unwrap();
        self.tenant.enable(number, active);
    }

    fn delete(&self, number: usize) {
        let number = u32::try_from(number).unwrap();
        self.tenant.delete(number).purge(number);
    }

    fn set_members(&self, members: &[usize]) {
        let members = members.iter().map(|number| u32::try_from(*number).unwrap());
        self.tenant.group(100, GROUP, &members.collect::<Vec<_>>());
    }

    fn set_addresses(&self, number: usize, sign_in: &str, mailbox: &str) {
        let mut user = tenant::user(u32::try_from(number).unwrap(), mailbox);
        user["userPrincipalName"] = sign_in.into();
        self.tenant.user(&user);
    }

    fn api(&self) -> Api<'_> {
        Api {
            stub: &self.stub,
            users: "/v1.0/users",
            groups: "/v1.0/groups",
            token: Some(format!("/{}/oauth2/v2.0/token", tenant::TENANT)),
            no_users: json!({"value": []}),
        }
    }

    fn secrets(&self) -> Vec<&'static str> {
        vec![tenant::SECRET, tenant::ACCESS]
    }
}

fn okta_id(number: usize) -> String {
    format!("{number:020}")
}

impl StandIn for Okta {
    fn kind(&self) -> Kind {
        Kind::Okta(self.config())
    }

    fn keys(&self, world: &World) -> String {
        self.keys_of(world)
    }

    fn set_active(&self, number: usize, active: bool) {
        let status = if active { "ACTIVE" } else { "DEPROVISIONED" };
        self.org().set(&okta_id(number), status);
    }

    fn delete(&self, number: usize) {
        self.org().delete(&okta_id(number));
    }

    fn set_members(&self, members: &[usize]) {
        let members = members.iter().map(|number| okta_id(*number)).collect();
        let group = ("00g1ero7vZFVEIYLWPB1".to_owned(), GROUP.to_owned(), members);
        self.org().groups = vec![group];
    }

    fn set_addresses(&self, number: usize, sign_in: &str, mailbox: &str) {
        let mut user = org::user(&okta_id(number), sign_in, "ACTIVE");
        user["profile"]["email"] = mailbox.into();
        self.org().users[number - 1] = user;
    }

    fn api(&self) -> Api<'_> {
        Api {
            stub: &self.stub,
            users: "/api/v1/users",
            groups: "/api/v1/groups",
            token: Some("/oauth2/v1/token".to_owned()),
            no_users: json!([]),
        }
    }

    fn secrets(&self) -> Vec<&'static str> {
        vec!["BEGIN", "k-rsa\"", "access-"]
    }
}

struct LdapServer {
    server: Slapd,
    has_group: Mutex<bool>,
}

impl StandIn for LdapServer {
    fn kind(&self) -> Kind {
        Kind::Ldap(config_of(&self.server))
    }

    fn keys(&self, world: &World) -> String {
        world.write("ldap-password", PASSWORD);
        format!("{}base = \"ou=people,{SUFFIX}\"", keys_at(self.server.port))
    }

    fn set_active(&self, number: usize, active: bool) {
        let change = if active {
            "delete: pwdAccountLockedTime"
        } else {
            "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z"
        };
        self.server.change_person(&format!("user{number}"), change);
    }

    fn delete(&self, number: usize) {
        self.server.delete_person(&format!("user{number}"));
    }

    fn set_members(&self, members: &[usize]) {
        let dn = format!("cn={GROUP},ou=groups,{SUFFIX}");
        let change = if mem::replace(&mut *self.has_group.lock().unwrap(), true) {
            "modify\nreplace: member".to_owned()
        } else {
            format!("add\nobjectClass: groupOfNames\ncn: {GROUP}")
        };
        // The class requires a member.
        let uids = members.iter().map(|number| format!("user{number}"));
        let uids = uids.chain(["long-gone".to_owned()]);
        let members = uids.map(|uid| format!("\nmember: uid={uid},ou=people,{SUFFIX}"));
        let members: String = members.collect();
        self.server
            .change(&format!("dn: {dn}\nchangetype: {change}{members}\n"));
    }

    fn secrets(&self) -> Vec<&'static str> {
        vec![PASSWORD, READER]
    }
}

impl StandIn for FaultyLdap {
    fn kind(&self) -> Kind {
        Kind::Ldap(config_at(self.port))
    }

    fn keys(&self, world: &World) -> String {
        world.write("ldap-password", PASSWORD);
        format!("{}base = \"{SUFFIX}\"", keys_at(self.port))
    }

    fn break_page(&self, nth: usize, fault: Fault) {
        let fault = match fault {
            Fault::Repeats => faulty::Fault::Repeats,
            Fault::Broken => faulty::Fault::Code(80),
            Fault::Cut => faulty::Fault::Cut,
        };
        FaultyLdap::break_page(self, nth, Some(fault));
    }

    fn secrets(&self) -> Vec<&'static str> {
        vec![PASSWORD, READER]
    }
}
