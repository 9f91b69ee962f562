use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode as Status;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::directories::scim::groups::GroupReader;
use crate::upstream::ProxyRules;
use crate::upstream::http::Client;

type Response = (Status, String);

/// A server that answers a path with its query, and records them.
struct Server {
    api: Api,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> Value + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let url = url.parse().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = requests.clone();
        let respond = move |request: Request| {
            let target = request.uri().path_and_query().unwrap().as_str();
            let target = target.replace("%40", "@").replace('+', "%20");
            recorded.lock().unwrap().push(target.clone());
            let json = answer(&target);
            let response: Response = match json.as_u64() {
                Some(status) => (
                    Status::from_u16(u16::try_from(status).unwrap()).unwrap(),
                    String::new(),
                ),
                None => (Status::OK, json.to_string()),
            };
            async { response }
        };
        let server = Router::new().fallback(respond);
        tokio::spawn(async { axum::serve(listener, server).await });
        let client =
            Client::new(&url, None, Duration::from_secs(5), &ProxyRules::default()).unwrap();
        Self {
            api: Api::new(client, &url, &"token".into()).unwrap(),
            requests,
        }
    }

    async fn collect(&self, people: &[Address], memory: Option<&str>) -> PeopleListing {
        let query = PeopleQuery {
            people,
            cursor: None,
            last_cursor: memory,
        };
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut sink = |_| ();
        let unrestricted = AllowedGroups::Unrestricted;
        let collector = Collector::new(&self.api, provider(), unrestricted, &query, now, &mut sink);
        collector.collect().await.unwrap()
    }

    /// How many requests have this text since the last call.
    fn count(&self, text: &str) -> usize {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        requests.iter().filter(|it| it.contains(text)).count()
    }
}

fn provider() -> Provider {
    Provider {
        supports_filters: true,
        ..Provider::default()
    }
}

fn address(number: usize) -> Address {
    format!("p{number}@example.org").parse().unwrap()
}

fn user(id: &str, name: &str, mailbox: &str, active: bool) -> Value {
    json!({"id": id, "userName": name, "active": active, "emails": [{"value": mailbox}]})
}

fn list(users: &[Value]) -> Value {
    json!({"totalResults": users.len(), "Resources": users})
}

/// A list of 100 people, and nobody by a filter.
fn first_hundred() -> Value {
    let users = (1000..1100).map(|n| {
        let mailbox = address(n).to_string();
        user(&n.to_string(), &mailbox, &mailbox, true)
    });
    list(&users.collect::<Vec<_>>())
}

#[tokio::test]
async fn people_whom_a_server_cannot_find_by_mailbox_are_asked_for_once_a_day() {
    let server = Server::start(|target| {
        if target.contains("emails.value") {
            json!(400)
        } else if target.contains("filter=") {
            list(&[])
        } else {
            first_hundred()
        }
    })
    .await;
    let people: Vec<Address> = (1..=300).map(address).collect();
    let first = server.collect(&people, None).await;
    assert_eq!(server.count("userName%20eq"), 200);
    assert_eq!(
        first.unread.len(),
        100,
        "those for whom it has not asked yet"
    );
    let second = server.collect(&people, first.cursor.as_deref()).await;
    assert_eq!(server.count("userName%20eq"), 100);
    assert!(second.unread.is_empty());
    let gaps = second.gaps.unwrap();
    assert!(gaps.contains("300 issuers") && gaps.contains("by a filter either"));
    let third = server.collect(&people, second.cursor.as_deref()).await;
    assert_eq!(server.count("userName%20eq"), 0);
    assert!(third.gaps.is_some());
}

#[tokio::test]
async fn a_filter_whose_result_lacks_a_user_finds_no_one() {
    let server = Server::start(|target| {
        if target.contains("Groups") {
            let group = json!({"id": "g-1", "displayName": "cdn"});
            json!({"totalResults": 2, "Resources": [group, {"displayName": "cdn"}]})
        } else {
            let ada = user("1", "p1@example.org", "p1@example.org", true);
            json!({"totalResults": 2, "Resources": [ada, {"id": null}]})
        }
    })
    .await;
    let query = ListQuery {
        filter: Some("userName eq \"p1@example.org\"".to_owned()),
        ..users_query(None)
    };
    let found = pages::find(&server.api, provider(), query, |_: &User| true).await;
    assert!(found.unwrap().is_none());
    let mut reader = GroupReader::new(&server.api, Provider::default());
    let error = reader.find_group("cdn").await.unwrap_err().to_string();
    assert!(error.contains("1 of its records have no id"), "{error}");
}

#[tokio::test]
async fn remembered_people_are_read_200_at_a_time_and_an_error_concerns_one() {
    let server = Server::start(|target| {
        let id = target.rsplit('/').next().unwrap_or_default();
        match id.parse() {
            Ok(7) => json!(500),
            Ok(number) => {
                let mailbox = address(number).to_string();
                user(id, &mailbox, &mailbox, true)
            }
            Err(_) => first_hundred(),
        }
    })
    .await;
    let people: Vec<Address> = (1..=300).map(address).collect();
    let mut memory = Memory::default();
    let now = "2026-11-22T11:00:00Z".parse().unwrap();
    for (person, number) in people.iter().zip(1..) {
        let number: usize = number;
        memory.remember(person, Asked::new(now, vec![number.to_string()], false));
    }
    let first = server.collect(&people, memory.to_text().as_deref()).await;
    assert_eq!(server.count("/Users/"), 200);
    let failed = address(7);
    assert_eq!(first.unread.len(), 101);
    assert!(first.unread.contains(failed.key()));
    let second = server.collect(&people, first.cursor.as_deref()).await;
    assert_eq!(server.count("/Users/"), 200);
    let read_twice = first.unread.intersection(&second.unread);
    assert_eq!(read_twice.collect::<Vec<_>>(), [failed.key()]);
    assert!(second.gaps.unwrap().contains("were not read by their ids"));
}

/// The filter for mailboxes finds nobody, so only the list shows that a second user has the mailbox of the first.
#[tokio::test]
async fn a_second_user_whom_the_filters_miss_is_found_in_the_list() {
    let ada = || user("1", "p1@example.org", "other@example.org", false);
    let second = user("2", "admin", "p1@example.org", true);
    for (users, extents) in [
        (vec![ada(), second], [Extent::Everybody, Extent::Everybody]),
        (vec![ada()], [Extent::Everybody, Extent::Requested]),
    ] {
        let server = Server::start(move |target| {
            if target.contains("emails.value") {
                list(&[])
            } else if target.contains("filter=") {
                list(&[ada()])
            } else {
                list(&users)
            }
        })
        .await;
        let first = server.collect(&[address(1)], None).await;
        let again = server.collect(&[address(1)], first.cursor.as_deref()).await;
        assert_eq!([first.extent, again.extent], extents);
    }
}
