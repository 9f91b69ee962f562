//! The web portal, in a browser without JavaScript: signing in, the pages of each role, forms.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use rstest::rstest;

use crate::daemon::Daemon;
use crate::waiting::wait_until;
use crate::web::{Site, secret};
use crate::world::{Db, mails_in};
use Db::{Postgres, Sqlite};

const SESSION: &str = "__Host-lapsed";

/// Keeps cookies, follows no redirects.
#[derive(Debug, Clone)]
struct Browser {
    port: u16,
    cookies: BTreeMap<String, String>,
    language: &'static str,
    /// What the browser says about where a form comes from.
    fetch_site: &'static str,
}

#[derive(Debug)]
struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The value of a hidden field.
    fn field(&self, name: &str) -> String {
        self.value_after(&format!("name=\"{name}\" value=\""))
    }

    /// The value of an input, by its id and the attributes that follow.
    fn input(&self, id: &str) -> String {
        let begin = format!("id=\"{id}");
        let begin = begin.trim_end_matches('"');
        let quote = if begin.ends_with("readonly") {
            ""
        } else {
            "\""
        };
        self.value_after(&format!("{begin}{quote} value=\""))
    }

    fn value_after(&self, begin: &str) -> String {
        let (_, rest) = self
            .body
            .split_once(begin)
            .unwrap_or_else(|| panic!("no {begin}: {}", self.body));
        rest.split('"').next().unwrap().to_owned()
    }

    /// The address of a link, without the escapes of HTML.
    fn link_after(&self, begin: &str) -> String {
        self.value_after(begin)
            .replace("&amp;", "&")
            .replace("&#x3D;", "=")
    }

    fn shows(&self, status: u16, text: &str) -> &Self {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.body.contains(text), "no {text:?} in {}", self.body);
        self
    }

    fn leads_to(&self, path: &str) -> &Self {
        assert_eq!(
            (self.status, self.header("location")),
            (303, path),
            "{}",
            self.body
        );
        self
    }
}

impl Browser {
    fn new(port: u16) -> Self {
        Self {
            port,
            cookies: BTreeMap::new(),
            language: "en",
            fetch_site: "same-origin",
        }
    }

    fn get(&mut self, path: &str) -> Page {
        self.send("GET", path, "")
    }

    fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        self.send("POST", path, &body.finish())
    }

    fn send(&mut self, method: &str, path: &str, body: &str) -> Page {
        let host = format!("127.0.0.1:{}", self.port);
        let pairs = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept-Language: {}\r\n\
             Cookie: {}\r\nSec-Fetch-Site: {}\r\n",
            self.language,
            pairs.collect::<Vec<_>>().join("; "),
            self.fetch_site,
        );
        if method == "POST" {
            head += &format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                body.len()
            );
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let page = Page {
            status,
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        };
        for (name, value) in &page.headers {
            if name == "set-cookie" {
                self.take_cookie(value);
            }
        }
        page
    }

    fn take_cookie(&mut self, cookie: &str) {
        assert!(
            cookie.contains("; Path=/; Secure; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
        if value.is_empty() {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// By a link that an operator has printed.
    fn sign_in(site: &Site, user: &str) -> Self {
        let mut browser = Self::new(site.port);
        let link = operator_link(site, user);
        browser.get(&link).shows(200, "Sign in");
        browser.post(&link, &[]).leads_to("/");
        browser
    }
}

/// The path of a link that `lapsed user link` prints.
fn operator_link(site: &Site, user: &str) -> String {
    let ran = site.world.run(&["user", "link", user]);
    path_of(ran.exits(0).stdout.trim())
}

fn path_of(link: &str) -> String {
    let url = url::Url::parse(link).unwrap();
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// The link in the mail number `nth`.
fn mailed_link(site: &Site, nth: usize) -> String {
    let outbox = site.world.path("outbox");
    let mail = wait_until("the mail", || mails_in(&outbox).into_iter().nth(nth));
    let mut words = mail.text.split_whitespace();
    path_of(words.find(|word| word.contains("/sign-in/link/")).unwrap())
}

/// Ann is a viewer, Ada the administrator of the account, Root a super admin.
fn site(db: Db) -> Site {
    let site = Site::new(db);
    for arguments in [
        &[
            "user",
            "add",
            "ada@example.org",
            "--account",
            "acme",
            "--role",
            "administrator",
        ][..],
        &["user", "add", "root@example.org", "--super"],
        &["user", "add", "bob@example.org", "--account", "acme"],
    ] {
        site.world.run(arguments).exits(0);
    }
    site
}

#[rstest]
fn a_link_of_the_command_line_signs_in_once(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::new(site.port);
    browser
        .get("/tokens?view=")
        .leads_to("/sign-in?next=%2Ftokens%3Fview%3D");
    let link = operator_link(&site, "ann@example.org");
    // Mail scanners follow links, too.
    Browser::new(site.port)
        .get(&link)
        .shows(200, "<form method=\"post\"");
    browser.get(&link).shows(200, "<form method=\"post\"");
    browser
        .post(&link, &[("next", "/tokens")])
        .leads_to("/tokens");
    browser.get("/tokens").shows(200, "My tokens");
    Browser::new(site.port)
        .post(&link, &[])
        .shows(404, "does not work");
    browser.get(&link).shows(404, "does not work");
    // The cookie opens nothing else, and a token opens no page.
    let session = browser.cookies[SESSION].clone();
    let cookie = format!("{SESSION}={session}");
    let send = |request: &str, header: (&str, &str)| {
        crate::web::send(site.port, request, &[header], "").status
    };
    assert_eq!(send("GET /api/v1/tokens", ("Cookie", &cookie)), 401);
    let bearer = format!("Bearer {session}");
    assert_eq!(send("GET /api/v1/tokens", ("Authorization", &bearer)), 401);
    assert_eq!(send("GET /api/v1/verify", ("Authorization", &bearer)), 401);
    let issued = site.issue(&[]);
    let bearer = format!("Bearer {}", secret(&issued));
    assert_eq!(send("GET /api/v1/tokens", ("Authorization", &bearer)), 200);
    assert_eq!(send("GET /tokens", ("Authorization", &bearer)), 303);
    // Signing out ends the session itself.
    let mut copy = browser.clone();
    browser.post("/sign-out", &[]).leads_to("/sign-in");
    assert!(!browser.cookies.contains_key(SESSION));
    copy.get("/tokens").leads_to("/sign-in?next=%2Ftokens");
    daemon.stop();
    let log = std::fs::read_to_string(site.world.path("daemon.log")).unwrap();
    assert!(!log.contains(&session), "the log has a session");
    assert!(
        !log.contains(link.rsplit('/').next().unwrap()),
        "the log has a link"
    );
    let audit = site.world.run(&["audit", "list"]).stdout;
    assert!(
        audit.contains("user.link") && audit.contains("session.start"),
        "{audit}"
    );
}

#[rstest]
fn links_are_printed_only_for_people_who_may_sign_in(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let world = &site.world;
    world
        .run(&["user", "link", "nobody@example.org"])
        .exits(1)
        .says("no user");
    world.run(&["user", "disable", "bob@example.org"]).exits(0);
    world
        .run(&["user", "link", "bob@example.org"])
        .exits(1)
        .says("disabled");
    world
        .run(&["user", "add", "farm", "--service", "--account", "acme"])
        .exits(0);
    world
        .run(&["user", "link", "farm"])
        .exits(1)
        .says("machine user");
}

#[rstest]
fn a_mailed_link_belongs_to_the_browser_that_asked(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::new(site.port);
    let form = browser.get("/sign-in?next=%2Ftokens");
    assert_eq!(form.field("next"), "/tokens");
    let asked = [("address", "Ann@Example.org"), ("next", "/tokens")];
    browser.post("/sign-in", &asked).leads_to("/sign-in/sent");
    let sent = browser.get("/sign-in/sent");
    let (_, number) = sent.body.split_once("class=\"number\">").unwrap();
    let number = number.split('<').next().unwrap();
    assert_eq!(number.len(), 6);
    let link = mailed_link(&site, 0);
    assert!(link.ends_with("?next=%2Ftokens"), "{link}");
    // Elsewhere, the number is needed.
    let mut phone = Browser::new(site.port);
    phone.get(&link).shows(200, "name=\"number\"");
    phone.post(&link, &[]).shows(422, "name=\"number\"");
    phone
        .post(&link, &[("number", "000000x")])
        .shows(422, "not the number");
    let spaced = format!("{} {}", &number[..3], &number[3..]);
    phone
        .post(&link, &[("number", &spaced), ("next", "/tokens")])
        .leads_to("/tokens");
    browser.post(&link, &[]).shows(404, "does not work");
    // Three wrong numbers end a link.
    browser.post("/sign-in", &asked).leads_to("/sign-in/sent");
    let link = mailed_link(&site, 1);
    let mut other = Browser::new(site.port);
    for _ in 0..3 {
        other.post(&link, &[("number", "0000000")]);
    }
    browser.post(&link, &[]).shows(404, "does not work");
    daemon.stop();
}

#[rstest]
fn everybody_gets_the_same_answer_and_at_most_three_mails(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let daemon = Daemon::start(&site.world, "daemon");
    let ask = |address: &str| {
        let page = Browser::new(site.port).post("/sign-in", &[("address", address)]);
        let names = page
            .headers
            .iter()
            .filter(|(name, _)| name != "date" && name != "x-request-id");
        let names: Vec<_> = names
            .map(|(name, value)| (name.clone(), value.len()))
            .collect();
        (page.status, names, page.body)
    };
    let unknown = ask("nobody@example.org");
    for _ in 0..4 {
        assert_eq!(ask("ann@example.org"), unknown);
    }
    let mails = || mails_in(&site.world.path("outbox"));
    wait_until("the mails", || (mails().len() >= 3).then_some(()));
    // The link of somebody else is the last that was asked for.
    ask("ada@example.org");
    wait_until("the last mail", || (mails().len() >= 4).then_some(()));
    let mut to: Vec<_> = mails().iter().map(|mail| mail.to.clone()).collect();
    to.sort();
    assert_eq!(
        to,
        [
            "ada@example.org",
            "ann@example.org",
            "ann@example.org",
            "ann@example.org"
        ]
    );
    assert_eq!(ask("no address").0, 422);
    daemon.stop();
}

#[rstest]
fn a_disabled_person_is_out_at_the_next_request(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, "ann@example.org");
    let link = operator_link(&site, "ann@example.org");
    browser.get("/").shows(200, "Overview");
    site.world
        .run(&["user", "disable", "ann@example.org"])
        .exits(0);
    browser.get("/").leads_to("/sign-in");
    Browser::new(site.port)
        .post(&link, &[])
        .shows(404, "does not work");
    daemon.stop();
}

#[test]
fn forms_of_other_sites_are_refused() {
    let site = site(Sqlite);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, "ann@example.org");
    browser.fetch_site = "cross-site";
    browser.post("/sign-out", &[]).shows(403, "another site");
    browser.get("/").shows(200, "Overview");
    browser.fetch_site = "same-origin";
    for next in ["https://evil.example/", "//evil.example", "/\\evil.example"] {
        let link = operator_link(&site, "ann@example.org");
        browser.post(&link, &[("next", next)]).leads_to("/");
    }
    daemon.stop();
}

#[test]
fn pages_have_strict_headers_and_say_what_is_wrong() {
    let site = site(Sqlite);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::new(site.port);
    let page = browser.get("/sign-in");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "report-uri /csp-report",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
    assert!(page.header("permissions-policy").contains("camera=()"));
    browser.get("/nothing").shows(404, "Page not found");
    assert_eq!(
        browser.get("/api/nothing").header("content-type"),
        "application/problem+json"
    );
    browser.post("/csp-report", &[]).shows(204, "");
    assert_eq!(browser.send("PUT", "/sign-in", "").status, 405);
    browser.language = "de-AT";
    browser
        .get("/nothing")
        .shows(404, "Seite nicht gefunden")
        .shows(404, "<html lang=\"de\"");
    // Assets are kept for ever: their name changes with them.
    let (_, style) = page.body.split_once("href=\"/assets/portal.").unwrap();
    let style = format!("/assets/portal.{}", style.split('"').next().unwrap());
    let asset = browser.get(&style);
    assert_eq!(asset.status, 200);
    assert_eq!(
        asset.header("cache-control"),
        "public, max-age=31536000, immutable"
    );
    assert!(!asset.header("etag").is_empty());
    browser.get("/assets/portal.css").shows(404, "");
    daemon.stop();
}

#[rstest]
fn a_secret_is_shown_once_and_made_once(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, "ann@example.org");
    let form = browser.get("/tokens/new?name=ci&expires=7d&scope=app%3Aread");
    assert_eq!(
        form.input("name\" name=\"name\" required maxlength=\"100"),
        "ci"
    );
    let key = form.field("form_key");
    let fields = [
        ("form_key", key.as_str()),
        ("name", "ci"),
        ("expires", "7d"),
        ("other_scopes", "app:read app:write"),
    ];
    let missing = browser.post("/tokens/new", &[("form_key", &key), ("expires", "date")]);
    missing.shows(422, "needs a name").shows(422, "not a day");
    let made = browser.post("/tokens/new", &fields);
    made.shows(201, "shown only now");
    let token = made.input("token\" readonly");
    assert_eq!(crate::web::verifies(site.port, &token), 200);
    // A reload sends the form again.
    let again = browser.post("/tokens/new", &fields);
    again.shows(409, "was sent before");
    assert!(!again.body.contains(&token));
    let mut later = Browser::sign_in(&site, "ann@example.org");
    later
        .post("/tokens/new", &fields)
        .shows(409, "was sent before");
    assert_eq!(site.world.list(&["token", "list"]).len(), 1);
    let (_, id) = again.body.split_once("href=\"/tokens/").unwrap();
    let id = id.split('"').next().unwrap();
    let page = browser.get(&format!("/tokens/{id}"));
    page.shows(200, "<code>app:write</code>");
    assert!(!page.body.contains(&token));
    // Regenerated, both secrets work; a second click makes no third.
    let path = format!("/tokens/{id}/regenerate");
    let form = browser.get(&path);
    let (key, version) = (form.field("form_key"), form.field("version"));
    let fields = [
        ("form_key", key.as_str()),
        ("version", &version),
        ("expires", "same"),
        ("overlap", "1h"),
    ];
    let made = browser.post(&path, &fields);
    made.shows(201, "new secret")
        .shows(201, "The old secret works until");
    let new = made.input("token\" readonly");
    browser.post(&path, &fields).shows(409, "was sent before");
    assert_eq!(crate::web::verifies(site.port, &token), 200);
    assert_eq!(crate::web::verifies(site.port, &new), 200);
    daemon.stop();
}

#[rstest]
fn tokens_are_edited_disabled_enabled_and_revoked(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let issued = site.issue(&[]);
    let (id, token) = (issued["id"].as_str().unwrap(), secret(&issued));
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, "ann@example.org");
    let edit = format!("/tokens/{id}/edit");
    let form = browser.get(&edit);
    let fields = [
        ("version", form.field("version")),
        ("name", "ci-deploy".to_owned()),
        ("description", "what it does".to_owned()),
    ];
    let fields = fields
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    browser
        .post(&edit, &fields)
        .leads_to(&format!("/tokens/{id}?done=edited"));
    browser
        .get(&format!("/tokens/{id}?done=edited"))
        .shows(200, "The secret stays");
    browser.post(&edit, &fields).shows(422, "changed since");
    assert_eq!(crate::web::verifies(site.port, token), 200);
    for (act, status) in [("disable", 401), ("enable", 200)] {
        let path = format!("/tokens/{id}/{act}");
        browser.get(&path).shows(200, "<form method=\"post\"");
        browser
            .post(&path, &[("reason", "a test")])
            .leads_to(&format!("/tokens/{id}?done={act}d"));
        assert_eq!(crate::web::verifies(site.port, token), status);
    }
    let revoke = format!("/tokens/{id}/revoke");
    browser.get(&revoke).shows(200, "cannot be undone");
    // Somebody else's token is nothing to Bob.
    let mut bob = Browser::sign_in(&site, "bob@example.org");
    for path in [format!("/tokens/{id}"), edit, revoke.clone()] {
        bob.get(&path).shows(404, "Page not found");
    }
    bob.post(&revoke, &[]).shows(404, "Page not found");
    browser
        .post(&revoke, &[("why", "unused"), ("name", "ci-deploy")])
        .leads_to(&format!("/tokens/{id}?done=revoked"));
    assert_eq!(crate::web::verifies(site.port, token), 401);
    browser
        .get("/tokens?status=deleted")
        .shows(200, "ci-deploy");
    browser
        .get("/tokens")
        .shows(200, "There are no tokens here");
    daemon.stop();
}

