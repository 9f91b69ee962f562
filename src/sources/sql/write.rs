//! What lapsed may be told to write: that a token has expired, and that one is to end.

use chrono::DateTime;

use crate::domain::{Address, Cell, Expiry, Listed, Status, Token};
use crate::sources::database::{self, Scalar, Writing};
use crate::sources::{Error, Told};

use super::columns::Shape;
use super::statement::Statement;
use super::{ControlFlow, SqlSource, content};

/// What `mark_expired` may ask for.
pub(super) const OF_A_TOKEN: [&str; 9] = [
    "external_id",
    "name",
    "expires_at",
    "issuer_email",
    "issuer_name",
    "description",
    "account",
    "role",
    "scope",
];

/// Where the external id is among those, as it is among the one parameter of `revoke`.
const ID: usize = 0;

/// What to do where tokens are to be ended and there is no statement for it.
pub(super) const NO_REVOKE: &str =
    "set revoke, such as revoke = \"UPDATE … WHERE id = :external_id\"";

impl SqlSource {
    /// Runs `mark_expired` for each of the tokens, each in a transaction of its own.
    pub(super) async fn mark(&self, tokens: &[Token]) -> Told {
        let Some(statement) = &self.mark_expired else {
            return Told::default();
        };
        let mut writing = match self.database.write().await {
            Ok(writing) => writing,
            Err(error) => return error.into(),
        };
        let mut told = Told::default();
        for token in tokens {
            let values = values_of(statement, token);
            match run(&mut writing, statement, values, |_| true).await {
                Ok(_) => told.done.push(token.id),
                Err(error) => {
                    let is_away = error.is_transient();
                    told.error.get_or_insert(error.into());
                    if is_away {
                        break;
                    }
                    told.failed.push(token.id);
                }
            }
        }
        writing.close().await;
        told
    }

    /// Runs `revoke` for a token, and looks whether it has ended.
    pub(super) async fn end(&self, external_id: &str) -> Result<(), Error> {
        let Some(statement) = &self.revoke else {
            return Err(Error::Rights {
                what: "the source has no statement that ends a token".to_owned(),
                mend: NO_REVOKE.to_owned(),
            });
        };
        let no_such = || Error::NoSuchToken(external_id.to_owned());
        let before = self.find(external_id).await;
        let before = before.map_err(Error::not_asked)?.ok_or_else(no_such)?;
        if before.status == Cell::Value(Status::Revoked) {
            return Err(no_such());
        }
        let id = |_| Scalar::Text(external_id.to_owned());
        let values: Vec<_> = statement.names.iter().map(id).collect();
        let mut writing = self.database.write().await?;
        let affected = run(&mut writing, statement, values, |affected| affected == 1).await?;
        writing.close().await;
        if affected != 1 {
            let reason = format!(
                "would change {affected} rows where it should change one; nothing was changed"
            );
            return Err(Error::NotDone(Box::new(content("revoke", reason))));
        }
        match self.find(external_id).await {
            Ok(Some(after)) if !has_ended(&before, &after) => Err(Error::StillThere),
            Ok(_) => Ok(()),
            Err(error) => Err(error.unseen()),
        }
    }

    /// The token as the query gives it.
    async fn find(&self, external_id: &str) -> Result<Option<Listed>, Error> {
        let place = self.query.names.len() + 1;
        let sign = if self.database.is_sqlite() { '?' } else { '$' };
        let query = format!(
            "SELECT * FROM (\n{}\n) AS listed WHERE CAST(listed.external_id AS TEXT) = {sign}{place}",
            self.query.text
        );
        let mut values = self.values(DateTime::UNIX_EPOCH);
        values.push(Scalar::Text(external_id.to_owned()));
        let mut found = None;
        let mut reading = self.read().await?;
        reading
            .records(&query, &values, |record| {
                let shape = Shape::of_tokens(&record.columns(), self.dialect)?;
                let token = shape.token(record);
                found = Some(token.map_err(|reason| content("query", reason))?);
                Ok(ControlFlow::Break(()))
            })
            .await?;
        reading.close().await;
        Ok(found)
    }
}

/// Runs a statement, and once more where it found nothing because SQLite, which compares as the column is
/// declared, takes no text for the number that stands in one without a type.
async fn run(
    writing: &mut Writing<'_>,
    statement: &Statement,
    mut values: Vec<Scalar>,
    is_right: fn(u64) -> bool,
) -> Result<u64, database::Error> {
    let affected = writing.execute(&statement.text, &values, is_right).await?;
    if affected > 0 || !writing.is_sqlite() {
        return Ok(affected);
    }
    let id = statement.names.iter().position(|index| *index == ID);
    let Some(id) = id.and_then(|place| values.get_mut(place)) else {
        return Ok(affected);
    };
    match number(id) {
        Some(number) => *id = Scalar::Integer(number),
        None => return Ok(affected),
    }
    writing.execute(&statement.text, &values, is_right).await
}

/// The number that is written as this text.
fn number(id: &Scalar) -> Option<i64> {
    let Scalar::Text(text) = id else { return None };
    let number: i64 = text.parse().ok()?;
    (number.to_string() == *text).then_some(number)
}

/// Whether a token that is listed still works no longer: it says so, or was given an end, or an earlier one.
fn has_ended(before: &Listed, after: &Listed) -> bool {
    let is_off = matches!(
        after.status,
        Cell::Value(Status::Revoked | Status::Disabled)
    );
    let ends = |token: &Listed| match token.expiry {
        Cell::Value(Expiry::At(at)) => Some(at),
        _ => None,
    };
    is_off
        || match (ends(before), ends(after)) {
            (Some(before), Some(after)) => after < before,
            (None, Some(_)) => true,
            (_, None) => false,
        }
}

fn values_of(statement: &Statement, token: &Token) -> Vec<Scalar> {
    let text = |text: &Option<String>| text.clone().map_or(Scalar::Null, Scalar::Text);
    let value = |index: &usize| match OF_A_TOKEN[*index] {
        "external_id" => Scalar::Text(token.external_id.clone()),
        "name" => Scalar::Text(token.name.clone()),
        "expires_at" => token.expiry.at().map_or(Scalar::Null, Scalar::Instant),
        "issuer_email" => {
            let issuer = token.issuer.as_ref().map(Address::as_str);
            text(&issuer.map(str::to_owned))
        }
        "issuer_name" => text(&token.issuer_name),
        "description" => text(&token.description),
        "account" => text(&token.account),
        "role" => text(&token.role),
        _ => text(&token.scope),
    };
    statement.names.iter().map(value).collect()
}

impl From<database::Error> for Told {
    fn from(error: database::Error) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::default()
        }
    }
}
