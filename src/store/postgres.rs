//! Opening a store on PostgreSQL.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use super::cluster::{Cluster, SHORT_LIMIT, no_answer};
use super::schema::{Access, POSTGRES_MIGRATIONS, Versions, check_versions, migrate};
use super::session::STATEMENT_TIMEOUT;
use super::unusable::explain_postgres;
use super::{Error, Pools, Result, Store};
use crate::causes::Causes;
use crate::network::{require_tls, split_hosts};

pub(super) async fn open(urls: &str, access: Access) -> Result<(Store, Versions)> {
    let hosts = parse_hosts(urls)?;
    let needs_writes = !matches!(access, Access::ReadOnly | Access::AsIs);
    let cluster = Cluster::new(hosts, needs_writes);
    let place = cluster.place();
    let connected = cluster.connect_any().await;
    let mut connection = connected.map_err(|errors| explain_all(errors, &place))?;
    let explain = |error| explain_postgres(error, &place);
    let check = check_versions(&mut connection, &POSTGRES_MIGRATIONS, access, place.clone());
    let checked = timeout(SHORT_LIMIT, check).await;
    let versions = checked
        .unwrap_or_else(|_| Err(no_answer(SHORT_LIMIT).into()))
        .map_err(explain)?;
    if versions.before < versions.now {
        // A change of the schema takes as long as a large table does, and another process may be at it.
        sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0")
            .execute(&mut connection)
            .await?;
        let migrated = migrate(&mut connection, &POSTGRES_MIGRATIONS).await;
        migrated.map_err(explain)?;
    }
    connection.close().await?;
    let pool = cluster.pool()?;
    Ok((Store(Pools::Postgres { cluster, pool }), versions))
}

/// The servers of the URLs, which spaces separate.
fn parse_hosts(urls: &str) -> Result<Vec<PgConnectOptions>> {
    let urls = urls.split_whitespace().flat_map(split_hosts);
    urls.map(|url| parse_host(&url)).collect()
}

fn parse_host(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).map_err(|source| {
        let place = "postgres://".to_owned();
        explain_postgres(Error::Open { place, source }, "PostgreSQL")
    })?;
    let statement_timeout = format!("{}s", STATEMENT_TIMEOUT.as_secs());
    Ok(require_tls(options)
        .application_name("lapsed")
        .options([
            ("statement_timeout", statement_timeout.as_str()),
            // Shorter than any limit of ours: a statement that waits for a lock would wait on after we have closed its
            // connection.
            ("lock_timeout", "8s"),
            ("idle_in_transaction_session_timeout", "60s"),
            // A role or another engine may have another default, under which transactions fail that race.
            ("default_transaction_isolation", "read committed"),
            ("timezone", "UTC"),
            // A commit that did not wait for its standby says so in a warning.
            ("client_min_messages", "warning"),
        ])
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO))
}

/// The error of a store none of whose servers can be used.
fn explain_all(errors: Vec<(String, sqlx::Error)>, place: &str) -> Error {
    let explain = |source| {
        let opening = Error::Open {
            place: place.to_owned(),
            source,
        };
        explain_postgres(opening, place)
    };
    let mut explained: Vec<_> = errors
        .into_iter()
        .map(|(host, source)| (host, explain(source)))
        .collect();
    if explained.len() == 1
        && let Some((_, only)) = explained.pop()
    {
        return only;
    }
    let reason = |(host, error): &(String, Error)| match error {
        Error::Unusable { reason, .. } => format!("{host}: {reason}"),
        Error::Open { source, .. } => format!("{host}: {}", Causes(source)),
        error => format!("{host}: {}", Causes(error)),
    };
    Error::NoServer {
        place: place.to_owned(),
        reasons: explained.iter().map(reason).collect(),
        is_transient: explained.iter().any(|(_, error)| error.is_transient()),
    }
}
