//! One SMTP connection from greeting to QUIT, with a timeout on every step. After a failed mail it knows
//! whether it can send another.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::FutureExt;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Quit, Rset, Starttls};
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{self, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::domain::Address;
use crate::notify::fault::{Fault, Outcome, Stage};
use crate::notify::message::Rendered;
use crate::text;

use super::reply::Reply;

/// A TCP stream, encrypted or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for S {}

#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How long each command and its reply may take.
    pub timeout: Duration,
    /// How long the reply to the final dot may take. If this is too short, mails are sent twice; RFC 5321 §4.5.3.2.6
    /// asks for 10 minutes.
    pub final_timeout: Duration,
    /// Whether to send MAIL, RCPT and DATA in one write if the server supports it.
    pub pipelining: bool,
    /// The address of MAIL FROM, which gets the bounces.
    pub envelope_from: lettre::Address,
}

const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Session {
    wire: BufReader<Box<dyn Wire>>,
    encrypted: bool,
    features: Features,
    /// The connection cannot be used any more.
    dead: bool,
    sent: u32,
    settings: SessionSettings,
    /// Reused for every mail, so that each goes out in one write without an allocation.
    out: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Features {
    starttls: bool,
    pipelining: bool,
    smtputf8: bool,
    /// PLAIN if offered, else LOGIN.
    auth: Option<Mechanism>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("encrypted", &self.encrypted)
            .field("features", &self.features)
            .field("dead", &self.dead)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(stream: impl Wire, settings: SessionSettings, encrypted: bool) -> Self {
        Self {
            wire: BufReader::new(Box::new(stream)),
            encrypted,
            features: Features::default(),
            dead: false,
            sent: 0,
            settings,
            out: Vec::with_capacity(16 * 1024),
        }
    }

    pub fn is_usable(&self) -> bool {
        !self.dead
    }

    /// How many mails the server accepted on this connection.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// MAIL, RCPT and DATA. On success the server waits for the text: call [`Session::finish`], or drop the session
    /// to withdraw the mail.
    pub async fn begin(&mut self, mail: &Rendered) -> Result<(), Outcome> {
        let mail_from = self
            .mail_from(Some(&mail.envelope_to))
            .map_err(Outcome::Refused)?;
        match self.send_envelope(mail_from, mail).await {
            Ok(()) => Ok(()),
            Err(fault) => Err(self.fail(fault).await),
        }
    }

    /// Tests whether the server takes a mail to this address, without sending one.
    pub async fn probe(&mut self, to: Option<&Address>) -> Result<(), Fault> {
        let mail_from = self.mail_from(to)?;
        let reply = self.command(Stage::Mail, mail_from).await?;
        expect_positive(Stage::Mail, reply)?;
        if let Some(to) = to {
            let reply = self
                .command(Stage::Rcpt, format!("RCPT TO:<{to}>\r\n"))
                .await?;
            expect_positive(Stage::Rcpt, reply)?;
        }
        self.reset().await;
        Ok(())
    }

    /// Sends the text and waits for the reply to the final dot.
    pub async fn finish(&mut self, mail: &Rendered) -> Outcome {
        let transferred = match self.check_open().await {
            Ok(()) => self.transfer(mail).await,
            Err(fault) => Err(fault),
        };
        match transferred {
            Ok(reply) => {
                self.sent += 1;
                Outcome::Sent {
                    reply: text::one_line(&reply.text(), text::MAX_TEXT),
                }
            }
            Err(fault) => self.fail(fault).await,
        }
    }

    async fn fail(&mut self, fault: Fault) -> Outcome {
        let outcome = self.classify(fault);
        if !self.dead {
            self.reset().await;
        }
        outcome
    }

    /// Sends QUIT, unless the connection is broken, and closes it.
    pub async fn quit(mut self) {
        if !self.dead {
            self.settings.timeout = self.settings.timeout.min(QUIT_TIMEOUT);
            // The reply does not matter.
            let _ = self.command(Stage::Final, Quit).await;
        }
        let _ = timeout(QUIT_TIMEOUT, self.wire.get_mut().shutdown()).await;
    }

    pub(super) async fn greeting(&mut self) -> Result<(), Fault> {
        let reply = self.reply(Stage::Greeting).await?;
        expect_positive(Stage::Greeting, reply).map(drop)
    }

    /// EHLO, or HELO if the server has no extensions (RFC 5321 §3.2).
    pub(super) async fn hello(&mut self, name: &ClientId) -> Result<(), Fault> {
        let mut reply = self.command(Stage::Hello, Ehlo::new(name.clone())).await?;
        if matches!(reply.code, 500..=504) {
            reply = self
                .command(Stage::Hello, format!("HELO {name}\r\n"))
                .await?;
            reply.lines.truncate(1);
        }
        let reply = expect_positive(Stage::Hello, reply)?;
        self.features = Features::from_ehlo(&reply);
        Ok(())
    }

    pub(super) fn offers_starttls(&self) -> bool {
        self.features.starttls
    }

    /// Sends STARTTLS and hands out the stream for the handshake; until [`Session::resume_encrypted`], the
    /// session is not usable. Unencrypted data after the reply could be mistaken for encrypted replies, so it
    /// ends the connection (RFC 3207 §6).
    pub(super) async fn start_tls(&mut self) -> Result<Box<dyn Wire>, Fault> {
        let reply = self.command(Stage::Tls, Starttls).await?;
        expect_positive(Stage::Tls, reply)?;
        self.dead = true;
        let nothing: Box<dyn Wire> = Box::new(io::empty());
        let wire = std::mem::replace(&mut self.wire, BufReader::new(nothing));
        if !wire.buffer().is_empty() {
            let text = "the server sent data after STARTTLS and before the handshake; the connection is closed";
            return Err(Fault::new(Stage::Tls, text));
        }
        Ok(wire.into_inner())
    }

    pub(super) fn resume_encrypted(&mut self, stream: impl Wire) {
        self.wire = BufReader::new(Box::new(stream));
        self.encrypted = true;
        self.dead = false;
    }

    pub(super) async fn authenticate(
        &mut self,
        user: &str,
        password: &SecretString,
    ) -> Result<(), Fault> {
        let credentials = Credentials::new(user.to_owned(), password.expose_secret().to_owned());
        let Some(mechanism) = self.features.auth else {
            let text = "the server offers neither AUTH PLAIN nor AUTH LOGIN on this connection";
            return Err(Fault::new(Stage::Auth, text));
        };
        let mut reply = self.auth(mechanism, &credentials, None).await?;
        if mechanism == Mechanism::Login {
            // Servers word the prompts differently, but always in this order.
            for prompt in ["Username:", "Password:"] {
                if reply.code == 334 {
                    reply = self.auth(mechanism, &credentials, Some(prompt)).await?;
                }
            }
        }
        expect_positive(Stage::Auth, reply).map(drop)
    }

    async fn auth(
        &mut self,
        mechanism: Mechanism,
        credentials: &Credentials,
        prompt: Option<&str>,
    ) -> Result<Reply, Fault> {
        let prompt = prompt.map(str::to_owned);
        let command = Auth::new(mechanism, credentials.clone(), prompt)
            .map_err(|error| Fault::new(Stage::Auth, error))?;
        self.command(Stage::Auth, command).await
    }

    /// The command MAIL. A server without SMTPUTF8 would not understand an address beyond ASCII (RFC 6531 §3.5).
    fn mail_from(&self, to: Option<&Address>) -> Result<String, Fault> {
        let parameters = match to {
            Some(to) if to.needs_smtputf8() && !self.features.smtputf8 => {
                return Err(Fault::without_smtputf8());
            }
            Some(to) if to.needs_smtputf8() => " BODY=8BITMIME SMTPUTF8",
            _ => "",
        };
        let from = &self.settings.envelope_from;
        Ok(format!("MAIL FROM:<{from}>{parameters}\r\n"))
    }

    /// The error is the first negative reply.
    async fn send_envelope(&mut self, mail_from: String, mail: &Rendered) -> Result<(), Fault> {
        let rcpt = format!("RCPT TO:<{}>\r\n", mail.envelope_to);
        if self.settings.pipelining && self.features.pipelining {
            let envelope = format!("{mail_from}{rcpt}{Data}");
            self.write(Stage::Mail, envelope.as_bytes()).await?;
            let mail_from = self.reply(Stage::Mail).await?;
            let rcpt_to = self.reply(Stage::Rcpt).await?;
            let data = self.reply(Stage::Data).await?;
            let envelope = expect_positive(Stage::Mail, mail_from)
                .and_then(|_| expect_positive(Stage::Rcpt, rcpt_to));
            if let Err(fault) = envelope {
                self.send_empty_text(&data).await?;
                return Err(fault);
            }
            expect(Stage::Data, data, 354..=354)?;
        } else {
            let reply = self.command(Stage::Mail, mail_from).await?;
            expect_positive(Stage::Mail, reply)?;
            let reply = self.command(Stage::Rcpt, rcpt).await?;
            expect_positive(Stage::Rcpt, reply)?;
            let reply = self.command(Stage::Data, Data).await?;
            expect(Stage::Data, reply, 354..=354)?;
        }
        Ok(())
    }

    /// Fails if the server gave up waiting for the text: a copy cannot arrive, which is not known after the final dot.
    async fn check_open(&mut self) -> Result<(), Fault> {
        let Some(filled) = self.wire.fill_buf().now_or_never() else {
            return Ok(());
        };
        let filled = filled.map(<[u8]>::len);
        self.dead = true;
        Err(match filled {
            Ok(0) => Fault::new(
                Stage::Data,
                "the server closed the connection before the text was sent",
            ),
            Ok(_) => {
                let reply = self.reply(Stage::Data).await?;
                Fault::from_reply(Stage::Data, reply.code, &reply.text())
            }
            Err(error) => Fault::new(Stage::Data, error),
        })
    }

    async fn transfer(&mut self, mail: &Rendered) -> Result<Reply, Fault> {
        self.send_text(&mail.bytes).await?;
        let reply = self
            .reply_within(Stage::Final, self.settings.final_timeout)
            .await?;
        expect_positive(Stage::Final, reply)
    }

    /// A server may ask for the text after it refused the only recipient. It gets an empty text and should
    /// refuse that (RFC 2920 §3.1).
    async fn send_empty_text(&mut self, data: &Reply) -> Result<(), Fault> {
        if data.code == 354 {
            let reply = self.command(Stage::Data, ".\r\n").await?;
            if reply.is_positive() {
                // It accepted an empty mail without a recipient; do not trust this connection.
                self.dead = true;
            }
        }
        Ok(())
    }

    /// Sends the text and the final dot in one write. If it fails, the dot was not sent.
    async fn send_text(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        dot_stuff(bytes, &mut out);
        let result = self.write(Stage::Data, &out).await;
        self.out = out;
        result
    }

    /// The outcome of the mail; marks the connection as dead if the server closes it.
    fn classify(&mut self, fault: Fault) -> Outcome {
        if fault.is_closing() {
            self.dead = true;
            return Outcome::ServerFault(fault);
        }
        match (fault.code, fault.stage) {
            (None, Stage::Final) => Outcome::Unknown(fault),
            (None, _) => Outcome::Deferred(fault),
            (Some(_), _) if fault.is_transient() => Outcome::Deferred(fault),
            (Some(_), Stage::Rcpt | Stage::Data | Stage::Final) => Outcome::Refused(fault),
            (Some(_), _) => Outcome::ServerFault(fault),
        }
    }

    /// Ends a failed transaction, so that the next can begin.
    async fn reset(&mut self) {
        match self.command(Stage::Mail, Rset).await {
            Ok(reply) if reply.is_positive() => {}
            Ok(_) | Err(_) => self.dead = true,
        }
    }

    async fn command(&mut self, stage: Stage, command: impl fmt::Display) -> Result<Reply, Fault> {
        self.write(stage, command.to_string().as_bytes()).await?;
        self.reply(stage).await
    }

    async fn write(&mut self, stage: Stage, octets: &[u8]) -> Result<(), Fault> {
        let wire = self.wire.get_mut();
        let write = async {
            wire.write_all(octets).await?;
            wire.flush().await
        };
        let result = timeout(self.settings.timeout, write).await;
        self.check_io(stage, result)
    }

    async fn reply(&mut self, stage: Stage) -> Result<Reply, Fault> {
        self.reply_within(stage, self.settings.timeout).await
    }

    /// 421 can come at any time and is always the last reply.
    async fn reply_within(&mut self, stage: Stage, max_wait: Duration) -> Result<Reply, Fault> {
        let result = timeout(max_wait, Reply::read(&mut self.wire)).await;
        let reply = self.check_io(stage, result)?;
        if reply.code == 421 {
            self.dead = true;
            return Err(Fault::from_reply(stage, reply.code, &reply.text()));
        }
        Ok(reply)
    }

    fn check_io<T>(
        &mut self,
        stage: Stage,
        result: Result<io::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, Fault> {
        let fault = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Fault::new(stage, error),
            Err(_) => Fault::new(stage, "timed out"),
        };
        self.dead = true;
        Err(fault)
    }
}

impl Features {
    fn from_ehlo(reply: &Reply) -> Self {
        let mut features = Self::default();
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // Some old servers write AUTH=LOGIN.
            let mut parts = line.split([' ', '=']);
            match parts.next() {
                Some("STARTTLS") => features.starttls = true,
                Some("PIPELINING") => features.pipelining = true,
                Some("SMTPUTF8") => features.smtputf8 = true,
                Some("AUTH") => {
                    let mechanisms: Vec<&str> = parts.collect();
                    if mechanisms.contains(&"PLAIN") {
                        features.auth = Some(Mechanism::Plain);
                    } else if mechanisms.contains(&"LOGIN") {
                        features.auth = features.auth.or(Some(Mechanism::Login));
                    }
                }
                _ => {}
            }
        }
        features
    }
}

fn expect_positive(stage: Stage, reply: Reply) -> Result<Reply, Fault> {
    expect(stage, reply, 200..=299)
}

fn expect(stage: Stage, reply: Reply, codes: RangeInclusive<u16>) -> Result<Reply, Fault> {
    if codes.contains(&reply.code) {
        return Ok(reply);
    }
    Err(Fault::from_reply(stage, reply.code, &reply.text()))
}

/// Doubles the dot at the start of lines (RFC 5321 §4.5.2) and appends the final dot.
fn dot_stuff(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !text.is_empty() && !text.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a\r\n", "a\r\n.\r\n")]
    #[case("a", "a\r\n.\r\n")]
    #[case("", ".\r\n")]
    #[case(".\r\n", "..\r\n.\r\n")]
    #[case("a\r\n.\r\nb\r\n..c\r\n", "a\r\n..\r\nb\r\n...c\r\n.\r\n")]
    #[case("a.\r\n.b", "a.\r\n..b\r\n.\r\n")]
    fn a_dot_at_the_start_of_a_line_is_doubled(#[case] text: &str, #[case] sent: &str) {
        let mut out = Vec::new();
        dot_stuff(text.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), sent);
    }
}
