//! The text of a token: `lapsed_lp3fK9x2QwAb_SECRETCHECK`.
//!
//! A token is an access key (prefix, letter of its kind, public id) and a secret key (43 characters and the check),
//! joined by `_`. The check is a CRC-32 (ISO-HDLC) over everything before it, so that a mistyped or cut token is
//! noticed without the store. Every id begins with `lp`, so that one expression finds tokens of every prefix.

use std::fmt;

use crc::{CRC_32_ISO_HDLC, Crc};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_MARK: &str = "lp";
const ID_LENGTH: usize = 12;
/// 62^43 is more than 2^256.
const SECRET_LENGTH: usize = 43;
/// 62^6 is more than 2^32.
const CHECK_LENGTH: usize = 6;
/// With the letter of a kind.
const MAX_HEAD_LENGTH: usize = 17;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// A digest that was made for another purpose never verifies.
const DIGEST_TAG: &[u8] = b"lapsed token 1\0";

/// What distinguishes a token in public: its external id, and a part of its access key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicId(String);

impl PublicId {
    pub fn generate() -> Self {
        let mut digits = random_digits(ID_LENGTH - ID_MARK.len());
        digits.insert_str(0, ID_MARK);
        Self(digits)
    }

    /// `None` for a text that is not the id of a token of the service.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == ID_LENGTH && text.starts_with(ID_MARK) && is_base62(text);
        is_id.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of an id and its secret. A fast hash suffices, because the secret is random
/// (NIST SP 800-63B §5.1.2, look-up secrets of 112 bit and more).
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the same time whether or not they are equal.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn new(id: &PublicId, secret: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(DIGEST_TAG);
        hash.update(id.as_str());
        hash.update(b"\0");
        hash.update(secret);
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The secret of a new or regenerated token; it is shown once and then forgotten.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// The whole token.
    pub token: SecretString,
    pub access_key: String,
    pub secret_key: SecretString,
    pub digest: Digest,
}

impl NewSecret {
    /// `head` is the prefix with the letter of the kind.
    pub fn generate(head: &str, id: &PublicId) -> Self {
        let secret = random_secret();
        let access_key = format!("{head}_{id}");
        let checked = format!("{access_key}_{secret}");
        let check = to_text(&check_digits(&checked));
        Self {
            token: format!("{checked}{check}").into(),
            digest: Digest::new(id, &secret),
            secret_key: format!("{secret}{check}").into(),
            access_key,
        }
    }
}

/// A token that somebody presents; that it is well formed says nothing about its validity.
#[derive(Debug, Clone)]
pub struct Presented {
    pub id: PublicId,
    pub digest: Digest,
    /// The whole token, from whatever form it came in.
    pub token: SecretString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a token of this service, or it is cut or mistyped")]
pub struct InvalidToken;

impl Presented {
    /// Reads a whole token, also as a `secret-token:` URI (RFC 8959).
    ///
    /// # Errors
    /// If it is not well formed, or its check is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.strip_prefix("secret-token:").unwrap_or(text);
        let (access_key, secret_key) = text.rsplit_once('_').ok_or(InvalidToken)?;
        Self::from_pair(access_key, secret_key)
    }

    /// Reads an access key and a secret key.
    ///
    /// # Errors
    /// If they are not well formed, or their check is wrong.
    pub fn from_pair(access_key: &str, secret_key: &str) -> Result<Self, InvalidToken> {
        let (head, id) = access_key.rsplit_once('_').ok_or(InvalidToken)?;
        let id = PublicId::parse(id).ok_or(InvalidToken)?;
        let is_well_formed = is_head(head)
            && secret_key.len() == SECRET_LENGTH + CHECK_LENGTH
            && is_base62(secret_key);
        if !is_well_formed {
            return Err(InvalidToken);
        }
        let (secret, check) = secret_key.split_at(SECRET_LENGTH);
        let mut token = String::with_capacity(access_key.len() + 1 + secret_key.len());
        token.extend([access_key, "_", secret]);
        if check_digits(&token) != check.as_bytes() {
            return Err(InvalidToken);
        }
        token.push_str(check);
        Ok(Self {
            digest: Digest::new(&id, secret),
            id,
            token: token.into(),
        })
    }

    /// Reads `id$secret`, the form of Gcore: without the prefix, which `secret` does not depend on but its check does.
    ///
    /// # Errors
    /// If they are not well formed, or their check is wrong for every prefix in `heads`.
    pub fn from_id_and_secret<'a>(
        id: &str,
        secret_key: &str,
        heads: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidToken> {
        let mut read = heads
            .into_iter()
            .map(|head| Self::from_pair(&format!("{head}_{id}"), secret_key));
        read.find(Result::is_ok).unwrap_or(Err(InvalidToken))
    }
}

fn is_head(head: &str) -> bool {
    let is_valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=MAX_HEAD_LENGTH).contains(&head.len()) && head.bytes().all(is_valid)
}

fn is_base62(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn check_digits(text: &str) -> [u8; CHECK_LENGTH] {
    let mut rest = CRC.checksum(text.as_bytes()) as usize;
    let mut digits = [b'0'; CHECK_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % 62];
        rest /= 62;
    }
    digits
}

/// 256 random bits in base 62.
fn random_secret() -> String {
    let mut number: [u8; 32] = random_bytes();
    let mut digits = [b'0'; SECRET_LENGTH];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0;
        for byte in &mut number {
            let value = remainder * 256 + usize::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or_default();
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder];
    }
    to_text(&digits)
}

fn to_text(digits: &[u8]) -> String {
    digits.iter().map(|&digit| char::from(digit)).collect()
}

/// Random digits, each equally likely: bytes that would favour some digits are dropped.
fn random_digits(count: usize) -> String {
    let mut digits = String::with_capacity(count);
    while digits.len() < count {
        let bytes: [u8; 32] = random_bytes();
        let fair = bytes.iter().filter(|&&byte| byte < 248);
        let fair = fair.map(|&byte| char::from(ALPHABET[usize::from(byte % 62)]));
        digits.extend(fair.take(count - digits.len()));
    }
    digits
}

#[expect(
    clippy::expect_used,
    reason = "without random numbers no token may be issued"
)]
fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random numbers");
    bytes
}
