//! Reads secrets: from the configuration itself, a file, a variable or a systemd credential.
//! Errors say what to do, and contain no part of the secret.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use ::config::ValueKind;
use secrecy::{ExposeSecret, SecretString};

use super::error::{for_display, hint};
use super::field::{Field, Parsed, Secrets, read_file};

/// Takes the place of a secret that the command does not use.
const UNREAD: &str = "\0";
const MAX_SECRET_KIB: u64 = 64;
/// The keys of a table that says where the secret is.
const SECRET_KEYS: &[&str] = &["file", "env", "credential"];
const EXPECTED: &str =
    "a text in quotes, or { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }";

impl Field<'_> {
    /// A secret: a text, or a table that says where it is.
    pub fn secret(&self) -> Parsed<SecretString> {
        let secret = self.find_secret()?;
        self.count_as("a secret");
        Ok(secret)
    }

    fn find_secret(&self) -> Parsed<SecretString> {
        let table = match &self.value.kind {
            ValueKind::String(text) if text.is_empty() => return Err("is empty".into()),
            ValueKind::String(text) => return Ok(text.clone().into()),
            ValueKind::Table(table) => table,
            _ => return Err(self.mismatch(EXPECTED)),
        };
        let unknown_keys = table
            .keys()
            .filter(|key| !SECRET_KEYS.contains(&key.as_str()));
        if let Some(key) = unknown_keys.min() {
            let suggestion = hint(key, SECRET_KEYS);
            return Err(format!("unknown key `{}`; {suggestion}", for_display(key)));
        }
        // The merged table holds the keys of both layers; those of the environment win.
        let mut given = self.entries()?;
        if given.iter().any(|(_, item)| item.is_from_environment()) {
            given.retain(|(_, item)| item.is_from_environment());
        }
        let [(key, field)] = given.as_slice() else {
            return Err("give exactly one of file, env and credential".into());
        };
        if self.context.secrets == Secrets::Leave && !self.path.starts_with("store.") {
            return Ok(UNREAD.into());
        }
        let with_key = |message: String| format!("{key}: {message}");
        let env = self.context.env;
        match key.as_str() {
            "file" => secret_from_file(&field.path().map_err(with_key)?),
            "env" => secret_from_variable(field.text().map_err(with_key)?, env),
            // `credential`: other keys were refused above.
            _ => {
                let name = field.text().map_err(with_key)?;
                let credentials = self.context.credentials;
                if let Some(secret) = credentials.borrow().get(name) {
                    return Ok(secret.clone());
                }
                let secret = secret_from_credential(name, env, self.base())?;
                credentials
                    .borrow_mut()
                    .insert(name.to_owned(), secret.clone());
                Ok(secret)
            }
        }
    }
}

fn secret_from_file(path: &Path) -> Parsed<SecretString> {
    read_secret(path).map_err(|reason| {
        let path = path.to_string_lossy();
        format!(
            "cannot read the secret from {}: {reason}",
            path.escape_debug()
        )
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

/// Whether this secret was left out, so that nothing can be said about its form.
pub(super) fn is_unread(secret: &SecretString) -> bool {
    secret.expose_secret() == UNREAD
}

/// A file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5)), or else, for commands at a shell, in the folder of
/// the configuration.
fn secret_from_credential(
    name: &str,
    env: &HashMap<String, String>,
    base: &Path,
) -> Parsed<SecretString> {
    let components: Vec<_> = Path::new(name).components().collect();
    if !matches!(components.as_slice(), [Component::Normal(_)]) {
        return Err(format!(
            "{name:?} is not the name of a credential; write a plain file name"
        ));
    }
    let given = env.get("CREDENTIALS_DIRECTORY").map(Path::new);
    let given = given.filter(|folder| !folder.as_os_str().is_empty());
    let paths: Vec<PathBuf> = given
        .into_iter()
        .chain([base])
        .map(|folder| folder.join(name))
        .collect();
    // A credential that is there and cannot be read is not replaced by another.
    let found = paths.iter().find(|path| path.exists());
    let path = found.unwrap_or_else(|| &paths[paths.len() - 1]);
    read_secret(path).map_err(|reason| {
        let problem = if let Some(path) = found {
            format!("cannot read {}: {reason}", path.display())
        } else {
            let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("there is no {}", names.join(" and no "))
        };
        let file = base.join(name);
        let file = file.display();
        format!(
            "the credential {name:?}: {problem}; write the secret to {file} (mode 0600), or at a shell set \
             CREDENTIALS_DIRECTORY to the folder that has it; the service needs LoadCredential={name}:{file} in its unit"
        )
    })
}

/// Reads a secret from a file, without the line break that editors and `echo` append.
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

#[cfg(test)]
mod tests {
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
    fn a_credential_is_read_from_its_directory_or_beside_the_configuration() {
        let (given, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |folder: &tempfile::TempDir, name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write(&given, "smtp", "s3cret\n");
        write(&base, "smtp", "other\n");
        write(&base, "ldap", "beside\n");
        let path = given.path().to_str().unwrap().to_owned();
        let env = HashMap::from([("CREDENTIALS_DIRECTORY".to_owned(), path.clone())]);
        let load = |name: &str, env: &HashMap<String, String>| {
            secret_from_credential(name, env, base.path())
                .map(|secret| secret.expose_secret().to_owned())
        };

        assert_eq!(load("smtp", &env).unwrap(), "s3cret");
        assert_eq!(load("ldap", &env).unwrap(), "beside");
        assert_eq!(load("smtp", &HashMap::new()).unwrap(), "other");
        let error = load("okta", &env).unwrap_err();
        let beside = base.path().join("okta").display().to_string();
        for part in [
            format!("{path}/okta"),
            beside.clone(),
            "CREDENTIALS_DIRECTORY".to_owned(),
            format!("LoadCredential=okta:{beside}"),
        ] {
            assert!(error.contains(&part), "{part:?} is not in {error:?}");
        }
        let error = load("../smtp", &env).unwrap_err();
        assert!(error.contains("plain file name"), "{error}");

        // An empty credential is not replaced by the file beside the configuration.
        write(&given, "ldap", "\n");
        assert!(load("ldap", &env).unwrap_err().contains("it is empty"));
    }
}