#[rstest]
fn notices_stay_unread_until_a_form_says_so(#[values(Sqlite, Postgres)] db: Db) {
    let mut site = site(db);
    let ann = "ann@example.org";
    site.world
        .run(&["preference", "set", ann, "channel", "account"])
        .exits(0);
    let issued = site.issue(&["--expires", "8d"]);
    let id = issued["id"].as_str().unwrap();
    site.world.at("+2d").sweep();
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, ann);
    for _ in 0..2 {
        let page = browser.get("/notices");
        page.shows(200, "Unread")
            .shows(200, "Warning 7 days before it ends")
            .shows(200, &format!("<a href=\"/tokens/{id}\""))
            .shows(200, "1 unread notice");
    }
    let until = browser.get("/notices").field("until");
    let page = browser.get("/notices");
    let form = page.value_after("<form method=\"post\" action=\"/notices/");
    assert_eq!(form, "read", "the form about all notices comes first");
    let (_, rest) = page.body.split_once("<tbody>").unwrap();
    let (_, rest) = rest.split_once("action=\"").unwrap();
    let one = rest.split('"').next().unwrap();
    // A notice of somebody else is none.
    let mut bob = Browser::sign_in(&site, "bob@example.org");
    bob.post(one, &[]).shows(404, "Page not found");
    bob.post("/notices/read", &[("until", &until)])
        .leads_to("/notices");
    bob.get("/notices").shows(200, "You have no notices");
    browser.get("/notices").shows(200, "Unread");
    browser.post("/notices/read", &[]).shows(400, "");
    // What comes after the page was shown stays unread.
    let early = [("until", "2000-01-01T00:00:00Z")];
    browser.post("/notices/read", &early).leads_to("/notices");
    browser.get("/notices").shows(200, "Unread");
    browser.post(one, &[]).leads_to("/notices");
    let page = browser.get("/notices");
    page.shows(200, "<span class=\"muted\">Read");
    for gone in ["Unread", "unread notice", "Mark all"] {
        assert!(!page.body.contains(gone), "{gone}: {}", page.body);
    }
    daemon.stop();
}

