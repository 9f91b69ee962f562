//! `lapsed preview`: the mails with sample data, printed or as files.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::args::Preview;
use super::exit::{Exit, Failure};
use super::{Context, setup};
use crate::notify::message::{Stationery, Writer};
use crate::notify::sample::{self, Sample};
use crate::notify::template::Templates;
use crate::notify::view::Place;

pub(super) fn preview(context: &Context, args: &Preview) -> anyhow::Result<Exit> {
    let config = setup::config_if_any(context)?;
    let overrides = config
        .as_ref()
        .and_then(|config| config.mail.templates.as_deref());
    let templates = Templates::load(overrides).map_err(Failure::config)?;
    let stationery = match &config {
        Some(config) => setup::stationery(config),
        None => example(),
    };
    let place = stationery.place.clone();
    let wanted = |sample: &Sample| {
        args.template
            .as_deref()
            .is_none_or(|template| sample.letter.kind().as_str() == template)
    };
    let samples: Vec<Sample> = sample::all(context.clock.now())
        .into_iter()
        .filter(wanted)
        .collect();
    let Some(folder) = &args.out else {
        for sample in &samples {
            let rendering = templates.render(&sample.letter, &place)?;
            anstream::println!(
                "==== {} ====\nSubject: {}\n\n{}",
                sample.name,
                rendering.subject,
                rendering.text
            );
        }
        return Ok(Exit::Ok);
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let writer = Writer::new(stationery);
    for sample in &samples {
        let message = writer.write(&sample.letter, &templates)?;
        let rendering = templates.render(&sample.letter, &place)?;
        write(folder, sample.name, "txt", rendering.text.as_bytes())?;
        write(folder, sample.name, "html", rendering.html.as_bytes())?;
        write(folder, sample.name, "eml", &message.bytes)?;
    }
    anstream::println!(
        "{} mails as .txt, .html and .eml in {}",
        samples.len(),
        folder.display()
    );
    Ok(Exit::Ok)
}

/// How mails are signed where nothing is configured yet.
fn example() -> Stationery {
    Stationery {
        from: "API tokens <tokens@example.org>"
            .parse()
            .expect("a literal mailbox"),
        reply_to: None,
        place: Place { base_url: None },
    }
}

fn write(folder: &Path, name: &str, ending: &str, octets: &[u8]) -> anyhow::Result<()> {
    let file = folder.join(format!("{name}.{ending}"));
    fs::write(&file, octets).with_context(|| format!("cannot write {}", file.display()))
}
