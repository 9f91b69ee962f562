//! Parses single values, secrets included. Errors are messages that say what to write instead.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use ::config::{Value, ValueKind};
use chrono::TimeDelta;
use chrono_tz::Tz;
use secrecy::SecretString;
use url::Url;

use super::error::{Place, Problem, for_display, hint};
use super::layers::{Places, join_path};
use crate::domain::Schedule;

const MAX_SECRET_KIB: u64 = 64;

/// Shared by everything that is read.
pub(super) struct Context<'a> {
    /// The variables that secrets may name.
    pub env: &'a HashMap<String, String>,
    /// The folder against which relative paths are resolved.
    pub base: PathBuf,
    pub places: Places,
    pub problems: RefCell<Vec<Problem>>,
}

impl Context<'_> {
    pub fn note(&self, place: Place, message: String) {
        self.problems.borrow_mut().push(Problem { place, message });
    }

    /// Reports a problem of the value with this path.
    pub fn refuse(&self, path: &str, message: &str) {
        self.note(self.places.of_value(path), format!("{path}: {message}"));
    }
}

/// The error is a message for the operator, without the path.
pub(super) type Parsed<T> = Result<T, String>;

/// The value of a key or an item of a list.
pub(super) struct Field<'c> {
    pub context: &'c Context<'c>,
    /// Section, key and index: `notify.steps[1]`.
    pub path: String,
    pub value: Value,
}

/// `value` if it is valid, otherwise the message.
pub(super) fn ensure<T>(is_valid: bool, value: T, message: &str) -> Parsed<T> {
    is_valid.then_some(value).ok_or_else(|| message.to_owned())
}

