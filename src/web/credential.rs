//! The token in a request, in each of the forms that are accepted.

use axum::http::{HeaderMap, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::service::{InvalidToken, Presented};

/// No form of a token is longer.
const MAX_BYTES: usize = 512;

#[derive(Debug)]
pub enum Credential {
    /// Nothing that lapsed could read: no header, or another scheme.
    None,
    Token(Box<Presented>),
    /// No token of lapsed.
    Invalid,
    /// More than one, or one in the query.
    Ambiguous(&'static str),
}

/// What tells a token from other texts.
#[derive(Debug, Clone, Default)]
pub struct Forms {
    /// Headers that have a whole token.
    pub headers: Vec<String>,
    /// What a token may begin with, for forms that leave it out.
    pub heads: Vec<String>,
}

impl Forms {
    pub fn find(&self, headers: &HeaderMap, uri: &Uri) -> Credential {
        if uri.query().is_some_and(has_token) {
            return Credential::Ambiguous("A token must not be in the query");
        }
        let authorization = headers.get_all(header::AUTHORIZATION).iter();
        let authorization = authorization.map(|value| (true, value));
        let further = self.headers.iter();
        let further = further.flat_map(|name| headers.get_all(name.as_str()));
        let mut values = authorization.chain(further.map(|value| (false, value)));
        let Some((is_authorization, value)) = values.next() else {
            return Credential::None;
        };
        if values.next().is_some() {
            return Credential::Ambiguous("There is more than one credential");
        }
        if value.len() > MAX_BYTES {
            return Credential::Invalid;
        }
        let Ok(value) = value.to_str().map(str::trim) else {
            return Credential::Invalid;
        };
        if is_authorization {
            self.read_authorization(value)
        } else {
            Presented::parse(value).into()
        }
    }

    fn read_authorization(&self, value: &str) -> Credential {
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim_start();
        let is = |name| scheme.eq_ignore_ascii_case(name);
        if is("bearer") {
            read_bearer(rest).into()
        } else if is("basic") {
            read_basic(rest).into()
        } else if is("apikey") {
            self.read_api_key(rest).into()
        } else {
            Credential::None
        }
    }

    /// `id$secret` or `id_secret`, as at Gcore.
    fn read_api_key(&self, text: &str) -> Result<Presented, InvalidToken> {
        let pair = text.split_once('$').or_else(|| text.rsplit_once('_'));
        let (id, secret) = pair.ok_or(InvalidToken)?;
        let heads = self.heads.iter().map(String::as_str);
        Presented::from_id_and_secret(id, secret, heads).or_else(|_| Presented::parse(text))
    }
}

impl From<Result<Presented, InvalidToken>> for Credential {
    fn from(read: Result<Presented, InvalidToken>) -> Self {
        read.map_or(Self::Invalid, |presented| Self::Token(Box::new(presented)))
    }
}

fn read_bearer(text: &str) -> Result<Presented, InvalidToken> {
    Presented::parse(text).or_else(|invalid| {
        let (access_key, secret_key) = text.split_once(':').ok_or(invalid)?;
        Presented::from_pair(access_key, secret_key)
    })
}

/// The pair of keys, or the whole token as the user or the password alone.
fn read_basic(text: &str) -> Result<Presented, InvalidToken> {
    let bytes = STANDARD.decode(text).map_err(|_| InvalidToken)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| InvalidToken)?;
    match text.split_once(':').ok_or(InvalidToken)? {
        ("", token) | (token, "") => Presented::parse(token),
        (access_key, secret_key) => Presented::from_pair(access_key, secret_key),
    }
}

fn has_token(query: &str) -> bool {
    let is_token = |text: &str| Presented::parse(text).is_ok();
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, value)| name == "access_token" || is_token(&name) || is_token(&value))
}

