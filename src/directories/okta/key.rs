//! The private key of the app, in whichever form Okta's console or a tool wrote it.

use secrecy::{ExposeSecret, SecretString};

use crate::directories::assertion::{Algorithm, Signer};
use crate::sources::Error;

/// What messages call it.
const PLACE: &str = "private_key";

/// Reads a key as PEM or JWK, with what Okta calls it where the key says so.
///
/// # Errors
/// When it is none, or none of a kind that Okta takes.
pub(super) fn read(text: &SecretString) -> Result<(Signer, Option<String>), Error> {
    let text = text.expose_secret().trim();
    if text.starts_with('{') {
        return Signer::from_jwk(PLACE, text);
    }
    let of = |algorithm| Signer::from_pem(PLACE, text.as_bytes(), algorithm);
    let is_ec = text.contains("-----BEGIN EC PRIVATE KEY-----");
    let signer = of(Algorithm::Rs256)
        .or_else(|rsa| of(Algorithm::Es256).map_err(|ec| if is_ec { ec } else { rsa }))?;
    Ok((signer, None))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const RSA: &str = include_str!("../../../tests/data/assertion/rsa.pem");
    const RSA_PKCS1: &str = include_str!("../../../tests/data/assertion/rsa-pkcs1.pem");
    const RSA_JWK: &str = include_str!("../../../tests/data/assertion/rsa.jwk");
    const EC: &str = include_str!("../../../tests/data/assertion/ec.pem");
    const EC_JWK: &str = include_str!("../../../tests/data/assertion/ec.jwk");
    const EC_SEC1: &str = include_str!("../../../tests/data/assertion/ec-sec1.pem");
    const ENCRYPTED: &str = include_str!("../../../tests/data/assertion/encrypted.pem");

    #[rstest]
    #[case::pkcs8(RSA, "Rs256", None)]
    #[case::pkcs1(RSA_PKCS1, "Rs256", None)]
    #[case::jwk(RSA_JWK, "Rs256", Some("k-rsa"))]
    #[case::set("{\"keys\": [KEY]}", "Rs256", Some("k-rsa"))]
    #[case::ec(EC, "Es256", None)]
    #[case::ec_jwk(EC_JWK, "Es256", Some("k-ec"))]
    fn each_form_is_read(#[case] text: &str, #[case] algorithm: &str, #[case] id: Option<&str>) {
        let text = text.replace("KEY]", &format!("{RSA_JWK}]"));
        let (signer, found) = read(&text.into()).unwrap();
        let shown = format!("Signer {{ algorithm: {algorithm}, .. }}");
        assert_eq!(format!("{signer:?}"), shown);
        assert_eq!(found.as_deref(), id);
    }

    #[rstest]
    #[case::encrypted(ENCRYPTED, "without a passphrase")]
    #[case::sec1(EC_SEC1, "in SEC1 (BEGIN EC PRIVATE KEY), and has to be in PKCS #8")]
    #[case::something_else("hidden", "there is no private key in it")]
    #[case::broken_json("{\"kty\": \"hidden", "no JSON Web Key")]
    fn what_is_no_key_is_refused_and_not_shown(#[case] text: &str, #[case] words: &str) {
        let error = read(&text.into()).unwrap_err().to_string();
        assert!(error.starts_with("private_key: "), "{error}");
        assert!(
            error.contains(words) && !error.contains("hidden"),
            "{error}"
        );
    }
}
