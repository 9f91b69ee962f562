//! Client assertions: signed JWTs in place of a client secret (RFC 7523 §2.2, `OpenID` Connect Core §9
//! `private_key_jwt`). Signed with ring, which TLS needs anyway. No message shows a key.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::{SecureRandom, SystemRandom};
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::upstream::Error;
use crate::upstream::http;

/// The value of the field `client_assertion_type` (RFC 7523 §2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Entra recommends five to ten minutes, Okta allows an hour.
const LIFETIME: TimeDelta = TimeDelta::minutes(5);

/// Advice for a key in a form that ring does not support (RFC 5915).
const SEC1_ADVICE: &str = "the private key is in SEC1 (BEGIN EC PRIVATE KEY), but must be in PKCS #8 \
                    (BEGIN PRIVATE KEY): convert it with openssl pkcs8 -topk8 -nocrypt -in KEY -out KEY8";

/// Signature algorithms (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
}

impl Algorithm {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
        }
    }

    fn required_key(self) -> &'static str {
        match self {
            Self::Rs256 | Self::Ps256 => "an RSA key of 2048 to 4096 bits",
            Self::Es256 => "an EC key on P-256, in PKCS #8",
        }
    }
}

/// A private key that signs assertions.
pub(super) struct Signer {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { algorithm, .. } = self;
        f.debug_struct("Signer")
            .field("algorithm", algorithm)
            .finish_non_exhaustive()
    }
}

pub(super) fn read_pem_file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.display().to_string(),
        source,
    })
}

impl Signer {
    /// Reads a key as PEM or JWK, with the `kid` of a JWK. Messages call the text `place`.
    ///
    /// # Errors
    /// When it is not an RSA or P-256 private key.
    pub fn parse(place: &str, text: &str) -> Result<(Self, Option<String>), Error> {
        let text = text.trim();
        if text.starts_with('{') {
            return Self::from_jwk(place, text);
        }
        let from_pem = |algorithm| Self::from_pem(place, text.as_bytes(), algorithm);
        let is_ec = text.contains("-----BEGIN EC PRIVATE KEY-----");
        let signer = from_pem(Algorithm::Rs256).or_else(|rsa_error| {
            from_pem(Algorithm::Es256).map_err(|ec_error| if is_ec { ec_error } else { rsa_error })
        })?;
        Ok((signer, None))
    }