/// A token in a path or a pointer is a mistake, and nothing that repeats these should repeat it.
pub fn without_tokens(path: &str) -> String {
    const ENDS: [char; 4] = ['/', '?', '&', '='];
    let parts = path.split_inclusive(ENDS);
    let parts = parts.map(|part| {
        let text = part.trim_end_matches(ENDS);
        match Presented::parse(text) {
            Ok(_) => part.replacen(text, "TOKEN", 1),
            Err(_) => part.to_owned(),
        }
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::domain::service::{NewSecret, PublicId};

    fn forms() -> Forms {
        Forms {
            headers: vec!["xc-token".to_owned()],
            heads: ["lapsed", "lapsedk"].map(str::to_owned).to_vec(),
        }
    }

    fn find(headers: &[(&'static str, String)], uri: &str) -> Credential {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        forms().find(&map, &uri.parse().unwrap())
    }

    struct Token {
        id: PublicId,
        whole: String,
        access: String,
        secret: String,
    }

    fn token() -> Token {
        let id = PublicId::generate();
        let made = NewSecret::generate("lapsed", &id);
        Token {
            id,
            whole: made.token.expose_secret().to_owned(),
            access: made.access_key,
            secret: made.secret_key.expose_secret().to_owned(),
        }
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn each_form_reads_as_the_same_token() {
        let Token {
            id,
            whole: token,
            access,
            secret,
        } = token();
        let forms = [
            ("authorization", format!("Bearer {token}")),
            ("authorization", format!("bEARER   {token} ")),
            ("authorization", format!("Bearer secret-token:{token}")),
            ("authorization", format!("Bearer {access}:{secret}")),
            ("authorization", basic(&format!("{access}:{secret}"))),
            ("authorization", basic(&format!(":{token}"))),
            ("authorization", basic(&format!("{token}:"))),
            ("authorization", format!("APIKey {id}${secret}")),
            ("authorization", format!("apikey {id}_{secret}")),
            ("authorization", format!("APIKey {token}")),
            ("xc-token", token.clone()),
        ];
        for form in forms {
            let name = form.1.clone();
            match find(&[form], "/api/v1/verify") {
                Credential::Token(read) => {
                    assert_eq!(read.id, id, "{name}");
                    assert_eq!(read.token.expose_secret(), token, "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[rstest]
    #[case::empty("Bearer")]
    #[case::twice("Bearer Bearer {token}")]
    #[case::quoted("Bearer \"{token}\"")]
    #[case::cut("Bearer {cut}")]
    #[case::base64("Basic ???")]
    #[case::a_password("Basic dXNlcjpwYXNzd29yZA==")]
    #[case::not_ascii("Bearer t\u{f6}ken")]
    #[case::too_long("Bearer {long}")]
    fn what_is_no_token_is_invalid(#[case] value: &str) {
        let token = token().whole;
        let value = value
            .replace("{cut}", &token[..token.len() - 1])
            .replace("{long}", &"x".repeat(MAX_BYTES))
            .replace("{token}", &token);
        let mut headers = HeaderMap::new();
        let bytes = axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.insert("authorization", bytes);
        let read = forms().find(&headers, &"/".parse().unwrap());
        assert!(matches!(read, Credential::Invalid), "{read:?}");
    }

    #[test]
    fn two_credentials_or_one_in_the_query_are_ambiguous() {
        let token = token().whole;
        let bearer = || ("authorization", format!("Bearer {token}"));
        let two = [
            find(&[bearer(), bearer()], "/"),
            find(&[bearer(), ("xc-token", token.clone())], "/"),
            find(&[("xc-token", "a".into()), ("xc-token", "b".into())], "/"),
            find(&[bearer()], "/?access_token=x"),
            find(&[], &format!("/?key={token}")),
            find(&[], &format!("/?{token}")),
            find(&[], &format!("/?limit=1&{token}=")),
        ];
        for read in two {
            assert!(matches!(read, Credential::Ambiguous(_)), "{read:?}");
        }
    }

    #[rstest]
    #[case::parameter("?{token}", "?TOKEN")]
    #[case::member("/{token}", "/TOKEN")]
    #[case::below("/a/{token}/0", "/a/TOKEN/0")]
    #[case::value("/tokens?a=b&q={token}&c", "/tokens?a=b&q=TOKEN&c")]
    #[case::none("/errors/0?x", "/errors/0?x")]
    #[case::empty("", "")]
    fn no_token_is_repeated(#[case] path: &str, #[case] shown: &str) {
        let path = path.replace("{token}", &token().whole);
        assert_eq!(without_tokens(&path), shown);
    }

    #[test]
    fn another_scheme_is_no_credential() {
        for headers in [&[][..], &[("authorization", "Negotiate abc".to_owned())]] {
            assert!(matches!(find(headers, "/?scope=a:b"), Credential::None));
        }
    }
}
