//! Collects the people of a listing: the issuers by filters, or everyone from the list. Neither is taken at its word:
//! some servers find no one by a filter that they do not support, and others cut the list off after a page.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use reqwest::StatusCode;

use super::api::{
    Api, EMAILS, FIELDS, FIELDS_AND_GROUPS, ListQuery, Provider, USERS, explain_refusal,
    users_query,
};
use super::groups::AllowedGroups;
use super::memory::Memory;
use super::pages::{self, Pages};
use super::resources::User;
use crate::directories::account::doubt_absence_from_groups;
use crate::directories::json::{Flag, without_id_note};
use crate::directories::{
    Extent, MAX_ADDRESS_QUERIES, PeopleListing, PeopleQuery, PersonSink, eq_filter,
};
use crate::domain::{Address, Person};
use crate::upstream::Error;

/// How many people who are missing from a list are asked for one by one in a listing.
const MAX_ASKED: usize = 200;

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
    /// The people of the query who were found, by [`Address::key`].
    found: HashSet<String>,
    /// The people of the query whom the filters did not find.
    not_filtered: Vec<Address>,
    gaps: Vec<String>,
}

/// What filters find by an address.
struct Found {
    users: Vec<User>,
    /// Whether there is no other user. Some servers filter by sign-in names only.
    is_complete: bool,
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
            found: HashSet::new(),
            not_filtered: Vec::new(),
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
            let found = self.find(address).await?;
            let Some(found) = found.filter(|found| found.is_complete) else {
                return Ok(None);
            };
            if found.users.is_empty() && is_real(address) {
                self.not_filtered.push(address.clone());
            }
            for user in found.users {
                if users.iter().all(|known| known.id != user.id) {
                    users.push(user);
                }
            }
        }
        let is_checked = |address| self.memory.is_fresh(address, self.now);
        if users.is_empty() || !self.not_filtered.iter().all(is_checked) {
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
        let mut users = Vec::new();
        for attribute in ["userName", EMAILS] {
            let query = ListQuery {
                filter: Some(eq_filter(attribute, address.as_str())),
                ..users_query(Some(self.fields()))
            };
            let is_match = |user: &User| user.has_address(address);
            let found = match pages::find(self.api, self.provider, query, is_match).await {
                // Some servers answer so to a filter that they do not support.
                Err(error)
                    if attribute == EMAILS
                        && error.status() == Some(StatusCode::INTERNAL_SERVER_ERROR) =>
                {
                    None
                }
                found => found?,
            };
            match found {
                Some(found) => users.extend(found),
                None if attribute == EMAILS => {
                    let is_complete = !users.is_empty();
                    return Ok(Some(Found { users, is_complete }));
                }
                None => return Ok(None),
            }
        }
        Ok(Some(Found {
            users,
            is_complete: true,
        }))
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

    /// Compares what the filters did not find with the whole list.
    fn compare_filters(&mut self) {
        for address in std::mem::take(&mut self.not_filtered) {
            if self.found.contains(address.key()) {
                self.memory.distrust_filters(self.now);
            } else {
                self.memory.remember(&address, Vec::new(), self.now);
            }
        }
    }

    /// Asks for people who are not in a list of one page, which may be cut off.
    async fn ask_for_missing(&mut self, is_page_full: bool) -> Result<(), Error> {
        let people = self.people;
        let mut missing: Vec<&Address> = people
            .iter()
            .filter(|person| !self.found.contains(person.key()) && is_real(person))
            .collect();
        // Those who were never asked for come first, then those who were longest ago.
        missing.sort_by_key(|person| self.memory.asked(person).map(|asked| asked.at));
        let listed = self.passed_on.len();
        let (mut asked, mut left, mut works) = (0, 0, true);
        for person in missing {
            if !self.memory.is_fresh(person, self.now) {
                let found = if works && asked < MAX_ASKED {
                    asked += 1;
                    self.find(person).await?
                } else {
                    None
                };
                works &= found.is_some() || asked == MAX_ASKED;
                if let Some(found) = found.filter(|found| found.is_complete) {
                    let ids = found.users.iter().map(|user| user.id.clone()).collect();
                    self.memory.remember(person, ids, self.now);
                    self.add(&found.users);
                    continue;
                }
                left += 1;
            }
            self.add_remembered(person).await?;
        }
        if left > 0 && (is_page_full || (works && asked > 0)) {
            let advice = if works {
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

    /// Adds users who were found by an earlier request for this person.
    async fn add_remembered(&mut self, person: &Address) -> Result<(), Error> {
        let asked = self.memory.asked(person);
        let ids = asked.map(|asked| asked.ids.clone()).unwrap_or_default();
        for id in ids {
            match self.api.fetch::<User>(USERS, &id).await {
                Ok(user) if user.id == id => self.add(&[user]),
                Ok(_) => {}
                // If they are gone, a look-up by id says so.
                Err(error) if error.has_status(&NOT_SHOWN) => {}
                Err(error) => return Err(explain_refusal(error, USERS)),
            }
        }
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
                    self.found.insert(address.key().to_owned());
                }
            }
            if person.shows_an_address() {
                (self.sink)(person);
            }
        }
    }
}

/// Whether the address can be someone's: the top-level domain `invalid` is reserved (RFC 2606).
fn is_real(address: &Address) -> bool {
    !address.key().ends_with(".invalid")
}
