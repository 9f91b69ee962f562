//! Access tokens of Entra ID: OAuth 2.0 client credentials with a secret or a certificate.

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
use crate::directories::access_tokens::AccessTokens;
use crate::directories::assertion::{self, ASSERTION_TYPE, Algorithm, Signer};
use crate::sources::Error;
use crate::upstream::http::{self, Client};

#[derive(Debug)]
pub(super) struct SignIn {
    web: Client,
    access_tokens: AccessTokens,
    path: String,
    client_id: String,
    scope: String,
    proof: ClientProof,
    pub clock: Clock,
}

#[derive(Debug)]
enum ClientProof {
    Secret(SecretString),
    Certificate {
        signer: Box<Signer>,
        /// SHA-256 of the certificate, by which Entra ID finds it (`x5t#S256`, RFC 7515 §4.1.8).
        thumbprint: String,
        /// The `aud` of assertions.
        audience: String,
    },
}

/// A refused access token (RFC 6749 §5.2, with Microsoft's error numbers).
#[derive(Debug, Deserialize)]
struct TokenRefusal {
    error: Option<String>,
    #[serde(default)]
    error_codes: Vec<u64>,
}

impl SignIn {
    /// # Errors
    /// When the certificate cannot be read or used.
    pub fn new(config: &Config, web: Client) -> Result<Self, Error> {
        let path = format!("{}/oauth2/v2.0/token", config.tenant);
        let proof = match &config.credential {
            Credential::Secret(secret) => ClientProof::Secret(secret.clone()),
            Credential::Certificate(file) => {
                let audience = format!("{}/{path}", config.cloud.login_url());
                load_certificate(file, audience)?
            }
        };
        Ok(Self {
            web,
            access_tokens: AccessTokens::default(),
            path,
            client_id: config.client_id.clone(),
            scope: format!("{}/.default", config.cloud.graph_url()),
            proof,
            clock: Clock::system(),
        })
    }

    /// The value of an Authorization header.
    pub async fn bearer(&self) -> Result<HeaderValue, Error> {
        let form = || self.form(self.clock.now());
        let granted = self.access_tokens.bearer(&self.web, &self.path, form).await;
        match granted {
            Ok(bearer) => Ok(bearer),
            Err(error) => Err(self.explain_token_refusal(error).await),
        }
    }

    /// Drops the access token because Graph rejected it.
    pub async fn forget(&self) {
        self.access_tokens.forget().await;
    }

    fn form(&self, now: DateTime<Utc>) -> Result<Vec<(&'static str, String)>, http::Error> {
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", self.client_id.clone()),
            ("scope", self.scope.clone()),
        ];
        match &self.proof {
            ClientProof::Secret(secret) => {
                form.push(("client_secret", secret.expose_secret().to_owned()));
            }
            ClientProof::Certificate {
                signer,
                thumbprint,
                audience,
            } => {
                let claims = assertion::new_claims(&self.client_id, audience, now)?;
                let assertion = signer.sign(&[("x5t#S256", thumbprint)], &claims)?;
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", assertion));
            }
        }
        Ok(form)
    }

    /// Adds advice to a refusal. Only the body has the reason, so the request is sent once more.
    async fn explain_token_refusal(&self, error: http::Error) -> Error {
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
        match request.refusal_json::<TokenRefusal>().await {
            Some(refusal) => Error::Rights {
                what: format!(
                    "Entra ID grants no access token ({})",
                    refusal.label(status)
                ),
                fix: refusal.fix(),
            },
            None => error.into(),
        }
    }
}

impl TokenRefusal {
    /// `invalid_client, AADSTS7000215`, and nothing else of the response.
    fn label(&self, status: reqwest::StatusCode) -> String {
        let is_plain = |text: &&String| {
            text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        let error = self.error.as_ref().filter(is_plain);
        let error = error.map_or_else(|| status.as_u16().to_string(), String::clone);
        match self.error_codes.first() {
            Some(code) => format!("{error}, AADSTS{code}"),
            None => error,
        }
    }

    /// See <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.
    fn fix(&self) -> String {
        let Some(code) = self.error_codes.first() else {
            return "correct tenant, client_id and the secret or certificate".to_owned();
        };
        match code {
            7_000_215 => {
                "the secret is wrong: set client_secret to its value, not its id"
            }
            7_000_222 => {
                "the secret has expired: create another (Certificates & secrets) and set client_secret to it"
            }
            700_016 => {
                "the tenant has no such application: correct client_id (Application (client) ID) and tenant"
            }
            90_002 | 900_021 | 900_023 => {
                "there is no such tenant in this cloud: correct tenant (Directory (tenant) ID), or set cloud"
            }
            700_027 | 7_000_214 | 700_030 => {
                "the certificate is not registered for the application, or has expired: upload it \
                 (Certificates & secrets), or set certificate to the right one"
            }
            700_024 => "the clock of this machine is wrong: set it",
            7_000_229 => "the application is not in the tenant: have an administrator consent to it",
            7_000_112 => "the application is disabled in the tenant: enable it (Enterprise applications)",
            53_003 => "a Conditional Access policy blocks the application: allow it",
            _ => return format!("see https://login.microsoftonline.com/error?code={code}"),
        }
        .to_owned()
    }
}

/// Reads a key and a certificate from one PEM file.
fn load_certificate(file: &Path, audience: String) -> Result<ClientProof, Error> {
    let place = file.display().to_string();
    let pem = assertion::read_pem_file(file)?;
    let signer = Signer::from_pem(&place, &pem, Algorithm::Ps256)?;
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| Error::Content {
        place,
        reason: "the file has a key but no certificate; put both into it, in any order".to_owned(),
    })?;
    Ok(ClientProof::Certificate {
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
    #[case(7_000_215, "set client_secret to its value, not its id")]
    #[case(7_000_222, "the secret has expired")]
    #[case(700_016, "correct client_id")]
    #[case(90_002, "there is no such tenant in this cloud")]
    #[case(700_027, "upload it")]
    #[case(50_058, "see https://login.microsoftonline.com/error?code=50058")]
    fn a_refusal_says_how_to_fix_it(#[case] code: u64, #[case] expected: &str) {
        let answer = json!({
            "error": "invalid_client", "error_codes": [code], "trace_id": "0b1",
            "error_description": format!("AADSTS{code}: the secret 's3cret' is wrong")
        });
        let refusal: TokenRefusal = serde_json::from_value(answer).unwrap();
        assert!(refusal.fix().contains(expected), "{}", refusal.fix());
        let name = refusal.label(StatusCode::UNAUTHORIZED);
        assert_eq!(name, format!("invalid_client, AADSTS{code}"));
    }

    #[rstest]
    #[case(json!({}), "400")]
    #[case(json!({"error": "invalid_client"}), "invalid_client")]
    #[case(json!({"error": "the secret 's3cret' is wrong"}), "400")]
    fn an_unknown_refusal_shows_no_content(#[case] answer: Value, #[case] name: &str) {
        let refusal: TokenRefusal = serde_json::from_value(answer).unwrap();
        assert_eq!(refusal.label(StatusCode::BAD_REQUEST), name);
        assert!(refusal.fix().contains("tenant, client_id"));
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/assertion/rsa-pkcs1.pem");
        let error = load_certificate(&file, String::new())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the file has a key but no certificate"),
            "{error}"
        );
    }
}