impl Field<'_> {
    /// Parses the value; a problem is reported.
    pub fn read<T>(&self, parse: impl Fn(&Self) -> Parsed<T>) -> Option<T> {
        parse(self)
            .map_err(|message| self.context.refuse(&self.path, &message))
            .ok()
    }

    /// A text without the white space around it, which must not be empty.
    pub fn text(&self) -> Parsed<&str> {
        match &self.value.kind {
            ValueKind::String(text) if text.trim().is_empty() => {
                Err("is empty; give it a value or leave the key out".into())
            }
            ValueKind::String(text) => Ok(text.trim()),
            _ => Err(self.mismatch("a text in quotes")),
        }
    }

    fn mismatch(&self, wanted: &str) -> String {
        let given = match &self.value.kind {
            ValueKind::Nil => "nothing",
            ValueKind::Boolean(_) => "true or false",
            ValueKind::Float(_) => "a fraction",
            ValueKind::String(_) => "a text",
            ValueKind::Table(_) => "a table",
            ValueKind::Array(_) => "a list",
            _ => "a number",
        };
        format!("must be {wanted}, not {given}")
    }

    pub fn string(&self) -> Parsed<String> {
        self.text().map(str::to_owned)
    }

    pub fn parse<T: FromStr<Err: Display>>(&self) -> Parsed<T> {
        let value = self.text()?.parse::<T>();
        value.map_err(|error| error.to_string())
    }

    /// One of a few named values.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Parsed<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let allowed: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let (hint, text) = (hint(text, &allowed), for_display(text));
        Err(format!("unknown value `{text}`; {hint}"))
    }

    pub fn boolean(&self) -> Parsed<bool> {
        match &self.value.kind {
            ValueKind::Boolean(flag) => Ok(*flag),
            ValueKind::String(text) if text == "true" && self.is_variable() => Ok(true),
            ValueKind::String(text) if text == "false" && self.is_variable() => Ok(false),
            _ => Err(self.mismatch("true or false")),
        }
    }

    pub fn integer<T: TryFrom<u64>>(&self, limits: &RangeInclusive<u64>) -> Parsed<T> {
        let number = match &self.value.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::String(text) if self.is_variable() => text.trim().parse().ok(),
            _ => return Err(self.mismatch("a whole number")),
        };
        let (least, most) = (limits.start(), limits.end());
        number
            .filter(|number| limits.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
    }

    pub fn number(&self, limits: &RangeInclusive<f64>) -> Parsed<f64> {
        let number = match &self.value.kind {
            #[expect(clippy::cast_precision_loss, reason = "the limits are far below 2^52")]
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::Float(number) => Some(*number),
            ValueKind::String(text) if self.is_variable() => text.trim().parse().ok(),
            _ => return Err(self.mismatch("a number")),
        };
        let (least, most) = (limits.start(), limits.end());
        number
            .filter(|number| limits.contains(number))
            .ok_or_else(|| format!("must be a number from {least} to {most}"))
    }

    /// A duration of at least `least`.
    pub fn duration(&self, least: TimeDelta) -> Parsed<TimeDelta> {
        const MAX_DAYS: i64 = 36_500;
        if let ValueKind::I64(number) = &self.value.kind {
            let form = format!("write for example \"{number}s\"");
            return Err(format!("{number} has no unit; {form}"));
        }
        let text = self.text()?;
        let span = humantime::parse_duration(text).ok();
        let span = span.and_then(|span| TimeDelta::from_std(span).ok());
        let span = span.ok_or_else(|| {
            let text = for_display(text);
            format!("{text:?} is not a duration; write it as 30s, 5m, 12h or 7d")
        })?;
        let is_in_range = span >= least && span <= TimeDelta::days(MAX_DAYS);
        is_in_range.then_some(span).ok_or_else(|| {
            let least = humantime::format_duration(least.to_std().unwrap_or_default());
            format!("{text} is out of range; at least {least}, at most {MAX_DAYS}d")
        })
    }

    pub fn schedule(&self, zone: Tz) -> Parsed<Schedule> {
        Schedule::new(self.text()?, zone).map_err(|error| error.to_string())
    }

    /// A path, resolved against the folder of the configuration.
    pub fn path(&self) -> Parsed<PathBuf> {
        let text = self.text()?;
        let why = "a path cannot contain a NUL character";
        ensure(!text.contains('\0'), self.base().join(text), why)
    }

    pub fn base(&self) -> &Path {
        &self.context.base
    }

    /// A web address without user and password; errors suggest `example`.
    pub fn http_url(&self, example: &str) -> Parsed<Url> {
        let form = format!("write for example {example}");
        let url = self.text()?.parse::<Url>();
        let url = url.map_err(|error| format!("is not a URL ({error}); {form}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("must begin with https:// or http://; {form}"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("must not contain a user, `?` or `#`; {form}"));
        }
        Ok(url)
    }

    /// A secret: a text, or a table that says where it is. No message contains any part of it.
    pub fn secret(&self) -> Parsed<SecretString> {
        const FORMS: &[&str] = &["file", "env", "credential"];
        const FORM: &str =
            "a text in quotes, or { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }";
        let table = match &self.value.kind {
            ValueKind::String(text) if text.is_empty() => return Err("is empty".into()),
            ValueKind::String(text) => return Ok(text.clone().into()),
            ValueKind::Table(table) => table,
            _ => return Err(self.mismatch(FORM)),
        };
        let unknown = |key: &&String| !FORMS.contains(&key.as_str());
        if let Some(unknown) = table.keys().filter(unknown).min() {
            let hint = hint(unknown, FORMS);
            return Err(format!("unknown key `{}`; {hint}", for_display(unknown)));
        }
        // The merged table holds the keys of both layers; those of the environment win.
        let mut given = self.entries()?;
        if given.iter().any(|(_, item)| item.is_variable()) {
            given.retain(|(_, item)| item.is_variable());
        }
        let [(key, field)] = given.as_slice() else {
            return Err("give exactly one of file, env and credential".into());
        };
        let with_key = |message: String| format!("{key}: {message}");
        let env = self.context.env;
        match key.as_str() {
            "file" => secret_from_file(&field.path().map_err(with_key)?),
            "env" => secret_from_variable(field.text().map_err(with_key)?, env),
            _ => secret_from_credential(field.text().map_err(with_key)?, env),
        }
    }

    fn inner(&self, path: String, value: Value) -> Self {
        Self {
            context: self.context,
            path,
            value,
        }
    }

    /// The items of a list; a variable separates them by commas.
    pub fn items(&self) -> Parsed<Vec<Self>> {
        let values = match &self.value.kind {
            ValueKind::Array(values) => values.clone(),
            ValueKind::String(text) if self.is_variable() => {
                let parts = text.split(',').map(str::trim);
                let parts = parts.filter(|part| !part.is_empty());
                parts.map(Value::from).collect()
            }
            _ => return Err(self.mismatch("a list such as [\"…\", \"…\"]")),
        };
        let item = |(index, value)| self.inner(format!("{}[{index}]", self.path), value);
        Ok(values.into_iter().enumerate().map(item).collect())
    }

    /// The entries of a table with free names.
    pub fn entries(&self) -> Parsed<Vec<(String, Self)>> {
        let ValueKind::Table(values) = &self.value.kind else {
            return Err("must be a table such as { name = \"…\" }".into());
        };
        let entry = |(key, value): (&String, &Value)| {
            let path = join_path(&self.path, key);
            (key.clone(), self.inner(path, value.clone()))
        };
        Ok(values.iter().map(entry).collect())
    }

    /// Variables are always texts, so numbers and booleans are accepted as texts there.
    fn is_variable(&self) -> bool {
        self.context.places.variable(&self.path).is_some()
    }
}