    /// The first private key in a PEM text: PKCS #8, or PKCS #1 for an RSA key. Messages call the text `place`:
    /// its file, or `private_key`.
    ///
    /// # Errors
    /// When there is no private key, it is encrypted, or it does not fit the algorithm.
    pub fn from_pem(place: &str, pem: &[u8], algorithm: Algorithm) -> Result<Self, Error> {
        let refused = |reason: String| Error::content(place, reason);
        let found = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
            let form =
                "use a PEM key without a passphrase, which starts with -----BEGIN PRIVATE KEY-----";
            refused(format!("it has no private key; {form}"))
        })?;
        let key = match (algorithm, &found) {
            (Algorithm::Rs256 | Algorithm::Ps256, PrivateKeyDer::Pkcs8(der)) => {
                RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map(Key::Rsa)
            }
            (Algorithm::Rs256 | Algorithm::Ps256, PrivateKeyDer::Pkcs1(der)) => {
                RsaKeyPair::from_der(der.secret_pkcs1_der()).map(Key::Rsa)
            }
            (Algorithm::Es256, PrivateKeyDer::Pkcs8(der)) => {
                let random = SystemRandom::new();
                let der = der.secret_pkcs8_der();
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
                    .map(Key::Ec)
            }
            (Algorithm::Es256, PrivateKeyDer::Sec1(_)) => {
                return Err(refused(SEC1_ADVICE.to_owned()));
            }
            _ => return Err(refused(wrong_key_message(algorithm))),
        };
        let key = key.map_err(|_| refused(wrong_key_message(algorithm)))?;
        Ok(Self { algorithm, key })
    }

    /// The key of a JWK, or of a set with one key, and its `kid`. An RSA key signs with RS256, a P-256 key with
    /// ES256. Messages call the text `place`.
    ///
    /// # Errors
    /// When it is not a JWK, a set of several, a public key, or of another kind.
    fn from_jwk(place: &str, text: &str) -> Result<(Self, Option<String>), Error> {
        let refused = |reason: String| Error::content(place, reason);
        let jwk = parse_single_key(text).map_err(refused)?;
        let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => (Algorithm::Rs256, jwk.rsa().map_err(refused)?),
            ("EC", Some("P-256")) => (Algorithm::Es256, jwk.ec().map_err(refused)?),
            _ => {
                let supported = "an RSA key of 2048 to 4096 bits, or an EC key on P-256";
                return Err(refused(format!(
                    "it is a key of another kind; use {supported}"
                )));
            }
        };
        let signer = Self { algorithm, key };
        // Signing fails if the numbers of a key do not belong together.
        signer
            .signature(b"")
            .map_err(|_| refused(wrong_key_message(algorithm)))?;
        Ok((signer, jwk.kid))
    }

    /// Signs an assertion in compact form (RFC 7515 §7.1). `header` has the fields besides `alg` and `typ`,
    /// such as `kid`.
    pub fn sign(&self, header: &[(&str, &str)], claims: &Value) -> Result<String, http::Error> {
        let mut all = Map::new();
        all.insert("alg".to_owned(), self.algorithm.as_str().into());
        all.insert("typ".to_owned(), "JWT".into());
        for (name, value) in header {
            all.insert((*name).to_owned(), (*value).into());
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&Value::Object(all)), part(claims));
        let signature = self.signature(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, http::Error> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Rsa(key) => {
                let padding: &dyn ring::signature::RsaEncoding = match self.algorithm {
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(padding, &random, message, &mut signature);
                signed.map(|()| signature)
            }
            Key::Ec(key) => {
                let signed = key.sign(&random, message);
                signed.map(|signature| signature.as_ref().to_vec())
            }
        }
        .map_err(|_| http::Error::CannotSign)
    }
}

fn wrong_key_message(algorithm: Algorithm) -> String {
    let (required, name) = (algorithm.required_key(), algorithm.as_str());
    format!("the private key does not fit {name}, which needs {required}")
}

/// Claims of a client for the token endpoint `audience` (RFC 7523 §3).
pub(super) fn new_claims(
    client_id: &str,
    audience: &str,
    now: DateTime<Utc>,
) -> Result<Value, http::Error> {
    let mut id = [0; 16];
    let filled = SystemRandom::new().fill(&mut id);
    filled.map_err(|_| http::Error::CannotSign)?;
    Ok(json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": URL_SAFE_NO_PAD.encode(id),
        "iat": now.timestamp(),
        "nbf": now.timestamp(),
        "exp": (now + LIFETIME).timestamp(),
    }))
}

/// The length of a P-256 integer, in bytes.
const P256_BYTES: usize = 32;

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The key of a text with exactly one key.
fn parse_single_key(text: &str) -> Result<Jwk, String> {
    let form = "write one key, as {\"kty\": \"RSA\", …}";
    if let Ok(KeySet { mut keys }) = serde_json::from_str(text) {
        let count = keys.len();
        let last = keys.pop().filter(|_| count == 1);
        return last.ok_or_else(|| format!("it is a set of {count} keys; {form}"));
    }
    serde_json::from_str(text).map_err(|_| format!("it is not a JSON Web Key; {form}"))
}

impl Jwk {
    fn rsa(&self) -> Result<Key, String> {
        let public_key = PublicKeyComponents {
            n: decode_integer("n", self.n.as_ref())?,
            e: decode_integer("e", self.e.as_ref())?,
        };
        let components = KeyPairComponents {
            public_key,
            d: decode_integer("d", self.d.as_ref())?,
            p: decode_integer("p", self.p.as_ref())?,
            q: decode_integer("q", self.q.as_ref())?,
            dP: decode_integer("dp", self.dp.as_ref())?,
            dQ: decode_integer("dq", self.dq.as_ref())?,
            qInv: decode_integer("qi", self.qi.as_ref())?,
        };
        let key = RsaKeyPair::from_components(&components);
        key.map(Key::Rsa)
            .map_err(|_| wrong_key_message(Algorithm::Rs256))
    }