#[test]
fn findings_are_seen_by_their_owners_and_acknowledged_by_admins() {
    let mut site = site(Sqlite);
    site.world
        .set("policy.max_ttl", "\"90d\"")
        .table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"tokens.csv\"");
    let columns = "external_id,name,issuer_email,expires_at,created_at,last_used_at,role,status";
    let row = "b,endless,ann@example.org,never,2026-11-01,2026-11-19,admin,active";
    site.world
        .write("tokens.csv", format!("{columns}\n{row}\n"));
    site.world.sweep();
    let listed = site.world.list(&["finding", "list"]);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let daemon = Daemon::start(&site.world, "daemon");
    let mut ann = Browser::sign_in(&site, "ann@example.org");
    let page = ann.get("/findings");
    page.shows(200, "Never expires")
        .shows(200, "endless")
        .shows(200, "it has no expiry");
    assert!(!page.body.contains("/acknowledge"), "{}", page.body);
    let path = format!("/findings/{id}/acknowledge");
    let until = [("until", "2099-01-01"), ("reason", "a test")];
    ann.get(&path).shows(404, "Page not found");
    ann.post(&path, &until).shows(404, "Page not found");
    let mut bob = Browser::sign_in(&site, "bob@example.org");
    bob.get("/findings").shows(200, "Nothing is wrong");
    ann.get("/findings?kind=unused")
        .shows(200, "No finding matches");
    let mut root = Browser::sign_in(&site, "root@example.org");
    root.get("/findings").shows(200, &path);
    root.get(&path).shows(200, "You accept the finding");
    root.post(&path, &[("until", "soon"), ("reason", "why & how")])
        .shows(422, "This is not a day")
        .shows(422, "value=\"why &amp; how\"");
    root.post(&path, &[("until", "2000-01-01"), ("reason", "why")])
        .shows(422, "it has passed already");
    root.post(&path, &[("until", "2099-01-01")])
        .shows(422, "needs a reason");
    root.post(&path, &until)
        .leads_to("/findings?done=acknowledged");
    root.get("/findings?done=acknowledged")
        .shows(200, "is acknowledged")
        .shows(200, "Nothing is wrong");
    root.get("/findings?state=all").shows(200, "acknowledged");
    root.get("/audit?action=finding.")
        .shows(200, "finding.acknowledge")
        .shows(200, "a test");
    daemon.stop();
}

