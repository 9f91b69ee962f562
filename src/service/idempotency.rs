//! Requests that a client may repeat because the answer was lost: the same answer again, secret included, though the
//! store has nothing that opens it.
//!
//! The answer is encrypted under a key that is derived from the client's `Idempotency-Key` and the token that it
//! authenticates with. Both come with the request, and neither is kept.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::domain::TokenId;
use crate::domain::service::{CredentialState, Problem, ProblemKind};
use crate::store::{IdempotencyRow, Tx};

use super::{Error, Service};

/// How long a lost answer can be had again.
const ANSWER_TTL: TimeDelta = TimeDelta::hours(1);
/// How long a key is remembered.
const KEY_TTL: TimeDelta = TimeDelta::hours(24);
const MAX_KEY: usize = 255;
const PURPOSE: &[u8] = b"lapsed idempotency 1";

/// A request with an `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct Repeatable {
    key: String,
    /// The whole token of the caller.
    secret: SecretString,
    body_digest: String,
}

impl Service {
    /// The answer that this request was given before, if it was.
    ///
    /// # Errors
    /// If the key was used for another request, or the answer cannot be given again.
    pub async fn answer_again(&self, request: &Repeatable) -> Result<Option<SecretString>, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short_read().await?;
        let known = tx.find_idempotency(&request.key_digest()).await?;
        match known.filter(|known| now < known.created_at + KEY_TTL) {
            Some(known) => request.answer_again(&mut tx, known, now).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Repeatable {
    /// `request` is everything that makes the request what it is: method, path and body.
    ///
    /// # Errors
    /// If the key is empty or too long.
    pub fn new(key: &str, secret: SecretString, request: &[&[u8]]) -> Result<Self, Problem> {
        // The header is a string of structured fields (RFC 8941 §3.3.3); most clients send it bare.
        let key = key.trim();
        let bare = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
        let key = bare.unwrap_or(key);
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Problem::new(
                ProblemKind::Invalid,
                format!("an Idempotency-Key has 1 to {MAX_KEY} characters"),
            )
            .fix("send a random UUID"));
        }
        Ok(Self {
            key: key.to_owned(),
            body_digest: digest(request),
            secret,
        })
    }

    fn key_digest(&self) -> String {
        let secret = self.secret.expose_secret().as_bytes();
        digest(&[PURPOSE, self.key.as_bytes(), secret])
    }

    /// Takes the key for this request, or returns the answer that was given to it before.
    ///
    /// A second request with this key waits in the database until the first one's transaction ends.
    pub(super) async fn claim(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
    ) -> Result<Option<SecretString>, Error> {
        let key_digest = self.key_digest();
        if let Some(known) = tx.find_idempotency(&key_digest).await? {
            if now < known.created_at + KEY_TTL {
                return self.answer_again(tx, known, now).await.map(Some);
            }
            tx.delete_idempotency(&key_digest).await?;
        }
        let row = IdempotencyRow {
            key_digest,
            body_digest: self.body_digest.clone(),
            token_id: None,
            secret_number: None,
            sealed: None,
            created_at: now,
        };
        if tx.insert_idempotency(&row).await? {
            return Ok(None);
        }
        let known = tx.find_idempotency(&row.key_digest).await?;
        match known {
            Some(known) => self.answer_again(tx, known, now).await.map(Some),
            None => Err(still_running().into()),
        }
    }

