//! Access tokens of Entra ID: OAuth 2.0 client credentials with a secret or a certificate.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::directories::assertion::{self, ASSERTION_TYPE, Algorithm, Signer};
use crate::upstream::Error;
use crate::upstream::http::{self, Client};
use crate::upstream::session::{Grant, SignIn, request_access_token};

#[derive(Debug, Clone)]
pub enum Credential {
    Secret(SecretString),
    /// A PEM file with a private RSA key and the registered certificate.
    Certificate(PathBuf),
}

/// Microsoft's clouds, each with its own hosts
/// (<https://learn.microsoft.com/graph/deployments>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    #[default]
    Global,
    /// US Government L4.
    Us,
    /// US Government L5 (`DoD`).
    UsDod,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// As written in the configuration.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("global", Self::Global),
        ("us", Self::Us),
        ("us-dod", Self::UsDod),
        ("china", Self::China),
    ];

    pub(super) fn login_url(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com",
            Self::Us | Self::UsDod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    pub fn graph_url(self) -> &'static str {
        match self {
            Self::Global => "https://graph.microsoft.com",
            Self::Us => "https://graph.microsoft.us",
            Self::UsDod => "https://dod-graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }
}

#[derive(Debug)]
pub(super) struct Application {
    web: Client,
    path: String,
    client_id: String,
    scope: String,
    proof: ClientProof,
    clock: Clock,
}

#[derive(Debug)]
enum ClientProof {
    Secret(SecretString),
    Certificate {
        signer: Box<Signer>,
        /// SHA-256 of the certificate, by which Entra ID finds it (`x5t#S256`, RFC 7515 §4.1.8).
        thumbprint: String,
        /// The `aud` of assertions: the URL of the token endpoint.
        audience: String,
    },
}

/// A refused access token (RFC 6749 §5.2, with Microsoft's error numbers).
#[derive(Debug, Default, Deserialize)]
struct TokenRefusal {
    error: Option<String>,
    #[serde(default)]
    error_codes: Vec<u64>,
}

impl SignIn for Application {
    async fn sign_in(&self) -> Result<Grant, Error> {
        match request_access_token(&self.web, &self.path, &self.form()?).await {
            Ok(grant) => Ok(grant),
            Err(error) => Err(self.explain_refusal(error).await),
        }
    }
}

impl Application {
    /// # Errors
    /// When the certificate cannot be read or used.
    pub fn new(
        web: Client,
        cloud: Cloud,
        tenant: &str,
        client_id: &str,
        credential: &Credential,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let path = format!("{tenant}/oauth2/v2.0/token");
        let proof = match credential {
            Credential::Secret(secret) => ClientProof::Secret(secret.clone()),
            Credential::Certificate(file) => {
                load_certificate(file, format!("{}/{path}", cloud.login_url()))?
            }
        };
        Ok(Self {
            web,
            path,
            client_id: client_id.to_owned(),
            scope: format!("{}/.default", cloud.graph_url()),
            proof,
            clock: clock.clone(),
        })
    }

    fn form(&self) -> Result<Vec<(&'static str, String)>, http::Error> {
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
                let claims = assertion::new_claims(&self.client_id, audience, self.clock.now())?;
                let assertion = signer.sign(&[("x5t#S256", thumbprint)], &claims)?;
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", assertion));
            }
        }
        Ok(form)
    }

    /// Adds advice to a refusal. Only the body has the reason, so the request is sent once more.
    async fn explain_refusal(&self, error: http::Error) -> Error {
        let status = error.status().filter(StatusCode::is_client_error);
        let (Some(status), Ok(form)) = (status, self.form()) else {
            return error.into();
        };
        let request = self.web.request(Method::POST, &self.path).form(&form);
        let refusal: TokenRefusal = request.refusal_json().await.unwrap_or_default();
        let label = refusal.label(status);
        Error::rights(
            format!("Entra ID grants no access token ({label})"),
            refusal.fix(),
        )
    }
}

impl TokenRefusal {
    /// `invalid_client, AADSTS7000215`, and nothing else of the response.
    fn label(&self, status: StatusCode) -> String {
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
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| {
        let reason = "the file has a key but no certificate; put both into it, in any order";
        Error::content(place, reason)
    })?;
    Ok(ClientProof::Certificate {
        signer: Box::new(signer),
        thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)),
        audience,
    })
}

#[cfg(test)]
mod tests {
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
