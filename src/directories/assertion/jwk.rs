//! Private keys as JSON Web Keys (RFC 7517; members in RFC 7518 §6).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use serde::Deserialize;

use super::{Algorithm, Key, Signer, wrong_key_message};
use crate::sources::Error;

/// The length of a P-256 integer, in bytes.
const P256_BYTES: usize = 32;

/// RFC 7517 §5.
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

impl Signer {
    /// The key of a JWK, or of a set with one key, and its `kid`. An RSA key signs with RS256, a P-256 key with
    /// ES256. Messages call the text `place`.
    ///
    /// # Errors
    /// When it is not a JWK, a set of several, a public key, or of another kind.
    pub fn from_jwk(place: &str, text: &str) -> Result<(Self, Option<String>), Error> {
        let refused = |reason: String| Error::Content {
            place: place.to_owned(),
            reason,
        };
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
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    const RSA: &str = include_str!("../../../tests/data/assertion/rsa.jwk");
    const RSA_PEM: &str = include_str!("../../../tests/data/assertion/rsa.pem");
    const EC: &str = include_str!("../../../tests/data/assertion/ec.jwk");

    /// The RSA key with one member changed.
    fn with(name: &str, value: &Value) -> String {
        let mut jwk: Value = serde_json::from_str(RSA).unwrap();
        jwk[name] = value.clone();
        jwk.to_string()
    }

    fn without(name: &str) -> String {
        let mut jwk: Value = serde_json::from_str(RSA).unwrap();
        jwk.as_object_mut().unwrap().remove(name).unwrap();
        jwk.to_string()
    }

    #[test]
    fn a_jwk_and_a_pem_of_one_key_sign_identically() {
        let (jwk, kid) = Signer::from_jwk("private_key", RSA).unwrap();
        let pem = Signer::from_pem("key.pem", RSA_PEM.as_bytes(), Algorithm::Rs256).unwrap();
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
        let (signer, kid) = Signer::from_jwk("private_key", EC).unwrap();
        assert_eq!(kid.as_deref(), Some("k-ec"));
        let jwk: Jwk = serde_json::from_str(EC).unwrap();
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
        let jwk: Jwk = serde_json::from_str(RSA).unwrap();
        let mut bytes = vec![0];
        bytes.extend(decode_integer("p", jwk.p.as_ref()).unwrap());
        let padded = with("p", &format!("{}=", URL_SAFE_NO_PAD.encode(bytes)).into());
        assert!(Signer::from_jwk("private_key", &padded).is_ok());
    }

    #[rstest]
    #[case::no_json("{\"kty\"".to_owned(), "it is not a JSON Web Key")]
    #[case::a_list(format!("[{RSA}]"), "it is not a JSON Web Key")]
    #[case::a_set(format!("{{\"keys\": [{RSA}, {EC}]}}"), "it is a set of 2 keys; write one key")]
    #[case::an_empty_set("{\"keys\": []}".to_owned(), "it is a set of 0 keys; write one key")]
    #[case::a_public_set(format!("{{\"keys\": [{}]}}", without("d")), "lacks \"d\"")]
    #[case::public(without("d"), "lacks \"d\"; write the private key")]
    #[case::half(without("qi"), "lacks \"qi\"")]
    #[case::no_base64(with("p", &"a+b".into()), "\"p\" of the key is not base64url")]
    #[case::mixed_up(with("dp", &"AQ".into()), "which needs an RSA key of 2048 to 4096 bits")]
    #[case::small(with("n", &"AQ".into()), "which needs an RSA key of 2048 to 4096 bits")]
    #[case::symmetric("{\"kty\": \"oct\", \"k\": \"AQ\"}".to_owned(), "it is a key of another kind")]
    #[case::other_curve(EC.replace("P-256", "P-384"), "it is a key of another kind")]
    #[case::another_public_half(EC.replace("\"x\"", "\"z\"").replace("\"y\"", "\"x\"").replace("\"z\"", "\"y\""), "an EC key on P-256")]
    #[case::too_long(EC.replace("\"d\": \"", "\"d\": \"____"), "an EC key on P-256")]
    fn an_unusable_key_is_refused_with_advice(#[case] text: String, #[case] expected: &str) {
        let error = Signer::from_jwk("private_key", &text).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("private_key: "), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}
