//! The interface to the engine: a worker opens a connection, sends mails over it and closes it. The
//! transport `file` writes each mail to a file in a folder instead.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, NaiveDateTime, Utc};

use super::fault::{Fault, Outcome, Stage};
use super::message::Rendered;
use super::smtp::{Relay, Session};
use crate::files::{create_private_folder, create_private_for_owner};

const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

#[derive(Debug)]
pub enum Transport {
    Smtp(Box<Relay>),
    File(Outbox),
    /// Accepts every mail and sends none.
    Discard,
}

#[derive(Debug)]
pub enum Connection<'a> {
    Smtp(&'a Relay, Box<Session>),
    File(&'a Outbox),
    Discard,
}

impl Transport {
    pub async fn open(&self) -> Result<Connection<'_>, Fault> {
        Ok(match self {
            Self::Smtp(relay) => Connection::Smtp(relay, Box::new(relay.connect().await?)),
            Self::File(outbox) => Connection::File(outbox),
            Self::Discard => Connection::Discard,
        })
    }
}

impl Connection<'_> {
    /// Sends a mail.
    pub async fn send(&mut self, mail: &Rendered) -> Outcome {
        match self.begin(mail).await {
            Ok(()) => self.finish(mail).await,
            Err(outcome) => outcome,
        }
    }

    /// Sends all but the text. If the server closed the connection after an earlier mail, as many do after a number
    /// of mails, reconnects once.
    pub async fn begin(&mut self, mail: &Rendered) -> Result<(), Outcome> {
        let Self::Smtp(relay, session) = self else {
            return Ok(());
        };
        let Err(outcome) = session.begin(mail).await else {
            return Ok(());
        };
        if session.is_usable() || session.sent() == 0 || !closed_between_mails(&outcome) {
            return Err(outcome);
        }
        match relay.connect().await {
            Ok(new) => **session = new,
            Err(_) => return Err(outcome),
        }
        session.begin(mail).await
    }

    /// Sends the text of a mail that has begun. From here on a copy may arrive.
    pub async fn finish(&mut self, mail: &Rendered) -> Outcome {
        match self {
            Self::File(outbox) => outbox.send(mail).await,
            Self::Smtp(_, session) => session.finish(mail).await,
            Self::Discard => Outcome::Sent {
                reply: String::new(),
            },
        }
    }

    /// If false, close the connection and open another.
    pub fn is_usable(&self) -> bool {
        match self {
            Self::Smtp(_, session) => session.is_usable(),
            Self::File(_) | Self::Discard => true,
        }
    }

    pub async fn close(self) {
        if let Self::Smtp(_, session) = self {
            session.quit().await;
        }
    }
}

/// Whether the connection ended before any part of the mail was sent.
fn closed_between_mails(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::ServerFault(fault) | Outcome::Deferred(fault) => {
            fault.stage == Stage::Mail && matches!(fault.code, None | Some(421))
        }
        Outcome::Sent { .. } | Outcome::Refused(_) | Outcome::Unknown(_) => false,
    }
}

/// Files appear complete, and a mail that is sent again replaces its file.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    folder: Arc<PathBuf>,
    /// When each mail was first written, by the hash of its reference, so that its file keeps its name.
    first_written: Arc<Mutex<HashMap<u64, i64>>>,
}

impl Outbox {
    /// Creates the folder if needed, readable only by its owner.
    pub fn open(folder: &Path) -> io::Result<Self> {
        create_private_folder(folder)?;
        let mut first_written = HashMap::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            if let Some((time, reference)) = name.to_str().and_then(parse_name) {
                first_written.insert(hash(reference), time.timestamp());
            }
        }
        Ok(Self {
            folder: Arc::new(folder.to_owned()),
            first_written: Arc::new(Mutex::new(first_written)),
        })
    }

    /// Writes a mail and syncs it to the disk.
    pub async fn send(&self, mail: &Rendered) -> Outcome {
        let outbox = self.clone();
        let mail = mail.clone();
        let result = tokio::task::spawn_blocking(move || outbox.write(&mail)).await;
        match result.map_err(io::Error::other).flatten() {
            Ok(name) => Outcome::Sent { reply: name },
            Err(error) => Outcome::ServerFault(Fault::new(Stage::Folder, error)),
        }
    }

    fn write(&self, mail: &Rendered) -> io::Result<String> {
        let name = self.file_name(mail);
        let path = self.folder.join(&name);
        // The temporary file is hidden from other programs.
        let part = self.folder.join(format!(".{}.part", mail.reference));
        let result = write_synced(&part, &mail.bytes).and_then(|()| fs::rename(&part, &path));
        if let Err(error) = result {
            // This may fail, too, as there may be no file; only the first error is reported.
            let _ = fs::remove_file(&part);
            return Err(error);
        }
        fs::File::open(self.folder.as_path())?.sync_all()?;
        Ok(name)
    }

    fn file_name(&self, mail: &Rendered) -> String {
        let mut first_written = self
            .first_written
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let seconds = *first_written
            .entry(hash(&mail.reference))
            .or_insert(mail.written_at.timestamp());
        let time = DateTime::from_timestamp(seconds, 0).unwrap_or(mail.written_at);
        format!("{}-{}.eml", time.format(TIME_FORMAT), mail.reference)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a crash left over; a link is replaced, too, and not followed.
    let _ = fs::remove_file(path);
    let mut file = create_private_for_owner(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn parse_name(name: &str) -> Option<(DateTime<Utc>, &str)> {
    let (time, reference) = name.strip_suffix(".eml")?.split_once('-')?;
    let time = NaiveDateTime::parse_from_str(time, TIME_FORMAT).ok()?;
    Some((time.and_utc(), reference))
}

fn hash(reference: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    reference.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::TimeDelta;

    use super::*;
    use crate::notify::sample;

    fn mail(reference: &str, text: &str) -> Rendered {
        Rendered {
            reference: reference.to_owned(),
            message_id: format!("<lapsed.{reference}@example.org>"),
            envelope_to: "ada@example.org".parse().unwrap(),
            written_at: sample::now(),
            subject: "x".to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn file_names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_mail_that_is_sent_again_replaces_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("outbox");
        let outbox = Outbox::open(&folder).unwrap();
        assert!(matches!(
            outbox.send(&mail("01", "one")).await,
            Outcome::Sent { .. }
        ));
        let mut again = mail("01", "two");
        again.written_at += TimeDelta::hours(3);
        let outbox = Outbox::open(&folder).unwrap();
        outbox.send(&again).await;
        outbox.send(&mail("02", "three")).await;
        assert_eq!(
            file_names(&folder),
            ["20261121T090000Z-01.eml", "20261121T090000Z-02.eml"]
        );
        assert_eq!(
            fs::read(folder.join("20261121T090000Z-01.eml")).unwrap(),
            b"two"
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("20261121T090000Z-01.eml")), 0o600);
    }

    #[tokio::test]
    async fn a_missing_folder_is_a_server_fault() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        drop(folder);
        let outcome = outbox.send(&mail("01", "one")).await;
        assert!(matches!(outcome, Outcome::ServerFault(fault) if fault.stage == Stage::Folder));
    }
}
