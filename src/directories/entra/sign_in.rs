//! How a program signs in at Entra ID: OAuth 2.0 client credentials with a secret or with a certificate.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use reqwest::Method;
use reqwest::header::HeaderValue;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Config, Credential};
use crate::clock::Clock;
use crate::directories::assertion::{self, ASSERTION_TYPE, Algorithm, Signer};
use crate::directories::grant::Grants;
use crate::sources::Error;
use crate::web::{self, Web};

/// A program that is registered in a tenant.
#[derive(Debug)]
pub(super) struct SignIn {
    web: Web,
    grants: Grants,
    path: String,
    client_id: String,
    scope: String,
    proof: Proof,
    pub clock: Clock,
}

/// By what it shows who it is.
#[derive(Debug)]
enum Proof {
    Secret(SecretString),
    Certificate {
        signer: Box<Signer>,
        /// SHA-256 of the certificate, by which Entra ID finds it (`x5t#S256`, RFC 7515 §4.1.8).
        thumbprint: String,
        /// Where the assertion goes, and may be used.
        audience: String,
    },
}

/// Why no access token was granted (RFC 6749 §5.2, with the numbers that Microsoft adds).
#[derive(Debug, Deserialize)]
struct Refused {
    error: Option<String>,
    #[serde(default)]
    error_codes: Vec<u64>,
}

impl SignIn {
    /// # Errors
    /// When the certificate cannot be read or does not do.
    pub fn new(config: &Config, web: Web) -> Result<Self, Error> {
        let path = format!("{}/oauth2/v2.0/token", config.tenant);
        let proof = match &config.credential {
            Credential::Secret(secret) => Proof::Secret(secret.clone()),
            Credential::Certificate(file) => {
                let audience = format!("{}/{path}", config.cloud.login());
                certificate(file, audience)?
            }
        };
        Ok(Self {
            web,
            grants: Grants::default(),
            path,
            client_id: config.client_id.clone(),
            scope: format!("{}/.default", config.cloud.graph()),
            proof,
            clock: Clock::system(),
        })
    }

    /// The value of an Authorization header.
    ///
    /// # Errors
    /// When Entra ID grants no access token; then the words say what to mend.
    pub async fn bearer(&self) -> Result<HeaderValue, Error> {
        let form = || self.form(self.clock.now());
        let granted = self.grants.bearer(&self.web, &self.path, form).await;
        match granted {
            Ok(bearer) => Ok(bearer),
            Err(error) => Err(self.explained(error).await),
        }
    }

    /// Graph no longer takes the access token.
    pub async fn forget(&self) {
        self.grants.forget().await;
    }

    fn form(&self, now: DateTime<Utc>) -> Result<Vec<(&'static str, String)>, web::Error> {
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", self.client_id.clone()),
            ("scope", self.scope.clone()),
        ];
        match &self.proof {
            Proof::Secret(secret) => {
                form.push(("client_secret", secret.expose_secret().to_owned()));
            }
            Proof::Certificate {
                signer,
                thumbprint,
                audience,
            } => {
                let claims = assertion::claims(&self.client_id, audience, now)?;
                let assertion = signer.sign(&[("x5t#S256", thumbprint)], &claims)?;
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", assertion));
            }
        }
        Ok(form)
    }

    /// A refusal in words that help. Why it was, only the body says, which is asked for once more.
    async fn explained(&self, error: web::Error) -> Error {
        let Some(status) = error.status().filter(reqwest::StatusCode::is_client_error) else {
            return error.into();
        };
        let Ok(form) = self.form(self.clock.now()) else {
            return error.into();
        };
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let request = self.web.request(Method::POST, &self.path).form(&form);
        match request.refusal::<Refused>().await {
            Some(refused) => Error::Rights {
                what: format!("Entra ID grants no access token ({})", refused.name(status)),
                mend: refused.mend(),
            },
            None => error.into(),
        }
    }
}

