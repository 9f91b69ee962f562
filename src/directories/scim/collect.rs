//! Collects the people of a listing: the issuers by filters, or everyone from the list. Neither is taken at its word:
//! some servers find no one by a filter that they do not support, and others cut the list off after a page.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::StatusCode;

use super::api::{
    Api, EMAILS, FIELDS, FIELDS_AND_GROUPS, ListQuery, Provider, USERS, explain_refusal,
    users_query,
};
use super::groups::AllowedGroups;
use super::memory::{Asked, LIFETIME, Memory};
use super::pages::{self, Pages};
use super::resources::User;
use crate::directories::account::doubt_absence_from_groups;
use crate::directories::json::{Flag, without_id_note};
use crate::directories::{
    Extent, MAX_ADDRESS_QUERIES, PeopleListing, PeopleQuery, PersonSink, eq_filter,
};
use crate::domain::{Address, Person};
use crate::upstream::{Error, http};

/// How many people who are missing from a list are asked for one by one in a listing.
const MAX_ASKED: usize = 200;

/// How many users are read by their ids in a listing.
const MAX_READ: usize = 200;

const MAX_CONCURRENT_READS: usize = 8;

/// Responses to the id of a user whom the token may not see, or who is gone.
const NOT_SHOWN: [StatusCode; 3] = [
    StatusCode::NOT_FOUND,
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
];

pub(super) struct Collector<'a, 't> {
    api: &'a Api,
    provider: Provider,
    allowed: AllowedGroups,
    people: &'a [Address],
    /// Their [`Address::key`]s.
    wanted: HashSet<&'a str>,
    sink: &'a mut PersonSink<'t>,
    memory: Memory,
    now: DateTime<Utc>,
    /// Ids of the users that were passed on.
    passed_on: HashSet<String>,
    /// Ids of the users who were passed on, by the [`Address::key`]s of the people of the query.
    found: HashMap<String, Vec<String>>,
    /// The people of the query whom the server did not find by their mailbox, with what it found by sign-in name.
    unconfirmed: Vec<(Address, Asked)>,
    /// [`PeopleListing::unread`].
    unread: BTreeSet<String>,
    gaps: Vec<String>,
}

/// What filters find by an address.
struct Found {
    users: Vec<User>,
    /// How many of them it found by mailbox; `None` if the server filters by sign-in names only.
    by_mailbox: Option<usize>,
}

impl Found {
    fn has_mailboxes(&self) -> bool {
        self.by_mailbox.is_some_and(|count| count > 0)
    }

    fn to_asked(&self, now: DateTime<Utc>) -> Asked {
        let ids = self.users.iter().map(|user| user.id.clone());
        Asked::new(now, ids.collect(), self.by_mailbox.is_none())
    }
}

/// What a request by id shows.
enum ById {
    Shown(Box<User>),
    NotShown,
    Unclear,
}

impl<'a, 't> Collector<'a, 't> {
    pub fn new(
        api: &'a Api,
        provider: Provider,
        allowed: AllowedGroups,
        query: &PeopleQuery<'a>,
        now: DateTime<Utc>,
        sink: &'a mut PersonSink<'t>,
    ) -> Self {
        let wanted: HashSet<&str> = query.people.iter().map(Address::key).collect();
        Self {
            api,
            provider,
            allowed,
            people: query.people,
            memory: Memory::parse(query.last_cursor, &wanted, now),
            wanted,
            sink,
            now,
            passed_on: HashSet::new(),
            found: HashMap::new(),
            unconfirmed: Vec::new(),
            unread: BTreeSet::new(),
            gaps: Vec::new(),
        }
    }

    pub async fn collect(mut self) -> Result<PeopleListing, Error> {
        let extent = if let Some(users) = self.find_everyone().await? {
            self.add(&users);
            Extent::Requested
        } else {
            self.list_everyone().await?;
            Extent::Everybody
        };
        Ok(PeopleListing {
            extent,
            groups: self.allowed.finish()?,
            cursor: self.memory.to_text(),
            unread: self.unread,
            gaps: (!self.gaps.is_empty()).then(|| self.gaps.join("; ")),
            ..PeopleListing::default()
        })
    }

