//! `lapsed send-test`: sends a test mail.

use super::args::SendTest;
use super::exit::{Exit, Failure, Result};
use super::{Context, setup};
use crate::engine;
use crate::notify::fault::Outcome;
use crate::notify::letter::{AlertEntry, Entry, Letter};

pub(super) async fn send_test(context: &Context, args: SendTest) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let mailer = setup::build_mailer(&config)?;
    let now = context.clock.now();
    let letter = Letter {
        reference: engine::new_id(now).simple().to_string(),
        to: args.address.clone(),
        zone: config.policy.zone,
        now,
        entries: vec![Entry::Alert(AlertEntry {
            title: "Test mail".to_owned(),
            text: "An operator ran `lapsed send-test` with your address. If you can read this, notices about \
                   API tokens will reach you.\n\nYou do not have to do anything."
                .to_owned(),
        })],
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
        Outcome::Refused { fault, .. } => Err(Failure::failed(fault).into()),
    }
}
