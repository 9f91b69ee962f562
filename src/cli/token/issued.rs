//! What `lapsed token show` adds for a token that lapsed issued: its secrets and its use.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::output::when::rfc3339;
use crate::cli::output::{Cell, Column, Field, Row, Sheet, objects};
use crate::domain::TokenId;
use crate::domain::service::{Credential, Networks, StoredSecret};
use crate::notify::wording::quantity;
use crate::store::{self, AddressUse, HourOfUse, Tx, Uses};

/// Hours with a use that the sheet shows; JSON has all.
const SHOWN_HOURS: usize = 24;

pub(in crate::cli) struct IssuedToken {
    credential: Credential,
    secrets: Vec<SecretRow>,
    uses: Uses,
    is_never_shown: bool,
}

type IssuedField = (
    &'static str,
    fn(Option<&IssuedToken>, DateTime<Utc>) -> Value,
);

impl IssuedToken {
    /// The keys of its JSON object; null or empty for a token of another source.
    pub const FIELDS: [IssuedField; 6] = [
        ("not_before", |issued, _| {
            rfc3339(issued.and_then(|issued| issued.credential.not_before))
        }),
        ("secrets", |issued, now| {
            list(issued.map(|issued| issued.secrets.as_slice()), now)
        }),
        ("use", |issued, now| {
            list(issued.map(|issued| issued.uses.hours.as_slice()), now)
        }),
        ("addresses", |issued, now| {
            let addresses = issued.map(|issued| issued.addresses(false));
            list(addresses.as_deref(), now)
        }),
        ("refused_uses", |issued, now| {
            issued.map_or(Value::Null, |issued| issued.refused_uses(now))
        }),
        ("never_shown", |issued, _| {
            json!(issued.is_some_and(|issued| issued.is_never_shown))
        }),
    ];

    /// `None` for a token of another source.
    pub async fn load(tx: &mut Tx, id: TokenId) -> store::Result<Option<Self>> {
        let Some(credential) = tx.find_credentials(&[id]).await?.pop() else {
            return Ok(None);
        };
        let old = credential.old_secret.as_ref();
        let old = old.map(|old| SecretRow::new(&old.secret, Some(old.valid_until)));
        let current = SecretRow::new(&credential.secret, credential.expires_at);
        Ok(Some(Self {
            secrets: std::iter::once(current).chain(old).collect(),
            uses: tx.load_uses(id).await?,
            is_never_shown: tx.is_never_shown(id).await?,
            credential,
        }))
    }

    pub fn kind(&self) -> String {
        self.credential.kind.as_str().to_owned()
    }

    pub fn networks(&self) -> Networks {
        self.credential.networks.clone()
    }

    fn addresses(&self, is_refused: bool) -> Vec<AddressUse> {
        let addresses = self.uses.addresses.iter();
        addresses
            .filter(|address| address.is_refused == is_refused)
            .cloned()
            .collect()
    }

    /// Uses of the right secret at a time or from a place where it did not work.
    fn refused_uses(&self, now: DateTime<Utc>) -> Value {
        let addresses = self.addresses(true);
        let last_at = addresses.iter().map(|address| address.last_at).max();
        json!({
            "count": self.refused(),
            "last_at": rfc3339(last_at),
            "addresses": objects(&addresses, now),
        })
    }

    fn refused(&self) -> i64 {
        self.uses.hours.iter().map(|hour| hour.refused).sum()
    }

    pub fn write_to(&self, sheet: &mut Sheet) {
        let view = sheet.view();
        let networks = network_list(&self.credential.networks);
        sheet.fields([
            ("kind", Cell::new(self.credential.kind.as_str())),
            ("networks", Cell::list(networks)),
            ("works from", Cell::when(self.credential.not_before, &view)),
        ]);
        sheet.section("Secrets");
        sheet.table(&self.secrets, &[]);
        if self.is_never_shown {
            let number = self.credential.secret.number;
            sheet.text(&format!(
                "Secret {number} was never shown, as far as lapsed knows. If nobody has it: `lapsed token regenerate`."
            ));
        }
        sheet.section("Use");
        let accepted: i64 = self.uses.hours.iter().map(|hour| hour.ok).sum();
        let count = |count: i64, noun| quantity(u64::try_from(count).unwrap_or(0), noun);
        sheet.text(&format!(
            "{} and {} with the right secret in the last 30 days",
            count(accepted, "use"),
            count(self.refused(), "refused use")
        ));
        let hours = &self.uses.hours;
        let latest = &hours[hours.len().saturating_sub(SHOWN_HOURS)..];
        if !latest.is_empty() {
            sheet.table(latest, &[]);
        }
        if !self.uses.addresses.is_empty() {
            sheet.table(&self.uses.addresses, &[]);
        }
    }
}

/// Each network as a text.
pub(super) fn network_list(networks: &Networks) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

fn list<R: Row>(rows: Option<&[R]>, now: DateTime<Utc>) -> Value {
    json!(objects(rows.unwrap_or_default(), now))
}

struct SecretRow {
    number: u32,
    created_at: DateTime<Utc>,
    valid_until: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl SecretRow {
    fn new(secret: &StoredSecret, valid_until: Option<DateTime<Utc>>) -> Self {
        Self {
            number: secret.number,
            created_at: secret.created_at,
            valid_until,
            last_used_at: secret.last_used_at,
        }
    }
}

impl Row for SecretRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("number", |row, _| json!(row.number)),
        ("created_at", |row, _| rfc3339(row.created_at)),
        ("valid_until", |row, _| rfc3339(row.valid_until)),
        ("last_used_at", |row, _| rfc3339(row.last_used_at)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("NUMBER", 0, |row, _| Cell::new(row.number)),
        Column::fixed("CREATED", 2, |row, view| Cell::when(row.created_at, view)),
        Column::fixed("VALID UNTIL", 0, |row, view| {
            Cell::when(row.valid_until, view)
        }),
        Column::fixed("LAST USED", 1, |row, view| {
            Cell::when(row.last_used_at, view)
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no secrets";
}

impl Row for AddressUse {
    const FIELDS: &'static [Field<Self>] = &[
        ("address", |row, _| json!(row.address)),
        ("first_at", |row, _| rfc3339(row.first_at)),
        ("last_at", |row, _| rfc3339(row.last_at)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("ADDRESS", 0, |row, _| Cell::new(row.address)),
        Column::fixed("OUTCOME", 0, |row, _| {
            Cell::new(if row.is_refused {
                "refused"
            } else {
                "accepted"
            })
        }),
        Column::fixed("FIRST", 2, |row, view| Cell::when(row.first_at, view)),
        Column::fixed("LAST", 1, |row, view| Cell::when(row.last_at, view)),
    ];
    const EMPTY_MESSAGE: &'static str = "no addresses";
}

impl Row for HourOfUse {
    const FIELDS: &'static [Field<Self>] = &[
        ("hour", |row, _| rfc3339(row.hour)),
        ("ok", |row, _| json!(row.ok)),
        ("refused", |row, _| json!(row.refused)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("HOUR", 0, |row, view| Cell::when(row.hour, view)),
        Column::fixed("OK", 0, |row, _| Cell::new(row.ok)),
        Column::fixed("REFUSED", 0, |row, _| Cell::new(row.refused)),
    ];
    const EMPTY_MESSAGE: &'static str = "no uses";
}