    /// Looks up each person by filters; `None` if all users must be listed instead, because there are too many
    /// people, or the filters do not work or have not been compared with the list.
    async fn find_everyone(&mut self) -> Result<Option<Vec<User>>, Error> {
        let is_few = (1..=MAX_ADDRESS_QUERIES).contains(&self.people.len());
        let is_usable = self.provider.supports_filters && self.memory.trusts_filters(self.now);
        if !is_few || !is_usable || matches!(self.allowed, AllowedGroups::FromUsers(_)) {
            return Ok(None);
        }
        let mut users: Vec<User> = Vec::new();
        let people = self.people;
        for address in people {
            let Some(found) = self.find(address).await? else {
                return Ok(None);
            };
            // Some servers find no one by a mailbox, so another user may have it.
            if !found.has_mailboxes() && is_real(address) {
                self.unconfirmed
                    .push((address.clone(), found.to_asked(self.now)));
            }
            for user in found.users {
                if users.iter().all(|known| known.id != user.id) {
                    users.push(user);
                }
            }
        }
        let is_confirmed = |(address, found): &(Address, Asked)| {
            let before = self.memory.asked(address);
            self.memory.is_fresh(address, self.now)
                && before.is_some_and(|before| before.ids == found.ids)
        };
        if users.is_empty() || !self.unconfirmed.iter().all(is_confirmed) {
            return Ok(None);
        }
        let lacks_active = users.iter().any(|user| user.active == Flag::Missing);
        for user in &users {
            self.allowed.count_member(user);
        }
        if lacks_active || self.allowed.is_inconclusive() {
            return Ok(None);
        }
        Ok(Some(users))
    }

    /// Users with this mailbox or sign-in name; `None` if filters do not work. Both are asked for, because one
    /// person's sign-in name may be the mailbox of a second account.
    async fn find(&mut self, address: &Address) -> Result<Option<Found>, Error> {
        let Some(mut users) = self.filter("userName", address).await? else {
            return Ok(None);
        };
        let with_mailbox = match self.filter(EMAILS, address).await {
            // Some servers answer so to a filter that they do not support.
            Err(error) if error.status() == Some(StatusCode::INTERNAL_SERVER_ERROR) => None,
            found => found?,
        };
        let by_mailbox = with_mailbox.as_ref().map(Vec::len);
        users.extend(with_mailbox.into_iter().flatten());
        Ok(Some(Found { users, by_mailbox }))
    }

    async fn filter(
        &mut self,
        attribute: &str,
        address: &Address,
    ) -> Result<Option<Vec<User>>, Error> {
        let query = ListQuery {
            filter: Some(eq_filter(attribute, address.as_str())),
            ..users_query(Some(self.fields()))
        };
        let is_match = |user: &User| user.has_address(address);
        pages::find(self.api, self.provider, query, is_match).await
    }

