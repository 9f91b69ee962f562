//! PostgreSQL that moves: several servers, one that is lost, and transactions that lose a race.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapsed::store::{Access, Error, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::opening::full_message;
use crate::db::Db::Postgres;
use crate::db::Fresh;

fn database(fresh: &Fresh) -> &str {
    fresh.url.rsplit('/').next().unwrap()
}

/// For connections that are made from now on, as of a standby.
async fn set_read_only(fresh: &Fresh, value: &str) {
    let database = database(fresh);
    let sql = format!("ALTER DATABASE {database} SET default_transaction_read_only = {value}");
    let sql = format!("BEGIN READ WRITE; {sql}; COMMIT");
    fresh.execute(&sql).await.unwrap();
}

/// Lets every write of a setting run `body` (PL/pgSQL) first.
async fn on_write(fresh: &Fresh, body: &str) {
    let sql = format!(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION before_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
         CREATE TRIGGER before_write BEFORE INSERT ON meta FOR EACH ROW EXECUTE FUNCTION before_write();"
    );
    fresh.execute(&sql).await.unwrap();
}

async fn write(store: &Store, key: &str) -> Result<(), Error> {
    let mut tx = store.begin_short().await?;
    tx.set_setting(key, "1").await?;
    tx.commit().await
}

async fn has(fresh: &Fresh, key: &str) -> bool {
    let sql = format!("SELECT value FROM meta WHERE key = '{key}'");
    !fresh.texts(&sql).await.is_empty()
}

async fn create(fresh: &Fresh) {
    fresh.open(Access::Create).await.close().await;
}

#[tokio::test]
async fn of_several_servers_the_one_that_takes_writes_is_used() {
    let (standby, leader) = (Postgres.empty(), Postgres.empty());
    set_read_only(&standby, "on").await;
    let orders = [[&standby, &leader], [&leader, &standby]];
    for (number, order) in orders.into_iter().enumerate() {
        let urls = order.map(|server| server.url.as_str()).join(" ");
        let store = Store::open(&urls, Access::Create).await.unwrap();
        write(&store, &format!("order {number}")).await.unwrap();
        store.close().await;
        assert!(has(&leader, &format!("order {number}")).await);
    }
    let tables = "SELECT tablename::text FROM pg_tables WHERE tablename = 'meta'";
    assert!(standby.texts(tables).await.is_empty());
}

#[tokio::test]
async fn without_a_server_that_takes_writes_each_is_named() {
    let server = Postgres.empty();
    create(&server).await;
    set_read_only(&server, "on").await;
    let urls = format!("{} postgres://postgres@127.0.0.1:9/none", server.url);
    let error = Store::open(&urls, Access::Migrate).await.unwrap_err();
    let message = full_message(&error);
    assert_contains!(
        message,
        "takes no writes: it is a standby, or is set to read only"
    );
    assert_contains!(message, "127.0.0.1:9: ");
    assert!(error.is_transient());
    // Reading is enough for this one.
    let store = Store::open(&urls, Access::ReadOnly).await.unwrap();
    store.begin_read().await.unwrap();
    assert!(write(&store, "no").await.is_err());
}

#[tokio::test]
async fn a_server_that_is_demoted_is_left_for_the_new_one() {
    let (old, new) = (Postgres.empty(), Postgres.empty());
    create(&old).await;
    create(&new).await;
    set_read_only(&new, "on").await;
    let urls = format!("{} {}", old.url, new.url);
    let store = Store::open(&urls, Access::Migrate).await.unwrap();
    write(&store, "before").await.unwrap();
    // The open connection of the pool goes on, and its writes fail.
    on_write(&old, "RAISE EXCEPTION 'demoted' USING ERRCODE = '25006';").await;
    set_read_only(&old, "on").await;
    set_read_only(&new, "off").await;
    let error = write(&store, "lost").await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    write(&store, "after").await.unwrap();
    assert!(has(&old, "before").await && !has(&old, "after").await);
    assert!(has(&new, "after").await && !has(&new, "lost").await);
}

#[tokio::test]
async fn a_transaction_that_loses_a_race_is_tried_again() {
    let server = Postgres.empty();
    create(&server).await;
    let body = "IF nextval('tries') % 3 <> 0 THEN RAISE EXCEPTION 'a race' USING ERRCODE = '40001'; END IF;";
    on_write(&server, body).await;
    let store = server.open(Access::Migrate).await;
    store.retrying(|| write(&store, "won")).await.unwrap();
    assert!(has(&server, "won").await);
    assert_eq!(
        server.texts("SELECT last_value::text FROM tries").await,
        ["3"]
    );
}

#[tokio::test]
async fn a_transaction_that_loses_every_race_ends() {
    let server = Postgres.empty();
    create(&server).await;
    let body = "PERFORM nextval('tries'); RAISE EXCEPTION 'a race' USING ERRCODE = '40P01';";
    on_write(&server, body).await;
    let store = server.open(Access::Migrate).await;
    let error = store.retrying(|| write(&store, "lost")).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(
        server.texts("SELECT last_value::text FROM tries").await,
        ["5"]
    );
}