#[test]
fn the_audit_trail_is_filtered_and_paged() {
    let site = site(Sqlite);
    for _ in 0..26 {
        site.world
            .run(&["user", "disable", "bob@example.org"])
            .exits(0);
        site.world
            .run(&["user", "enable", "bob@example.org"])
            .exits(0);
    }
    let daemon = Daemon::start(&site.world, "daemon");
    let mut root = Browser::sign_in(&site, "root@example.org");
    let first = root.get("/audit?subject=user%2Fbob");
    first.shows(200, "user.disable");
    assert!(!first.body.contains("session.start"), "{}", first.body);
    let next = first.link_after("rel=\"next\" href=\"");
    let second = root.get(&next);
    second.shows(200, "user.add");
    root.get("/audit?action=user.enable&since=2000-01-01")
        .shows(200, "user/bob@example.org");
    root.get("/audit?until=2000-01-01")
        .shows(200, "Nothing matches");
    root.get("/audit?cursor=x").shows(400, "");
    // The admin of an account reads about its tokens alone.
    let mut ada = Browser::sign_in(&site, "ada@example.org");
    let page = ada.get("/audit");
    assert!(!page.body.contains("user.disable"), "{}", page.body);
    daemon.stop();
}

#[rstest]
fn the_forecast_counts_what_ends_on_each_day(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    for span in ["20d", "20d", "20d", "150d"] {
        site.issue(&["--expires", span]);
    }
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, "ann@example.org");
    let page = browser.get("/forecast");
    page.shows(200, ": 3 tokens end<")
        .shows(200, "Most tokens end on")
        .shows(200, "ann@example.org")
        .shows(200, "Next warning");
    assert_eq!(page.body.matches("<tr><th scope=\"row\">").count(), 13);
    assert!(!page.body.contains("1 token ends<"), "{}", page.body);
    let day = crate::world::in_days(20);
    browser
        .get(&format!("/forecast?day={day}"))
        .shows(200, "What ends on");
    let empty = crate::world::in_days(40);
    browser
        .get(&format!("/forecast?day={empty}"))
        .shows(200, "Nothing ends here");
    let later = page.link_after("<a class=\"button\" href=\"/forecast?");
    browser
        .get(&format!("/forecast?{later}"))
        .shows(200, ": 1 token ends<")
        .shows(200, "13 weeks earlier");
    // What is of others is for admins.
    browser.get("/forecast?view=all").shows(404, "");
    let mut ada = Browser::sign_in(&site, "ada@example.org");
    ada.get("/forecast").shows(200, "Nothing ends here");
    ada.get("/forecast?view=all").shows(200, ": 3 tokens end<");
    for odd in ["from=x&day=y", "from=262142-12-31", "day=262142-12-31"] {
        let page = browser.get(&format!("/forecast?{odd}"));
        assert!(page.status < 500, "{odd}: {}", page.status);
    }
    daemon.stop();
}