    fn fields(&self) -> &'static str {
        match self.allowed {
            AllowedGroups::FromUsers(_) => FIELDS_AND_GROUPS,
            _ => FIELDS,
        }
    }

    async fn list_everyone(&mut self) -> Result<(), Error> {
        let failed = |error| explain_refusal(error, USERS);
        let mut pages = Pages::new(self.api, self.provider, users_query(Some(self.fields())));
        let mut page = pages.next::<User>().await.map_err(failed)?;
        if pages.selects_fields()
            && let Some(users) = &page
            && users.iter().all(|user| user.active == Flag::Missing)
        {
            // The server may not support the selection of fields.
            pages = Pages::new(self.api, self.provider, users_query(None));
            page = pages.next().await.map_err(failed)?;
        }
        while let Some(users) = page {
            self.add(&users);
            page = pages.next().await.map_err(failed)?;
        }
        self.gaps.extend(pages.shortfall.take());
        self.gaps.extend(without_id_note(pages.without_id()));
        self.compare_filters();
        // An empty list is an error of its own.
        if pages.is_one_page() && !self.passed_on.is_empty() {
            self.ask_for_missing(pages.is_page_full()).await?;
        }
        Ok(())
    }

    /// Compares what the filters found with the whole list.
    fn compare_filters(&mut self) {
        for (address, asked) in std::mem::take(&mut self.unconfirmed) {
            let mut listed = self.found.get(address.key()).into_iter().flatten();
            if listed.any(|id| !asked.ids.contains(id)) {
                self.memory.distrust_filters(self.now);
            } else {
                self.memory.remember(&address, asked);
            }
        }
    }

    /// Asks for people who are not in a list of one page, which may be cut off.
    async fn ask_for_missing(&mut self, is_page_full: bool) -> Result<(), Error> {
        let people = self.people;
        let mut missing: Vec<&Address> = people
            .iter()
            .filter(|person| !self.found.contains_key(person.key()) && is_real(person))
            .collect();
        // Those who were never asked for come first, then those who were longest ago.
        missing.sort_by_key(|person| self.memory.asked(person).map(|asked| asked.at));
        let listed = self.passed_on.len();
        let (mut asked, mut works) = (0, true);
        let (mut unasked, mut by_id) = (Vec::new(), Vec::new());
        for person in &missing {
            if self.memory.is_fresh(person, self.now) {
                by_id.push(*person);
                continue;
            }
            let found = if works && asked < MAX_ASKED {
                asked += 1;
                self.find(person).await?
            } else {
                None
            };
            works &= found.is_some() || asked == MAX_ASKED;
            if let Some(found) = found {
                self.memory.remember(person, found.to_asked(self.now));
                self.add(&found.users);
            } else {
                unasked.push(*person);
                by_id.push(*person);
            }
        }
        if works {
            // A later sync asks for them.
            let keys = unasked.iter().map(|person| person.key().to_owned());
            self.unread.extend(keys);
        }
        self.add_remembered(by_id).await?;
        let unclear = missing
            .iter()
            .filter_map(|person| self.memory.asked(person))
            .filter(|asked| asked.is_unclear() && self.now - asked.at < LIFETIME)
            .count();
        let left = unasked.len() + unclear;
        if left > 0 && (is_page_full || (works && asked > 0)) {
            let advice = if works && !unasked.is_empty() {
                format!("{MAX_ASKED} of them are asked for in each sync")
            } else {
                "the server does not find them by a filter either".to_owned()
            };
            self.gaps.push(format!(
                "the list ends after one page of {listed} people, so it may be cut off; {left} issuers of tokens \
                 are not in it, and {advice}"
            ));
        }
        Ok(())
    }

    /// Adds users who were found by earlier requests for these people, first those who were not read for longest.
    /// Nothing follows for people who are left for a later sync, or whose user cannot be read.
    async fn add_remembered(&mut self, people: Vec<&Address>) -> Result<(), Error> {
        let asked = people.into_iter().filter_map(|person| {
            let asked = self.memory.asked(person)?;
            (!asked.ids.is_empty()).then(|| (asked.seen_at(), person.clone(), asked.ids.clone()))
        });
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by_key(|(seen_at, ..)| *seen_at);
        let mut requests = Vec::new();
        let mut left = BTreeSet::new();
        for (_, person, ids) in asked {
            self.unread.remove(person.key());
            if requests.len() + ids.len() > MAX_READ {
                left.insert(person.key().to_owned());
            } else {
                requests.extend(ids.into_iter().map(|id| (person.clone(), id)));
            }
        }
        let api = self.api;
        let requests = requests.into_iter().map(|(person, id)| async move {
            let user = read_user(api, &id).await?;
            Ok::<_, Error>((person, user))
        });
        let read: Vec<_> = stream::iter(requests)
            .buffered(MAX_CONCURRENT_READS)
            .try_collect()
            .await?;
        for (person, user) in read {
            self.memory.note_read(&person, self.now);
            match user {
                ById::Shown(user) => self.add(&[*user]),
                // If they are gone, a look-up by id says so.
                ById::NotShown => {}
                ById::Unclear => {
                    left.insert(person.key().to_owned());
                }
            }
        }
        if !left.is_empty() {
            self.gaps.push(format!(
                "{} issuers of tokens are not in the list and were not read by their ids; their status stays as it \
                 was, and a later sync reads them",
                left.len()
            ));
        }
        self.unread.extend(left);
        Ok(())
    }

    fn add(&mut self, users: &[User]) {
        for user in users {
            if !self.passed_on.insert(user.id.clone()) {
                continue;
            }
            let mut person = Person {
                is_member: self.allowed.count_member(user),
                ..user.to_person()
            };
            if self.allowed.has_unidentified_members() {
                doubt_absence_from_groups(&mut person);
            }
            for address in person.addresses() {
                if self.wanted.contains(address.key()) {
                    let ids = self.found.entry(address.key().to_owned()).or_default();
                    ids.push(user.id.clone());
                }
            }
            if person.shows_an_address() {
                (self.sink)(person);
            }
        }
    }
}

/// Reads a user by id. An error that may concern only this user is not one of the server.
async fn read_user(api: &Api, id: &str) -> Result<ById, Error> {
    match api.fetch::<User>(USERS, id).await {
        Ok(user) if user.id == id => Ok(ById::Shown(Box::new(user))),
        Err(error) if error.has_status(&NOT_SHOWN) => Ok(ById::NotShown),
        Err(error)
            if error.status() == Some(StatusCode::UNAUTHORIZED)
                || (error.status().is_none()
                    && !matches!(error, Error::Http(http::Error::Malformed { .. }))) =>
        {
            Err(explain_refusal(error, USERS))
        }
        Ok(_) | Err(_) => Ok(ById::Unclear),
    }
}

/// Whether the address can be someone's: the top-level domain `invalid` is reserved (RFC 2606).
fn is_real(address: &Address) -> bool {
    !address.key().ends_with(".invalid")
}

#[cfg(test)]
mod tests;
