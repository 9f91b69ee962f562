//! `lapsed preference`: how a person wants to be notified.

use std::io;

use chrono::NaiveTime;
use chrono_tz::Tz;
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};

use super::Context;
use super::args::{PreferenceCommand, PreferenceSet};
use super::exit::{Exit, Failure, Result};
use super::output::{Cell, Sheet, SheetItem, View, print_item, print_line};
use super::service::{operator, with_service};
use super::setup::{self, Mode};
use crate::domain::{Preference, Step};
use crate::service::preferences::PreferenceChange;

pub(super) async fn preference(context: &Context, command: PreferenceCommand) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    match command {
        PreferenceCommand::Get(args) => {
            let preference = with_service(context, &config, Mode::Read, async |service| {
                Ok(service.find_preference(&operator(), &args.address).await?)
            })
            .await?;
            let view = View::for_stdout(context.clock.now(), config.policy.zone);
            let shown = Shown(preference);
            print_item(args.options.format, view, io::stdout(), &shown)?;
            Ok(Exit::Ok)
        }
        PreferenceCommand::Set(args) => {
            let change = parse_change(&args)?;
            with_service(context, &config, Mode::Normal, async |service| {
                let actor = operator();
                let set = service.set_preference(&actor, &args.address, None, &change);
                Ok(set.await?)
            })
            .await?;
            let (address, key) = (&args.address, &args.key);
            let value = match args.value.trim() {
                "" => "none",
                value => value,
            };
            print_line(&format!("{key} of {address} is {value}"))?;
            Ok(Exit::Ok)
        }
    }
}

fn parse_change(args: &PreferenceSet) -> Result<PreferenceChange> {
    let none = PreferenceChange::default();
    let value = (args.value != "default").then_some(args.value.as_str());
    let change = match args.key.as_str() {
        "steps" => value
            .map(parse_steps)
            .transpose()
            .map(|steps| PreferenceChange {
                steps: Some(steps),
                ..none
            }),
        "channel" => parse_value(value, "mail or account").map(|channel| PreferenceChange {
            channel: Some(channel),
            ..none
        }),
        "timezone" => parse_value(value, "UTC or Europe/Berlin").map(|zone| PreferenceChange {
            timezone: Some(zone),
            ..none
        }),
        "digest_at" => value
            .map(parse_time)
            .transpose()
            .map(|time| PreferenceChange {
                digest_at: Some(time),
                ..none
            }),
        _ => Ok(PreferenceChange {
            language: Some(value.map(str::to_owned)),
            ..none
        }),
    };
    change.map_err(|hint| {
        let error = anyhow::anyhow!("{:?} is not a value of {}", args.value, args.key);
        let hint = format!("write {hint}, or default");
        Failure::usage(error).hint(hint).into()
    })
}

type Hint = &'static str;

fn parse_value<T: std::str::FromStr>(value: Option<&str>, hint: Hint) -> Result<Option<T>, Hint> {
    value.map(str::parse).transpose().map_err(|_| hint)
}

/// Separated by commas; an empty text is none.
fn parse_steps(text: &str) -> Result<Vec<Step>, Hint> {
    let steps = text.split(',').map(str::trim);
    let steps = steps.filter(|step| !step.is_empty()).map(str::parse);
    steps.collect::<Result<_, _>>().map_err(|_| "30d,7d,1d")
}

fn parse_time(text: &str) -> Result<NaiveTime, Hint> {
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| "09:00")
}

/// The preferences of a person.
struct Shown(Preference);

impl Shown {
    fn fields(&self) -> [(&'static str, Value); 6] {
        let Self(preference) = self;
        let steps = preference.steps.as_ref();
        let steps = steps.map(|steps| steps.iter().map(Step::to_string).collect::<Vec<_>>());
        let time = preference.digest_at;
        [
            ("address", json!(preference.address)),
            ("steps", json!(steps)),
            ("channel", json!(preference.channel)),
            ("language", json!(preference.language)),
            ("timezone", json!(preference.timezone.map(Tz::name))),
            (
                "digest_at",
                json!(time.map(|time| time.format("%H:%M").to_string())),
            ),
        ]
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields())
    }
}

impl SheetItem for Shown {
    fn keys() -> Vec<&'static str> {
        let keys = super::args::PREFERENCES;
        std::iter::once("address").chain(keys).collect()
    }

    fn write_to(&self, sheet: &mut Sheet) {
        sheet.section(self.0.address.as_str());
        for (key, value) in self.fields().into_iter().skip(1) {
            let text = match value {
                Value::Null => None,
                Value::Array(items) if items.is_empty() => Some("none".to_owned()),
                Value::Array(items) => {
                    let items = items.iter().filter_map(Value::as_str);
                    Some(items.collect::<Vec<_>>().join(", "))
                }
                value => value.as_str().map(str::to_owned),
            };
            sheet.field(key, Cell::new(text.unwrap_or("as configured".to_owned())));
        }
    }
}