#[rstest]
fn admins_disable_and_enable_people(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let issued = site.issue(&[]);
    let token = secret(&issued);
    let daemon = Daemon::start(&site.world, "daemon");
    assert_eq!(crate::web::verifies(site.port, token), 200);
    let mut ann = Browser::sign_in(&site, "ann@example.org");
    let mut ada = Browser::sign_in(&site, "ada@example.org");
    let page = ada.get("/people");
    page.shows(200, "ann@example.org")
        .shows(200, "acme: administrator");
    assert!(!page.body.contains("root@example.org"), "{}", page.body);
    let disable = "/people/ann%40example%2Eorg/disable";
    page.shows(200, disable);
    wait_until("the use of the token", || {
        let page = ada.get(disable);
        page.shows(200, "All their tokens and sessions stop");
        page.body.contains("What uses them stops").then_some(())
    });
    ada.post(disable, &[]).shows(422, "Give a reason");
    ann.get("/").shows(200, "Overview");
    ada.post(disable, &[("reason", "they left")])
        .leads_to("/people?done=disabled");
    ann.get("/").leads_to("/sign-in");
    assert_eq!(crate::web::verifies(site.port, token), 401);
    ada.get("/people?done=disabled")
        .shows(200, "They are disabled")
        .shows(200, "/people/ann%40example%2Eorg/enable");
    let enable = "/people/ann%40example%2Eorg/enable";
    ada.get(enable).shows(200, "Their tokens work again");
    ada.post(enable, &[("reason", "they are back")])
        .leads_to("/people?done=enabled");
    assert_eq!(crate::web::verifies(site.port, token), 200);
    // Who is beyond the account is not there.
    for key in ["root%40example%2Eorg", "nobody"] {
        let path = format!("/people/{key}/disable");
        ada.get(&path).shows(404, "Page not found");
        ada.post(&path, &[("reason", "x")])
            .shows(404, "Page not found");
    }
    daemon.stop();
}

