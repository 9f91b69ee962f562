//! `lapsed preview` and `lapsed send-test`: shows the mails with sample data, and sends a test mail.

use std::path::Path;

use anyhow::Context as _;

use super::args::{Preview, SendTest};
use super::exit::{Exit, Failure, Result};
use super::{Context, setup};
use crate::engine;
use crate::files::{PRIVATE, create_private_folder, replace};
use crate::notify::fault::Outcome;
use crate::notify::letter::{Entry, Letter};
use crate::notify::message::{MailIdentity, Writer};
use crate::notify::sample::{self, Sample};
use crate::notify::template::Templates;
use crate::notify::view::Installation;

pub(super) fn preview(context: &Context, args: &Preview) -> Result<Exit> {
    let config = setup::load_store_config_if_any(context)?;
    let overrides = config
        .as_ref()
        .and_then(|config| config.mail.templates.as_deref());
    let templates = Templates::load(overrides).map_err(Failure::config)?;
    let mail_identity = match &config {
        Some(config) => config.mail_identity.clone(),
        None => example_identity(),
    };
    let installation = mail_identity.installation.clone();
    let is_wanted = |sample: &Sample| {
        args.template
            .as_deref()
            .is_none_or(|template| sample.letter.kind().as_str() == template)
    };
    let mut samples: Vec<Sample> = sample::all(context.clock.now())
        .into_iter()
        .filter(is_wanted)
        .collect();
    if let Some(language) = &args.language {
        let language = templates.languages().require(language);
        let tag = language.map_err(Failure::usage)?.tag();
        for sample in &mut samples {
            sample.letter.language = Some(tag.clone());
        }
    }
    let Some(folder) = &args.out else {
        for sample in &samples {
            let rendering = templates.render(&sample.letter, &installation)?;
            anstream::println!(
                "==== {} ====\nSubject: {}\n\n{}",
                sample.name,
                rendering.subject,
                rendering.text
            );
        }
        return Ok(Exit::Ok);
    };
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let writer = Writer::new(mail_identity);
    for sample in &samples {
        let message = writer.write(&sample.letter, &templates)?;
        let rendering = templates.render(&sample.letter, &installation)?;
        write_file(folder, sample.name, "txt", rendering.text.as_bytes())?;
        write_file(folder, sample.name, "html", rendering.html.as_bytes())?;
        write_file(folder, sample.name, "eml", &message.bytes)?;
    }
    anstream::println!(
        "{} mails as .txt, .html and .eml in {}",
        samples.len(),
        folder.display()
    );
    Ok(Exit::Ok)
}

/// The mail identity if there is no configuration yet.
fn example_identity() -> MailIdentity {
    MailIdentity {
        from: "API tokens <tokens@example.org>"
            .parse()
            .expect("a literal mailbox"),
        reply_to: None,
        installation: Installation::default(),
    }
}

fn write_file(folder: &Path, name: &str, extension: &str, content: &[u8]) -> anyhow::Result<()> {
    let file = folder.join(format!("{name}.{extension}"));
    replace(&file, content, PRIVATE).with_context(|| format!("cannot write {}", file.display()))
}

pub(super) async fn send_test(context: &Context, args: SendTest) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let mailer = setup::build_mailer(&config)?;
    let now = context.clock.now();
    let letter = Letter {
        reference: engine::new_id(now).simple().to_string(),
        to: args.address.clone(),
        zone: config.policy.zone,
        language: None,
        now,
        entries: vec![Entry::Test],
        unlisted: Vec::new(),
        unreachable: Vec::new(),
    };
    let message = mailer.writer.write(&letter, &mailer.templates())?;
    let mut connection = mailer.transport.open().await.map_err(|fault| {
        Failure::unreachable(fault).hint("`lapsed check` tests the mail server in detail")
    })?;
    let outcome = connection.send(&message).await;
    connection.close().await;
    match outcome {
        Outcome::Sent { reply } => {
            anstream::println!("sent to {}: {reply}", args.address);
            anstream::println!("Message-ID {}", message.message_id);
            Ok(Exit::Ok)
        }
        Outcome::Deferred(fault) | Outcome::Unknown(fault) | Outcome::ServerFault(fault) => {
            Err(Failure::unreachable(fault).into())
        }
        Outcome::Refused(fault) => Err(Failure::failed(fault).into()),
    }
}