    async fn answer_again(
        &self,
        tx: &mut Tx,
        known: IdempotencyRow,
        now: DateTime<Utc>,
    ) -> Result<SecretString, Error> {
        if known.body_digest != self.body_digest {
            return Err(Problem::new(
                ProblemKind::Invalid,
                "this Idempotency-Key was used with another request",
            )
            .fix("send a new key with a new request")
            .into());
        }
        let (Some(id), Some(number), Some(sealed)) =
            (known.token_id, known.secret_number, &known.sealed)
        else {
            return Err(still_running().into());
        };
        let made = tx.find_credentials(&[id]).await?.pop();
        let is_current = made.is_some_and(|made| {
            i64::from(made.secret.number) == number && made.state != CredentialState::Revoked
        });
        if !is_current {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "what this request has made has since been deleted or got another secret",
            )
            .fix("send a new request with a new key")
            .into());
        }
        if now >= known.created_at + ANSWER_TTL {
            return Err(Problem::new(
                ProblemKind::Conflict,
                format!(
                    "this request has already made the token {id}; its secret is not shown again"
                ),
            )
            .fix("regenerate the token if its secret was lost")
            .into());
        }
        let answer = self.open(sealed).ok_or_else(|| {
            Problem::new(
                ProblemKind::Conflict,
                "the answer to this request cannot be read",
            )
            .fix("regenerate the token if its secret was lost")
        })?;
        Ok(answer)
    }

    pub(super) async fn settle(
        &self,
        tx: &mut Tx,
        token: TokenId,
        secret_number: u32,
        answer: &str,
    ) -> Result<(), Error> {
        let sealed = self.seal(answer);
        Ok(tx
            .settle_idempotency(&self.key_digest(), token, secret_number, &sealed)
            .await?)
    }

    fn cipher(&self) -> LessSafeKey {
        let salt = Salt::new(HKDF_SHA256, self.key.as_bytes());
        let prk = salt.extract(self.secret.expose_secret().as_bytes());
        let key = prk
            .expand(&[PURPOSE], &AES_256_GCM)
            .map(UnboundKey::from)
            .map(LessSafeKey::new);
        #[expect(
            clippy::expect_used,
            reason = "the key has the length of the cipher's own"
        )]
        key.expect("HKDF gives a key of 32 bytes")
    }

    fn seal(&self, answer: &str) -> String {
        let mut nonce = [0; NONCE_LEN];
        let mut sealed = answer.as_bytes().to_vec();
        let filled = SystemRandom::new().fill(&mut nonce);
        let appended = filled.and_then(|()| {
            let aad = Aad::from(self.body_digest.as_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            self.cipher()
                .seal_in_place_append_tag(nonce, aad, &mut sealed)
        });
        if appended.is_err() {
            // Without random numbers or with an answer beyond 64 GB there is nothing to give again.
            return String::new();
        }
        STANDARD.encode([nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, sealed: &str) -> Option<SecretString> {
        let mut sealed = STANDARD.decode(sealed).ok()?;
        let (nonce, answer) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from(self.body_digest.as_bytes());
        let opened = self.cipher().open_in_place(nonce, aad, answer).ok()?;
        std::str::from_utf8(opened).ok().map(SecretString::from)
    }
}

fn still_running() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "a request with this Idempotency-Key is still being worked on",
    )
    .fix("send it again in a moment")
}

/// The parts are kept apart by their lengths.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str, secret: &str) -> Repeatable {
        Repeatable::new(key, secret.to_owned().into(), &[b"POST", b"{}"]).unwrap()
    }

    #[test]
    fn only_the_same_key_and_secret_open_the_answer() {
        let sealed = request("a-key", "a secret").seal("the answer");
        let open = |key, secret, sealed: &str| {
            let opened = request(key, secret).open(sealed);
            opened.map(|answer| answer.expose_secret().to_owned())
        };
        let answer = Some("the answer".to_owned());
        assert_eq!(open("a-key", "a secret", &sealed), answer);
        assert_eq!(open("\"a-key\"", "a secret", &sealed), answer);
        assert_eq!(open("a-key", "another", &sealed), None);
        assert_eq!(open("another", "a secret", &sealed), None);
        assert_eq!(open("a-key", "a secret", ""), None);
        assert!(!sealed.contains("answer"));
    }

    #[test]
    fn the_same_answer_is_sealed_differently_each_time() {
        let request = request("a-key", "a secret");
        assert_ne!(request.seal("the answer"), request.seal("the answer"));
    }

    #[test]
    fn parts_do_not_run_into_one_another() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }

    #[test]
    fn a_key_has_1_to_255_characters() {
        for key in ["", "\"\"", " ", &"x".repeat(256)] {
            let read = Repeatable::new(key, String::new().into(), &[]);
            assert!(read.is_err(), "{key:?}");
        }
    }
}