#[rstest]
fn preferences_are_saved_and_say_what_cannot_be_switched_off(#[values(Sqlite, Postgres)] db: Db) {
    let site = site(db);
    let issued = site.issue(&["--expires", "60d"]);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, "ann@example.org");
    let form = browser.get("/preferences");
    form.shows(200, "As configured")
        .shows(200, "used within 7 days");
    let version = form.field("version");
    let wrong = [
        ("version", version.as_str()),
        ("warnings", "own"),
        ("steps", "soon"),
        ("channel", "account"),
        ("timezone", "Mars/Olympus"),
        ("digest", "never"),
    ];
    let page = browser.post("/preferences", &wrong);
    for text in ["soon", "Mars/Olympus", "Europe/Vienna", "09:00"] {
        page.shows(422, text);
    }
    page.shows(422, "<option value=\"account\" selected>");
    let right = [
        ("version", version.as_str()),
        ("warnings", "own"),
        ("steps", "14d, 1d"),
        ("channel", "account"),
        ("language", "de"),
        ("timezone", "Asia/Tokyo"),
        ("digest", "08:30"),
    ];
    browser
        .post("/preferences", &right)
        .leads_to("/preferences?done=saved");
    let saved = browser.get("/preferences?done=saved");
    for text in [
        "gespeichert",
        "14d 1d",
        "Asia/Tokyo",
        "08:30",
        "lang=\"de\"",
    ] {
        saved.shows(200, text);
    }
    // Somebody else has changed them since.
    browser.post("/preferences", &right).shows(422, "read");
    // A token in daily use would stop without notice.
    assert_eq!(crate::web::verifies(site.port, secret(&issued)), 200);
    let version = saved.field("version");
    let none = [("version", version.as_str()), ("warnings", "none")];
    browser
        .post("/preferences", &none)
        .shows(422, "last warning cannot be switched off");
    let back = [("version", version.as_str())];
    browser
        .post("/preferences", &back)
        .leads_to("/preferences?done=saved");
    browser
        .get("/preferences?done=saved")
        .shows(200, "preferences are saved");
    daemon.stop();
}

#[test]
fn sources_and_directories_say_what_is_wrong_and_what_to_run() {
    let mut site = site(Sqlite);
    site.world
        .table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"missing.csv\"")
        .table("[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"nobody.csv\"");
    site.world.run(&["sweep"]);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut root = Browser::sign_in(&site, "root@example.org");
    root.get("/sources")
        .shows(200, "Fails")
        .shows(200, "lapsed source check exports");
    root.get("/directories")
        .shows(200, "Fails")
        .shows(200, "lapsed directory check hr");
    daemon.stop();
}

/// Each page with what the roles get: nobody, the viewer, the admin of the account, the super admin.
const PAGES: [(&str, [u16; 4]); 21] = [
    ("/", [303, 200, 200, 200]),
    ("/tokens", [303, 200, 200, 200]),
    ("/tokens?view=all", [303, 404, 200, 200]),
    ("/tokens/new", [303, 200, 200, 200]),
    ("/tokens/{id}", [303, 200, 200, 200]),
    ("/tokens/{id}/regenerate", [303, 200, 200, 200]),
    ("/tokens/{id}/edit", [303, 200, 200, 200]),
    ("/tokens/{id}/disable", [303, 200, 200, 200]),
    ("/tokens/{id}/enable", [303, 200, 200, 200]),
    ("/tokens/{id}/revoke", [303, 200, 200, 200]),
    ("/notices", [303, 200, 200, 200]),
    ("/forecast", [303, 200, 200, 200]),
    ("/findings", [303, 200, 200, 200]),
    ("/audit", [303, 404, 200, 200]),
    ("/people", [303, 404, 200, 200]),
    ("/people/{key}/disable", [303, 404, 200, 200]),
    ("/people/{key}/enable", [303, 404, 200, 200]),
    ("/sources", [303, 404, 404, 200]),
    ("/directories", [303, 404, 404, 200]),
    ("/preferences", [303, 200, 200, 200]),
    ("/sign-in", [200, 200, 200, 200]),
];
/// Those that only take forms, or that links lead to.
const NO_PAGES: [&str; 10] = [
    "/sign-in/sent",
    "/sign-in/link/{text}",
    "/sign-out",
    "/account",
    "/theme",
    "/findings/{id}/acknowledge",
    "/notices/read",
    "/notices/{id}/read",
    "/preferences/sessions/{id}/end",
    "/assets/{file}",
];