/// As everything about secrets: errors say what to do, and none contains any part of the secret.
fn secret_from_file(path: &Path) -> Parsed<SecretString> {
    read_secret(path).map_err(|reason| {
        let path = path.to_string_lossy();
        let path = path.escape_debug();
        format!("cannot read the secret from {path}: {reason}")
    })
}

fn secret_from_variable(name: &str, env: &HashMap<String, String>) -> Parsed<SecretString> {
    let problem = match env.get(name) {
        Some(value) if !value.is_empty() => return Ok(value.clone().into()),
        Some(_) => "empty",
        None => "not set",
    };
    Err(format!(
        "the variable {name:?} is {problem}; set it to the secret"
    ))
}

/// A file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5)).
fn secret_from_credential(name: &str, env: &HashMap<String, String>) -> Parsed<SecretString> {
    let mut parts = Path::new(name).components();
    let ends = (parts.next(), parts.next());
    if !matches!(ends, (Some(Component::Normal(_)), None)) {
        return Err(format!(
            "{name:?} is not the name of a credential; write a plain file name"
        ));
    }
    let folder = env.get("CREDENTIALS_DIRECTORY");
    let Some(folder) = folder.filter(|folder| !folder.is_empty()) else {
        return Err(format!(
            "there are no credentials: CREDENTIALS_DIRECTORY is not set; run lapsed under systemd with \
             LoadCredential={name}:FILE in the unit, or use {{ file = \"…\" }}"
        ));
    };
    read_secret(&Path::new(folder).join(name)).map_err(|reason| {
        format!("cannot read the credential {name:?}: {reason}; put LoadCredential={name}:FILE into the unit")
    })
}

/// Strips one line break from the end, which editors and `echo` add.
fn read_secret(path: &Path) -> Parsed<SecretString> {
    let bytes = read_file(path, MAX_SECRET_KIB).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "lapsed has no permission to read it".to_owned(),
        _ => error.to_string(),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty".into());
    }
    Ok(text.into())
}

/// The content of a file; fails if it is larger than `max_kib`.
pub(super) fn read_file(path: &Path, max_kib: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(max_kib * 1024 + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_kib * 1024 {
        let message = format!("it is larger than {max_kib} KiB; is it the right file?");
        return Err(io::Error::other(message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn load(bytes: &[u8]) -> Parsed<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        let secret = secret_from_file(&path)?;
        Ok(secret.expose_secret().to_owned())
    }

    #[test]
    fn a_line_break_at_the_end_of_the_file_is_not_part_of_the_secret() {
        assert_eq!(load(b"s3cret\n").unwrap(), "s3cret");
        assert_eq!(load(b"s3cret\r\n").unwrap(), "s3cret");
        assert_eq!(load(b" s3cret \n\n").unwrap(), " s3cret \n");
        assert_eq!(load(b"s3cret").unwrap(), "s3cret");
    }

    #[test]
    fn a_file_without_a_secret_is_rejected() {
        assert!(load(b"\n").unwrap_err().ends_with("it is empty"));
        assert!(load(b"\xff").unwrap_err().ends_with("not UTF-8 text"));
        assert!(load(&vec![b'x'; 70_000]).unwrap_err().contains("64 KiB"));
    }

    #[test]
    fn a_credential_is_read_from_the_credentials_directory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("smtp"), "s3cret\n").unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let env = HashMap::from([("CREDENTIALS_DIRECTORY".to_owned(), path)]);
        let load = secret_from_credential;

        assert_eq!(load("smtp", &env).unwrap().expose_secret(), "s3cret");
        assert!(
            load("other", &env)
                .unwrap_err()
                .contains("LoadCredential=other:FILE")
        );
        assert!(
            load("../smtp", &env)
                .unwrap_err()
                .contains("plain file name")
        );
        assert!(
            load("smtp", &HashMap::new())
                .unwrap_err()
                .contains("CREDENTIALS_DIRECTORY")
        );
    }
}
