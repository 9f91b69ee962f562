//! One connection to a relay: greeting to QUIT, with a time-out on every step. After a mail that was
//! not sent it knows whether it can carry another.

use std::{fmt, io, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, Mechanism},
    commands::{Auth, Data, Ehlo, Quit, Rset, Starttls},
    extension::ClientId,
};
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::notify::{
    fault::{Fault, Outcome, Stage},
    message::Rendered,
    plain,
};

use super::{SmtpSettings, reply::Reply, tls};

/// What octets go over: a TCP stream, encrypted or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for S {}

/// QUIT is a courtesy; it gets no more time than this.
const FAREWELL: Duration = Duration::from_secs(5);

/// An open connection.
pub struct Session {
    wire: BufReader<Box<dyn Wire>>,
    encrypted: bool,
    features: Features,
    /// Set once the connection can carry nothing more.
    dead: bool,
    sent: u32,
    pipelining: bool,
    mail_from: String,
    timeout: Duration,
    final_timeout: Duration,
    /// Kept from mail to mail, so that each goes out in one write without an allocation.
    out: Vec<u8>,
}

/// What the server offers, of what we could use.
#[derive(Debug, Default, Clone, Copy)]
struct Features {
    starttls: bool,
    pipelining: bool,
    /// PLAIN where it is offered, else LOGIN.
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
    pub(super) fn new(stream: impl Wire, settings: &SmtpSettings, encrypted: bool) -> Self {
        Self {
            wire: BufReader::new(Box::new(stream)),
            encrypted,
            features: Features::default(),
            dead: false,
            sent: 0,
            pipelining: settings.pipelining,
            mail_from: format!("MAIL FROM:<{}>\r\n", settings.envelope_from),
            timeout: settings.timeout,
            final_timeout: settings.final_timeout,
            out: Vec::with_capacity(16 * 1024),
        }
    }