#[test]
fn each_role_gets_its_pages() {
    let site = site(Sqlite);
    let issued = site.issue(&[]);
    let id = issued["id"].as_str().unwrap();
    let daemon = Daemon::start(&site.world, "daemon");
    let people = ["ann@example.org", "ada@example.org", "root@example.org"];
    let signed_in = people.map(|person| Browser::sign_in(&site, person));
    let mut browsers = vec![Browser::new(site.port)];
    browsers.extend(signed_in);
    for (page, expected) in PAGES {
        let path = page.replace("{id}", id).replace("{key}", "ann@example.org");
        let got: Vec<_> = browsers
            .iter_mut()
            .map(|browser| browser.get(&path).status)
            .collect();
        assert_eq!(got, expected, "{page}");
    }
    // No menu has a page that its role does not get.
    for browser in &mut browsers[1..] {
        let page = browser.get("/");
        let (_, menu) = page.body.split_once("<ul class=\"menu\">").unwrap();
        let menu = menu.split("</ul>").next().unwrap();
        for link in menu.split("<a href=\"").skip(1) {
            let path = link.split('"').next().unwrap();
            assert_eq!(browser.get(path).status, 200, "{path}");
        }
    }
    daemon.stop();
}

#[test]
fn every_page_has_a_row_in_the_matrix() {
    let routes = include_str!("../../src/web/pages.rs");
    let routes = routes.split(".route(").skip(1);
    let routes = routes.map(|rest| rest.split('"').nth(1).unwrap());
    for route in routes.filter(|route| *route != "/csp-report") {
        let is_known = PAGES.iter().any(|(page, _)| *page == route) || NO_PAGES.contains(&route);
        assert!(is_known, "{route} has no row");
    }
}

#[test]
fn hostile_names_stay_text() {
    let site = site(Sqlite);
    let hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{x}}";
    let named = [
        "token",
        "issue",
        "--user",
        "ann@example.org",
        "--name",
        hostile,
    ];
    let described = ["--description", hostile, "--format", "json"];
    let issued = site.world.run(&[&named[..], &described].concat());
    let issued: serde_json::Value = serde_json::from_str(&issued.exits(0).stdout).unwrap();
    let id = issued["id"].as_str().unwrap();
    let daemon = Daemon::start(&site.world, "daemon");
    let mut browser = Browser::sign_in(&site, "ann@example.org");
    let mut paths = ["/", "/tokens", "/notices", "/findings", "/forecast"]
        .map(str::to_owned)
        .to_vec();
    for page in ["", "/regenerate", "/edit", "/disable", "/enable", "/revoke"] {
        paths.push(format!("/tokens/{id}{page}"));
    }
    let query = url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect::<String>();
    paths.push(format!("/tokens?q={query}&source={query}"));
    paths.push(format!("/tokens/new?name={query}&scope={query}"));
    paths.push(format!("/sign-in?next={query}"));
    paths.push(format!("/findings?kind={query}&state={query}"));
    let machine = "<img_onerror=alert(2)>";
    for arguments in [
        &["user", "add", machine, "--service", "--account", "acme"][..],
        &["user", "disable", "bob@example.org", "--reason", hostile],
    ] {
        site.world.run(arguments).exits(0);
    }
    let mut root = Browser::sign_in(&site, "root@example.org");
    let admins = [
        "/people".to_owned(),
        "/people/%3Cimg_onerror=alert(2)%3E/disable".to_owned(),
        format!("/audit?actor={query}&action={query}&subject={query}"),
        "/audit".to_owned(),
        "/findings".to_owned(),
    ];
    let pages = paths.iter().map(|path| (path, browser.get(path)));
    let pages: Vec<_> = pages
        .chain(admins.iter().map(|path| (path, root.get(path))))
        .collect();
    for (path, page) in pages {
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        for tag in ["<script>", "<img", "onerror=alert(2)>"] {
            assert!(!page.body.contains(tag), "{path} has {tag}: {}", page.body);
        }
    }
    daemon.stop();
}