#[tokio::test]
async fn a_newer_lapsed_may_add_a_column_meanwhile() {
    let server = Postgres.empty();
    let store = server.open(Access::Create).await;
    let list = async || -> Result<usize, Error> {
        let mut tx = store.begin_read().await?;
        Ok(tx.load_identities("hr").await?.len())
    };
    // The statement is prepared now.
    assert_eq!(list().await.unwrap(), 0);
    server
        .execute("ALTER TABLE identity ADD COLUMN newer TEXT")
        .await
        .unwrap();
    let listed = store.retrying(&list).await;
    assert_eq!(listed.unwrap(), 0);
}

/// A proxy in front of PostgreSQL. Its open connections can go silent: nothing passes and nothing is closed.
struct Proxy {
    url: String,
    /// Connections with a lower number are silent.
    silent_below: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
    cancel_requests: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(server: &Fresh) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url::Url::parse(&server.url).unwrap();
        let target = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let mut own_url = url.clone();
        own_url.set_host(Some("127.0.0.1")).unwrap();
        own_url
            .set_port(Some(listener.local_addr().unwrap().port()))
            .unwrap();
        let proxy = Self {
            url: own_url.into(),
            silent_below: Arc::default(),
            opened: Arc::default(),
            cancel_requests: Arc::default(),
        };
        let (silent_below, opened) = (Arc::clone(&proxy.silent_below), Arc::clone(&proxy.opened));
        let cancel_requests = Arc::clone(&proxy.cancel_requests);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(target.clone()).await.unwrap();
                let number = opened.fetch_add(1, Ordering::SeqCst);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let gates = [Arc::clone(&silent_below), Arc::clone(&silent_below)];
                let [one, other] = gates;
                let counter = Arc::clone(&cancel_requests);
                tokio::spawn(pass(from_client, to_server, number, one, Some(counter)));
                tokio::spawn(pass(from_server, to_client, number, other, None));
            }
        });
        proxy
    }

    fn silence(&self) {
        let opened = self.opened.load(Ordering::SeqCst);
        self.silent_below.store(opened, Ordering::SeqCst);
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: usize,
    silent_below: Arc<AtomicUsize>,
    cancel_requests: Option<Arc<AtomicUsize>>,
) {
    // Length and code of a CancelRequest.
    const CANCEL: [u8; 8] = [0, 0, 0, 16, 4, 210, 22, 46];
    let mut bytes = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if let Some(counter) = &cancel_requests
            && bytes[..count].starts_with(&CANCEL)
        {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        let is_silent = || number < silent_below.load(Ordering::SeqCst);
        if !is_silent() && to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    if number < silent_below.load(Ordering::SeqCst) {
        // The end does not pass either.
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_server_that_goes_silent_costs_one_time_limit() {
    let server = Postgres.empty();
    create(&server).await;
    let proxy = Proxy::start(&server).await;
    let store = Store::open(&proxy.url, Access::Migrate).await.unwrap();
    // Two connections, both of which go silent.
    let (one, two) = tokio::join!(store.begin_short(), store.begin_short());
    let (mut one, two) = (one.unwrap(), two.unwrap());
    two.commit().await.unwrap();
    proxy.silence();
    let error = one.set_setting("silent", "1").await.unwrap_err();
    drop(one);
    assert_contains!(full_message(&error), "no answer within 10 seconds");
    assert!(error.is_transient());
    let opened = proxy.opened.load(Ordering::SeqCst);
    write(&store, "after").await.unwrap();
    assert!(
        proxy.opened.load(Ordering::SeqCst) > opened,
        "the other connection is not used again"
    );
    assert!(has(&server, "after").await && !has(&server, "silent").await);
    assert_eq!(proxy.cancel_requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_host_that_answers_no_new_connection_is_left_for_another() {
    let (old, new) = (Postgres.empty(), Postgres.empty());
    create(&old).await;
    create(&new).await;
    set_read_only(&new, "on").await;
    let proxy = Proxy::start(&old).await;
    let urls = format!("{} {}", proxy.url, new.url);
    // The pool is empty, so that no connection of it shows the loss.
    let store = Store::open(&urls, Access::Migrate).await.unwrap();
    proxy.silent_below.store(usize::MAX, Ordering::SeqCst);
    set_read_only(&new, "off").await;
    let error = write(&store, "lost").await.unwrap_err();
    assert_contains!(full_message(&error), "no answer within 10 seconds");
    write(&store, "after").await.unwrap();
    assert!(has(&new, "after").await);
}

#[tokio::test]
async fn a_proxy_without_a_server_behind_it_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            // What was not read would turn the end into a reset.
            let _ = client.read(&mut [0; 1024]).await;
        }
    });
    for mode in ["prefer", "require", "disable"] {
        let url = format!("postgres://postgres@127.0.0.1:{port}/lapsed?sslmode={mode}");
        let error = Store::open(&url, Access::Migrate).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_contains!(
            full_message(&error),
            "as a proxy does that has no server to connect to"
        );
    }
}