    fn ec(&self) -> Result<Key, String> {
        let private = pad_to_p256(&decode_integer("d", self.d.as_ref())?)?;
        let mut public = vec![4];
        public.extend(pad_to_p256(&decode_integer("x", self.x.as_ref())?)?);
        public.extend(pad_to_p256(&decode_integer("y", self.y.as_ref())?)?);
        let key = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &private,
            &public,
            &SystemRandom::new(),
        );
        key.map(Key::Ec)
            .map_err(|_| wrong_key_message(Algorithm::Es256))
    }
}

/// Decodes an integer without leading zeros, which some tools write and ring rejects.
fn decode_integer(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| {
        format!("the key lacks {name:?}; write the private key with all its members")
    })?;
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    let bytes = bytes.map_err(|_| format!("{name:?} of the key is not base64url"))?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].to_vec())
}

fn pad_to_p256(number: &[u8]) -> Result<Vec<u8>, String> {
    let zeros = P256_BYTES.checked_sub(number.len());
    let mut padded = vec![0; zeros.ok_or_else(|| wrong_key_message(Algorithm::Es256))?];
    padded.extend(number);
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use ring::signature::RSA_PSS_2048_8192_SHA256;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256};
    use ring::signature::{KeyPair as _, UnparsedPublicKey, VerificationAlgorithm};
    use rstest::rstest;

    use super::*;

    const RSA: &str = include_str!("../../tests/data/assertion/rsa.pem");
    const RSA_PKCS1: &str = include_str!("../../tests/data/assertion/rsa-pkcs1.pem");
    const EC: &str = include_str!("../../tests/data/assertion/ec.pem");
    const RSA_JWK: &str = include_str!("../../tests/data/assertion/rsa.jwk");
    const EC_JWK: &str = include_str!("../../tests/data/assertion/ec.jwk");
    const EC_SEC1: &str = include_str!("../../tests/data/assertion/ec-sec1.pem");
    const ENCRYPTED: &str = include_str!("../../tests/data/assertion/encrypted.pem");

    fn now() -> DateTime<Utc> {
        "2026-11-22T06:30:00Z".parse().unwrap()
    }

    fn public(signer: &Signer) -> Vec<u8> {
        match &signer.key {
            Key::Rsa(key) => key.public_key().as_ref().to_vec(),
            Key::Ec(key) => key.public_key().as_ref().to_vec(),
        }
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[rstest]
    #[case(Algorithm::Rs256, RSA, &RSA_PKCS1_2048_8192_SHA256)]
    #[case(Algorithm::Ps256, RSA, &RSA_PSS_2048_8192_SHA256)]
    #[case(Algorithm::Ps256, RSA_PKCS1, &RSA_PSS_2048_8192_SHA256)]
    #[case(Algorithm::Es256, EC, &ECDSA_P256_SHA256_FIXED)]
    fn the_public_key_verifies_a_signature(
        #[case] algorithm: Algorithm,
        #[case] pem: &str,
        #[case] verification: &'static dyn VerificationAlgorithm,
    ) {
        let signer = Signer::from_pem("key.pem", pem.as_bytes(), algorithm).unwrap();
        let claims = new_claims("app", "https://login.example.org/token", now()).unwrap();
        let jwt = signer.sign(&[("kid", "k1")], &claims).unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let (header, body) = signed.split_once('.').unwrap();
        let name = algorithm.as_str();
        assert_eq!(
            decoded(header),
            json!({"alg": name, "typ": "JWT", "kid": "k1"})
        );
        assert_eq!(decoded(body), claims);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(verification, public(&signer));
        key.verify(signed.as_bytes(), &signature).unwrap();
        assert!(key.verify(b"another", &signature).is_err());
    }

    #[test]
    fn the_claims_name_client_audience_and_lifetime() {
        let claims = new_claims("app", "https://login.example.org/token", now()).unwrap();
        assert_eq!(claims["iss"], "app");
        assert_eq!(claims["sub"], "app");
        assert_eq!(claims["aud"], "https://login.example.org/token");
        let at = |name: &str| claims[name].as_i64().unwrap();
        assert_eq!(
            (at("iat"), at("nbf")),
            (now().timestamp(), now().timestamp())
        );
        assert_eq!(at("exp") - at("nbf"), 300);
    }

    #[test]
    fn every_assertion_has_its_own_id() {
        let id =
            || new_claims("app", "https://login.example.org/token", now()).unwrap()["jti"].clone();
        assert_ne!(id(), id());
    }

    #[rstest]
    #[case(Algorithm::Ps256, "", "it has no private key")]
    #[case(Algorithm::Ps256, ENCRYPTED, "without a passphrase")]
    #[case(Algorithm::Ps256, EC, "which needs an RSA key of 2048 to 4096 bits")]
    #[case(
        Algorithm::Ps256,
        EC_SEC1,
        "which needs an RSA key of 2048 to 4096 bits"
    )]
    #[case(
        Algorithm::Es256,
        EC_SEC1,
        "with openssl pkcs8 -topk8 -nocrypt -in KEY -out KEY8"
    )]
    #[case(Algorithm::Es256, RSA, "which needs an EC key on P-256, in PKCS #8")]
    #[case(
        Algorithm::Es256,
        RSA_PKCS1,
        "which needs an EC key on P-256, in PKCS #8"
    )]
    fn an_unusable_key_is_refused_with_advice(
        #[case] algorithm: Algorithm,
        #[case] pem: &str,
        #[case] expected: &str,
    ) {
        let error = Signer::from_pem("key.pem", pem.as_bytes(), algorithm).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("key.pem: "), "{message}");
        assert!(message.contains(expected), "{message}");
        let secret = pem.lines().nth(1).unwrap_or("no such line");
        assert!(!message.contains(secret), "{message}");
    }

    #[test]
    fn debug_output_does_not_show_the_key() {
        let signer = Signer::from_pem("key.pem", RSA.as_bytes(), Algorithm::Ps256).unwrap();
        assert_eq!(format!("{signer:?}"), "Signer { algorithm: Ps256, .. }");
    }

    #[rstest]
    #[case::pkcs8(RSA, "Rs256", None)]
    #[case::pkcs1(RSA_PKCS1, "Rs256", None)]
    #[case::jwk(RSA_JWK, "Rs256", Some("k-rsa"))]
    #[case::set("{\"keys\": [KEY]}", "Rs256", Some("k-rsa"))]
    #[case::ec(EC, "Es256", None)]
    #[case::ec_jwk(EC_JWK, "Es256", Some("k-ec"))]
    fn each_form_is_read(#[case] text: &str, #[case] algorithm: &str, #[case] id: Option<&str>) {
        let text = text.replace("KEY]", &format!("{RSA_JWK}]"));
        let (signer, found) = Signer::parse("private_key", &text).unwrap();
        let shown = format!("Signer {{ algorithm: {algorithm}, .. }}");
        assert_eq!(format!("{signer:?}"), shown);
        assert_eq!(found.as_deref(), id);
    }

    #[rstest]
    #[case::encrypted(ENCRYPTED, "without a passphrase")]
    #[case::sec1(EC_SEC1, "in SEC1 (BEGIN EC PRIVATE KEY), but must be in PKCS #8")]
    #[case::something_else("hidden", "it has no private key")]
    #[case::broken_json("{\"kty\": \"hidden", "not a JSON Web Key")]
    fn an_unreadable_key_is_refused_and_not_shown(#[case] text: &str, #[case] expected: &str) {
        let error = Signer::parse("private_key", text).unwrap_err().to_string();
        assert!(error.starts_with("private_key: "), "{error}");
        assert!(
            error.contains(expected) && !error.contains("hidden"),
            "{error}"
        );
    }

    /// The RSA key with one member changed.
    fn with(name: &str, value: &Value) -> String {
        let mut jwk: Value = serde_json::from_str(RSA_JWK).unwrap();
        jwk[name] = value.clone();
        jwk.to_string()
    }

    fn without(name: &str) -> String {
        let mut jwk: Value = serde_json::from_str(RSA_JWK).unwrap();
        jwk.as_object_mut().unwrap().remove(name).unwrap();
        jwk.to_string()
    }

    #[test]
    fn a_jwk_and_a_pem_of_one_key_sign_identically() {
        let (jwk, kid) = Signer::from_jwk("private_key", RSA_JWK).unwrap();
        let pem = Signer::from_pem("key.pem", RSA.as_bytes(), Algorithm::Rs256).unwrap();
        assert_eq!(kid.as_deref(), Some("k-rsa"));
        let claims = Value::from("claims");
        assert_eq!(
            jwk.sign(&[], &claims).unwrap(),
            pem.sign(&[], &claims).unwrap()
        );
    }

    #[test]
    fn a_p_256_key_signs_what_its_public_half_verifies() {
        use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
        let (signer, kid) = Signer::from_jwk("private_key", EC_JWK).unwrap();
        assert_eq!(kid.as_deref(), Some("k-ec"));
        let jwk: Jwk = serde_json::from_str(EC_JWK).unwrap();
        let mut public = vec![4];
        public.extend(decode_integer("x", jwk.x.as_ref()).unwrap());
        public.extend(decode_integer("y", jwk.y.as_ref()).unwrap());
        let jwt = signer.sign(&[], &Value::from("claims")).unwrap();
        let (message, signature) = jwt.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        key.verify(message.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn leading_zeros_do_not_matter() {
        let jwk: Jwk = serde_json::from_str(RSA_JWK).unwrap();
        let mut bytes = vec![0];
        bytes.extend(decode_integer("p", jwk.p.as_ref()).unwrap());
        let padded = with("p", &format!("{}=", URL_SAFE_NO_PAD.encode(bytes)).into());
        assert!(Signer::from_jwk("private_key", &padded).is_ok());
    }

    #[rstest]
    #[case::no_json("{\"kty\"".to_owned(), "it is not a JSON Web Key")]
    #[case::a_list(format!("[{RSA_JWK}]"), "it is not a JSON Web Key")]
    #[case::a_set(format!("{{\"keys\": [{RSA_JWK}, {EC_JWK}]}}"), "it is a set of 2 keys; write one key")]
    #[case::an_empty_set("{\"keys\": []}".to_owned(), "it is a set of 0 keys; write one key")]
    #[case::a_public_set(format!("{{\"keys\": [{}]}}", without("d")), "lacks \"d\"")]
    #[case::public(without("d"), "lacks \"d\"; write the private key")]
    #[case::half(without("qi"), "lacks \"qi\"")]
    #[case::no_base64(with("p", &"a+b".into()), "\"p\" of the key is not base64url")]
    #[case::mixed_up(with("dp", &"AQ".into()), "which needs an RSA key of 2048 to 4096 bits")]
    #[case::small(with("n", &"AQ".into()), "which needs an RSA key of 2048 to 4096 bits")]
    #[case::symmetric("{\"kty\": \"oct\", \"k\": \"AQ\"}".to_owned(), "it is a key of another kind")]
    #[case::other_curve(EC_JWK.replace("P-256", "P-384"), "it is a key of another kind")]
    #[case::another_public_half(EC_JWK.replace("\"x\"", "\"z\"").replace("\"y\"", "\"x\"").replace("\"z\"", "\"y\""), "an EC key on P-256")]
    #[case::too_long(EC_JWK.replace("\"d\": \"", "\"d\": \"____"), "an EC key on P-256")]
    fn an_unusable_jwk_is_refused_with_advice(#[case] text: String, #[case] expected: &str) {
        let error = Signer::from_jwk("private_key", &text).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("private_key: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}