    /// Whether the connection can carry another mail.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.dead
    }

    /// How many mails the server took over this connection.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Sends one mail to its one recipient.
    pub async fn send(&mut self, mail: &Rendered) -> Outcome {
        match self.transfer(mail).await {
            Ok(reply) => {
                self.sent += 1;
                Outcome::Sent {
                    reply: plain::line(&reply.text(), plain::TEXT),
                }
            }
            Err(fault) => {
                let outcome = self.judge(fault);
                if !self.dead {
                    self.reset().await;
                }
                outcome
            }
        }
    }

    /// Says good-bye and closes the connection; a connection that broke is only closed.
    pub async fn quit(mut self) {
        if !self.dead {
            self.timeout = self.timeout.min(FAREWELL);
            // Whatever the answer, there is nothing left to do about it.
            let _ = self.command(Stage::Final, Quit).await;
        }
        let _ = timeout(FAREWELL, self.wire.get_mut().shutdown()).await;
    }

    pub(super) async fn greeting(&mut self) -> Result<(), Fault> {
        let reply = self.reply(Stage::Greeting).await?;
        accepted(Stage::Greeting, reply).map(drop)
    }

    /// EHLO, or HELO where the server knows no extensions (RFC 5321 §3.2).
    pub(super) async fn hello(&mut self, name: &ClientId) -> Result<(), Fault> {
        let mut reply = self.command(Stage::Hello, Ehlo::new(name.clone())).await?;
        if matches!(reply.code, 500..=504) {
            reply = self
                .command(Stage::Hello, format!("HELO {name}\r\n"))
                .await?;
            reply.lines.truncate(1);
        }
        let reply = accepted(Stage::Hello, reply)?;
        self.features = Features::of(&reply);
        Ok(())
    }

    pub(super) fn offers_starttls(&self) -> bool {
        self.features.starttls
    }

    /// STARTTLS and the handshake. What came in the clear behind the reply would else be taken for
    /// encrypted replies, so it ends the connection (RFC 3207 §6).
    pub(super) async fn start_tls(
        &mut self,
        connector: &TlsConnector,
        name: &ServerName<'static>,
    ) -> Result<(), Fault> {
        let reply = self.command(Stage::Tls, Starttls).await?;
        accepted(Stage::Tls, reply)?;
        // Until the handshake is through there is no connection to talk on.
        self.dead = true;
        let nothing: Box<dyn Wire> = Box::new(tokio::io::empty());
        let open = std::mem::replace(&mut self.wire, BufReader::new(nothing));
        if !open.buffer().is_empty() {
            let text = "something was put into the connection behind STARTTLS; it is closed";
            return Err(Fault::new(Stage::Tls, text));
        }
        let stream = tls::handshake(connector, name, open.into_inner(), self.timeout).await?;
        self.wire = BufReader::new(Box::new(stream));
        self.encrypted = true;
        self.dead = false;
        Ok(())
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
            // Servers ask in their own words; the order of the two answers is always the same.
            for question in ["Username:", "Password:"] {
                if reply.code == 334 {
                    reply = self.auth(mechanism, &credentials, Some(question)).await?;
                }
            }
        }
        accepted(Stage::Auth, reply).map(drop)
    }

    async fn auth(
        &mut self,
        mechanism: Mechanism,
        credentials: &Credentials,
        question: Option<&str>,
    ) -> Result<Reply, Fault> {
        let question = question.map(str::to_owned);
        let command = Auth::new(mechanism, credentials.clone(), question)
            .map_err(|error| Fault::new(Stage::Auth, error))?;
        self.command(Stage::Auth, command).await
    }

    /// MAIL, RCPT, DATA and the text. An error is the first reply that stood in the way.
    async fn transfer(&mut self, mail: &Rendered) -> Result<Reply, Fault> {
        let rcpt = format!("RCPT TO:<{}>\r\n", mail.envelope_to);
        if self.pipelining && self.features.pipelining {
            let envelope = format!("{}{rcpt}{Data}", self.mail_from);
            self.write(Stage::Mail, envelope.as_bytes()).await?;
            let mail_from = self.reply(Stage::Mail).await?;
            let rcpt_to = self.reply(Stage::Rcpt).await?;
            let data = self.reply(Stage::Data).await?;
            let refused =
                accepted(Stage::Mail, mail_from).and_then(|_| accepted(Stage::Rcpt, rcpt_to));
            if let Err(fault) = refused {
                self.end_empty(&data).await?;
                return Err(fault);
            }
            ready(&data)?;
        } else {
            let mail_from = self.mail_from.clone();
            let reply = self.command(Stage::Mail, mail_from).await?;
            accepted(Stage::Mail, reply)?;
            let reply = self.command(Stage::Rcpt, rcpt).await?;
            accepted(Stage::Rcpt, reply)?;
            let reply = self.command(Stage::Data, Data).await?;
            ready(&reply)?;
        }
        self.text(&mail.bytes).await?;
        let reply = self.reply_within(Stage::Final, self.final_timeout).await?;
        accepted(Stage::Final, reply)
    }

    /// A server may ask for the text although it refused the only recipient; then it gets an empty
    /// one and refuses that (RFC 2920 §3.1).
    async fn end_empty(&mut self, data: &Reply) -> Result<(), Fault> {
        if data.code == 354 {
            let reply = self.command(Stage::Data, ".\r\n").await?;
            if reply.is_positive() {
                // It took an empty mail for nobody; no more of this connection.
                self.dead = true;
            }
        }
        Ok(())
    }

    /// The text and the final dot in one write. A write that fails has not handed on the dot.
    async fn text(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        stuff(bytes, &mut out);
        let written = self.write(Stage::Data, &out).await;
        self.out = out;
        written
    }

    /// What a fault means for the mail; notes when the connection is done for.
    fn judge(&mut self, fault: Fault) -> Outcome {
        if fault.is_closing() {
            self.dead = true;
            return Outcome::ServerFault(fault);
        }
        match (fault.code, fault.stage) {
            (None, Stage::Final) => Outcome::Unknown(fault),
            (None, _) => Outcome::Deferred(fault),
            (Some(_), _) if fault.is_transient() => Outcome::Deferred(fault),
            (Some(_), Stage::Rcpt) => Outcome::Refused {
                dead_address: fault.is_dead_address(),
                fault,
            },
            (Some(_), Stage::Data | Stage::Final) => Outcome::Refused {
                fault,
                dead_address: false,
            },
            (Some(_), _) => Outcome::ServerFault(fault),
        }
    }

    /// Ends a transaction that was refused half way, so that the next can begin.
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
        let written = timeout(self.timeout, write).await;
        self.alive(stage, written)
    }

    async fn reply(&mut self, stage: Stage) -> Result<Reply, Fault> {
        self.reply_within(stage, self.timeout).await
    }

    /// One reply. 421 may come at any time, and is the last.
    async fn reply_within(&mut self, stage: Stage, limit: Duration) -> Result<Reply, Fault> {
        let read = timeout(limit, Reply::read(&mut self.wire)).await;
        let reply = self.alive(stage, read)?;
        if reply.code == 421 {
            self.dead = true;
            return Err(Fault::reply(stage, reply.code, &reply.text()));
        }
        Ok(reply)
    }

    fn alive<T>(
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
    fn of(reply: &Reply) -> Self {
        let mut features = Self::default();
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // Some servers still write AUTH=LOGIN.
            let mut words = line.split([' ', '=']);
            match words.next() {
                Some("STARTTLS") => features.starttls = true,
                Some("PIPELINING") => features.pipelining = true,
                Some("AUTH") => {
                    let mechanisms: Vec<&str> = words.collect();
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

fn accepted(stage: Stage, reply: Reply) -> Result<Reply, Fault> {
    if reply.is_positive() {
        Ok(reply)
    } else {
        Err(Fault::reply(stage, reply.code, &reply.text()))
    }
}

fn ready(reply: &Reply) -> Result<(), Fault> {
    if reply.code == 354 {
        return Ok(());
    }
    Err(Fault::reply(Stage::Data, reply.code, &reply.text()))
}

/// The text as it goes over the wire, with the final dot: lines that begin with a dot get another
/// (RFC 5321 §4.5.2).
fn stuff(text: &[u8], out: &mut Vec<u8>) {
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
    fn a_dot_at_the_head_of_a_line_is_doubled(#[case] text: &str, #[case] sent: &str) {
        let mut out = Vec::new();
        stuff(text.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), sent);
    }
}
