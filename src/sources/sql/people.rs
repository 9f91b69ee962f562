//! The people of a source, among whom the issuers of its tokens are looked for.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::domain::{Address, Cell, Listed};
use crate::sources::database::{Reading, Record};
use crate::sources::rows::{Columns, Value};
use crate::sources::{AccountAdmin, Error, Refusals};

use super::columns::Shape;
use super::statement::Statement;
use super::{Dialect, content, refusal};

const COLUMNS: Columns<5> = Columns {
    names: ["email", "account", "role", "name", "status"],
    required: &["email"],
};

/// The people of a source.
#[derive(Default)]
pub(super) struct People {
    /// By the key of their address.
    known: HashMap<String, Person>,
    /// Administrators of accounts, where the query tells account and role.
    admins: Option<Vec<AccountAdmin>>,
    /// Rows were refused, so that who is not known may be there all the same.
    has_gaps: bool,
}

struct Person {
    name: Option<String>,
    standing: Standing,
}

/// Whether a person is still there. Of several rows for one person the best counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Deleted,
    Disabled,
    Active,
}

impl People {
    /// Asks for all of them.
    ///
    /// # Errors
    /// When the answer does not come whole, or holds nobody: then every token would be an orphan.
    pub async fn read(
        reading: &mut Reading<'_>,
        query: &Statement,
        refusals: &mut Refusals,
    ) -> Result<Self, Error> {
        let mut people = Self::default();
        let mut shape: Option<Shape<5>> = None;
        let mut line = 0;
        reading
            .records(&query.text, &[], |record| {
                line += 1;
                let shape = match &mut shape {
                    Some(shape) => shape,
                    none => none.insert(shape_of(&record.columns())?),
                };
                if let Err(reason) = people.add(shape, record) {
                    people.has_gaps = true;
                    refusals.add(refusal("people_query", line, reason));
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        if shape.is_none() {
            shape_of(&reading.columns_of(&query.text, &[]).await?)?;
        }
        if people.known.is_empty() {
            let reason = "gives nobody, which would make an orphan of every token; correct it, or leave it out";
            return Err(content("people_query", reason));
        }
        Ok(people)
    }

    fn add(&mut self, shape: &Shape<5>, record: Record<'_>) -> Result<(), String> {
        let [email, account, role, name, status] = shape.values(record)?;
        // Who has no address has issued none of the tokens that we know by address.
        let Cell::Value(address) = email.into_address("email")? else {
            return Ok(());
        };
        let standing = status.parse("status", standing)?.over(None);
        let standing = standing.unwrap_or(Standing::Active);
        let name = name.into_text("name")?.over(None);
        self.note_admin(&address, (account, role), standing, shape)?;
        let person = Person { name, standing };
        self.known
            .entry(address.key().to_owned())
            .and_modify(|known| known.standing = known.standing.max(standing))
            .or_insert(person);
        Ok(())
    }

    fn note_admin(
        &mut self,
        address: &Address,
        (account, role): (Value, Value),
        standing: Standing,
        shape: &Shape<5>,
    ) -> Result<(), String> {
        if !(shape.has("account") && shape.has("role")) {
            return Ok(());
        }
        let admins = self.admins.get_or_insert_default();
        let role = role.into_text("role")?.over(None).unwrap_or_default();
        let account = account.into_text("account")?.over(None);
        if let Some(account) = account
            && role.eq_ignore_ascii_case("admin")
            && standing == Standing::Active
        {
            let address = address.clone();
            admins.push(AccountAdmin { account, address });
        }
        Ok(())
    }

    /// All administrators of accounts. Where a row was refused nobody knows who is missing among them.
    pub fn into_admins(self) -> Option<Vec<AccountAdmin>> {
        self.admins.filter(|_| !self.has_gaps)
    }

    /// Adds to a token what is known of its issuer. A refused row may be the issuer's, and the one that
    /// shows that all is well: then nothing is said but of those who are active.
    pub fn look_for_issuer(&self, token: &mut Listed) {
        let issuer = match &token.issuer {
            Cell::Absent => return,
            Cell::Empty => {
                token.issuer_gone = Cell::Empty;
                return;
            }
            Cell::Value(issuer) => self.known.get(issuer.key()),
        };
        let gone = match issuer.map(|person| person.standing) {
            None => Some("the issuer is not among the people of the source"),
            Some(Standing::Deleted) => Some("the issuer is deleted at the source"),
            Some(Standing::Disabled) => Some("the issuer is disabled at the source"),
            Some(Standing::Active) => None,
        };
        token.issuer_gone = match gone {
            Some(_) if self.has_gaps => Cell::Absent,
            Some(gone) => Cell::Value(gone.to_owned()),
            None => Cell::Empty,
        };
        if let Some(name) = issuer.and_then(|person| person.name.as_ref())
            && token.issuer_name == Cell::Absent
        {
            token.issuer_name = Cell::Value(name.clone());
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

/// No column of people is a date, so that it does not matter which database it is.
fn shape_of(names: &[String]) -> Result<Shape<5>, Error> {
    Shape::of("people_query", &COLUMNS, names, Dialect::Postgres)
}

fn standing(text: &str) -> Result<Standing, String> {
    match text.to_ascii_lowercase().as_str() {
        "active" => Ok(Standing::Active),
        "disabled" => Ok(Standing::Disabled),
        "deleted" => Ok(Standing::Deleted),
        _ => Err("is no status; write active, disabled or deleted".to_owned()),
    }
}
