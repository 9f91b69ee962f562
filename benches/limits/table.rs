//! Syncs of a large table by the source `sql`.

use std::time::Instant;

use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection, Row};

use super::process;
use super::{Options, print_result};

/// The server generates the rows as it goes, so the way into
/// the store is measured.
fn query(rows: u64) -> String {
    format!(
        "SELECT n AS external_id, 'ci-deploy-' || n AS name, 'user' || (n % 100000) || '@example.com' AS issuer_email,
                TIMESTAMPTZ '2040-01-01 00:00:00Z' + n % 900 * INTERVAL '1 day' AS expires_at,
                'account-' || (n % 20000) AS account, 'deploy' AS role
         FROM generate_series(1, {rows}) n"
    )
}

/// Measures the first sync, the second, and a plain read of the same rows.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let Some(server) = &options.postgres else {
        print_result("table: no PostgreSQL");
        return Ok(());
    };
    let rows: u64 = if options.quick { 200_000 } else { 10_000_000 };
    let plain = read_plainly(server, rows).await?;
    print_result(&format!(
        "table of {rows} rows read plainly: {:.0} rows/s",
        per_second(rows, plain)
    ));
    for place in options.places() {
        place.clear("bench_table").await?;
        let path = process::config(&options.dir, &place.url("bench_table"), 9, 0)?;
        let text = std::fs::read_to_string(&path)?;
        let source = format!("[[source]]\nname = \"portal\"\nkind = \"sql\"\nurl = {server:?}\n");
        let text = format!("{text}{source}query = {:?}\n", query(rows));
        std::fs::write(&path, text)?;
        let path = path.display().to_string();
        for what in ["new", "the same again"] {
            let used = process::run(options, &["--config", &path, "source", "sync", "portal"])?;
            print_result(&format!(
                "{} table of {rows} rows, {what}: {:.0} rows/s, {:.2} of reading plainly, {:.1} MiB at most",
                place.name(),
                per_second(rows, used.seconds),
                plain / used.seconds,
                used.mib
            ));
        }
        place.clear("bench_table").await?;
    }
    Ok(())
}

/// Reads the rows without using them; returns the seconds.
async fn read_plainly(server: &str, rows: u64) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(server).await?;
    let begun = Instant::now();
    let query = sqlx::AssertSqlSafe(query(rows));
    let mut found = sqlx::query(query).fetch(&mut connection);
    let mut bytes = 0;
    while let Some(row) = found.try_next().await? {
        bytes += row.try_get::<&str, _>("name")?.len();
    }
    anyhow::ensure!(bytes > 0, "no rows");
    Ok(begun.elapsed().as_secs_f64())
}

fn per_second(rows: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
    let rows = rows as f64;
    rows / seconds
}