impl Refused {
    /// `invalid_client, AADSTS7000215`, and nothing else of the answer.
    fn name(&self, status: reqwest::StatusCode) -> String {
        let is_plain = |word: &&String| {
            word.len() <= 40 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        let error = self.error.as_ref().filter(is_plain);
        let error = error.map_or_else(|| status.as_u16().to_string(), String::clone);
        match self.error_codes.first() {
            Some(code) => format!("{error}, AADSTS{code}"),
            None => error,
        }
    }

    /// What to do about it
    /// (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>).
    fn mend(&self) -> String {
        let Some(code) = self.error_codes.first() else {
            return "correct tenant, client_id and the secret or certificate".to_owned();
        };
        match code {
            7_000_215 => {
                "the secret is wrong: write its value as client_secret, not its id"
            }
            7_000_222 => {
                "the secret has expired: create another (Certificates & secrets) and write it as client_secret"
            }
            700_016 => {
                "the tenant knows no such program: correct client_id (Application (client) ID) and tenant"
            }
            90_002 | 900_021 | 900_023 => {
                "there is no such tenant in this cloud: correct tenant (Directory (tenant) ID), or name its cloud"
            }
            700_027 | 7_000_214 | 700_030 => {
                "the certificate is not one of the program's, or has expired: upload it (Certificates & secrets), \
                 or name the right one as certificate"
            }
            700_024 => "the clock of this machine is wrong: set it",
            7_000_229 => "the program is not there in the tenant: let an administrator consent to it",
            7_000_112 => "the program is switched off in the tenant: enable it (Enterprise applications)",
            53_003 => "a Conditional Access policy keeps the program out: let it in",
            _ => return format!("see https://login.microsoftonline.com/error?code={code}"),
        }
        .to_owned()
    }
}

/// Key and certificate of one PEM file.
fn certificate(file: &Path, audience: String) -> Result<Proof, Error> {
    let place = file.display().to_string();
    let pem = assertion::read(file)?;
    let signer = Signer::from_pem(&place, &pem, Algorithm::Ps256)?;
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| Error::Content {
        place,
        reason:
            "there is a key in it and no certificate; write both into it, the key first or last"
                .to_owned(),
    })?;
    Ok(Proof::Certificate {
        signer: Box::new(signer),
        thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)),
        audience,
    })
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case(7_000_215, "write its value as client_secret, not its id")]
    #[case(7_000_222, "the secret has expired")]
    #[case(700_016, "correct client_id")]
    #[case(90_002, "there is no such tenant in this cloud")]
    #[case(700_027, "upload it")]
    #[case(50_058, "see https://login.microsoftonline.com/error?code=50058")]
    fn a_refusal_says_what_to_mend(#[case] code: u64, #[case] words: &str) {
        let answer = json!({
            "error": "invalid_client", "error_codes": [code], "trace_id": "0b1",
            "error_description": format!("AADSTS{code}: the secret 's3cret' is wrong")
        });
        let refused: Refused = serde_json::from_value(answer).unwrap();
        assert!(refused.mend().contains(words), "{}", refused.mend());
        let name = refused.name(StatusCode::UNAUTHORIZED);
        assert_eq!(name, format!("invalid_client, AADSTS{code}"));
    }

    #[rstest]
    #[case(json!({}), "400")]
    #[case(json!({"error": "invalid_client"}), "invalid_client")]
    #[case(json!({"error": "the secret 's3cret' is wrong"}), "400")]
    fn a_refusal_of_another_form_shows_no_content(#[case] answer: Value, #[case] name: &str) {
        let refused: Refused = serde_json::from_value(answer).unwrap();
        assert_eq!(refused.name(StatusCode::BAD_REQUEST), name);
        assert!(refused.mend().contains("tenant, client_id"));
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/assertion/rsa-pkcs1.pem");
        let error = certificate(&file, String::new()).unwrap_err().to_string();
        assert!(
            error.contains("there is a key in it and no certificate"),
            "{error}"
        );
    }
}
