//! Runs the operator's statements that mark expired tokens and revoke tokens.

use chrono::DateTime;

use crate::domain::{Cell, ListedToken, Status, Token};
use crate::sources::{Error, ExpiryAck};
use crate::upstream::database::{self, Scalar, WriteConnection};

use super::statement::Statement;
use super::{ControlFlow, SqlSource};

/// The parameters of `mark_expired`.
pub(super) const TOKEN_PARAMETERS: [&str; 9] = [
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

/// The index of `external_id` in the parameters of `mark_expired` and `revoke`.
const ID_INDEX: usize = 0;

/// What to configure before tokens can be ended.
pub(super) const REVOKE_ADVICE: &str =
    "set revoke, such as revoke = \"UPDATE … WHERE id = :external_id\"";

impl SqlSource {
    pub(super) async fn run_mark_expired(&self, tokens: &[Token]) -> ExpiryAck {
        let Some(statement) = &self.mark_expired else {
            return ExpiryAck::default();
        };
        let mut ack = ExpiryAck::default();
        let mut writing = match self.database.open_for_writing().await {
            Ok(writing) => writing,
            Err(error) => {
                ack.error = Some(error.into());
                return ack;
            }
        };
        for token in tokens {
            let values = parameter_values(statement, token);
            match run(&mut writing, statement, values, |_| true).await {
                Ok(_) => ack.done.push(token.id),
                Err(error) => {
                    let is_away = error.is_transient();
                    ack.error.get_or_insert(error.into());
                    if is_away {
                        break;
                    }
                    ack.failed.push(token.id);
                }
            }
        }
        writing.close().await;
        ack
    }

    /// Runs `revoke` for a token, and verifies that it has ended.
    pub(super) async fn run_revoke(&self, external_id: &str) -> Result<(), Error> {
        let Some(statement) = &self.revoke else {
            let what = "the source has no statement that revokes tokens";
            return Err(Error::rights(what, REVOKE_ADVICE));
        };
        let no_such = || Error::NoSuchToken(external_id.to_owned());
        let before = self.find_token(external_id).await;
        let before = before.map_err(Error::not_attempted)?.ok_or_else(no_such)?;
        if before.status == Cell::Value(Status::Revoked) {
            return Err(no_such());
        }
        let id = |_| Scalar::Text(external_id.to_owned());
        let values: Vec<_> = statement.names.iter().map(id).collect();
        let mut writing = self.database.open_for_writing().await?;
        let affected = run(&mut writing, statement, values, |affected| affected == 1).await?;
        writing.close().await;
        if affected != 1 {
            let reason =
                format!("would change {affected} rows instead of one; nothing was changed");
            return Err(Error::RolledBack(Box::new(Error::content(
                "revoke", reason,
            ))));
        }
        match self.find_token(external_id).await {
            Ok(Some(after)) if !has_ended(&before, &after) => Err(Error::StillThere),
            Ok(_) => Ok(()),
            Err(error) => Err(error.outcome_unknown()),
        }
    }

    /// Reads one token by the query.
    async fn find_token(&self, external_id: &str) -> Result<Option<ListedToken>, Error> {
        let place = self.query.names.len() + 1;
        let sign = self.dialect.placeholder_sign();
        let query = format!(
            "SELECT * FROM (\n{}\n) AS listed WHERE CAST(listed.external_id AS TEXT) = {sign}{place}",
            self.query.text
        );
        let mut found = None;
        let mut reading = self.begin_read().await?;
        let mut values = self.query_values(DateTime::UNIX_EPOCH);
        let columns = self.token_columns(&mut reading, &values).await?;
        values.push(Scalar::Text(external_id.to_owned()));
        reading
            .for_each_record(&query, &values, |record| {
                let token = columns.token(record);
                found = Some(token.map_err(|reason| Error::content("query", reason))?);
                Ok(ControlFlow::Break(()))
            })
            .await?;
        reading.close().await;
        Ok(found)
    }
}

/// Runs a statement. If it affects no rows in SQLite, it is run again with the id as a number, because in a
/// column without a type SQLite finds no number by a text.
async fn run(
    writing: &mut WriteConnection<'_>,
    statement: &Statement,
    mut values: Vec<Scalar>,
    is_right: fn(u64) -> bool,
) -> Result<u64, database::Error> {
    let affected = writing.execute(&statement.text, &values, is_right).await?;
    if affected > 0 || !writing.is_sqlite() {
        return Ok(affected);
    }
    let id = statement.names.iter().position(|index| *index == ID_INDEX);
    let Some(id) = id.and_then(|place| values.get_mut(place)) else {
        return Ok(affected);
    };
    match parse_number(id) {
        Some(number) => *id = Scalar::Integer(number),
        None => return Ok(affected),
    }
    writing.execute(&statement.text, &values, is_right).await
}

/// The number that is written exactly like this text.
fn parse_number(id: &Scalar) -> Option<i64> {
    let Scalar::Text(text) = id else { return None };
    let number: i64 = text.parse().ok()?;
    (number.to_string() == *text).then_some(number)
}

/// Whether a token that is still listed has ended: by its status, or by a new or earlier expiry.
fn has_ended(before: &ListedToken, after: &ListedToken) -> bool {
    let expires_at = |token: &ListedToken| match token.expiry {
        Cell::Value(expiry) => expiry.at(),
        _ => None,
    };
    let is_off = [Status::Revoked, Status::Disabled].map(Cell::Value);
    is_off.contains(&after.status)
        || expires_at(after)
            .is_some_and(|after| expires_at(before).is_none_or(|before| after < before))
}

fn parameter_values(statement: &Statement, token: &Token) -> Vec<Scalar> {
    let text = |text: &Option<String>| text.clone().map_or(Scalar::Null, Scalar::Text);
    let value = |index: &usize| match TOKEN_PARAMETERS[*index] {
        "external_id" => Scalar::Text(token.external_id.clone()),
        "name" => Scalar::Text(token.name.clone()),
        "expires_at" => token.expiry.at().map_or(Scalar::Null, Scalar::Instant),
        "issuer_email" => {
            let issuer = token.issuer.as_ref();
            text(&issuer.map(ToString::to_string))
        }
        "issuer_name" => text(&token.issuer_name),
        "description" => text(&token.description),
        "account" => text(&token.account),
        "role" => text(&token.role),
        _ => text(&token.scope),
    };
    statement.names.iter().map(value).collect()
}
