//! Secrets: written out, or in a file, a variable or a systemd credential. They are fetched once,
//! when the configuration is loaded, and kept where no debug output shows them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use secrecy::SecretString;

/// Where a secret is to be found.
#[derive(Debug)]
pub(super) enum SecretPlace {
    /// `{ file = "…" }`, resolved against the folder of the configuration.
    File(PathBuf),
    /// `{ env = "…" }`.
    Variable(String),
    /// `{ credential = "…" }`: a file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5)).
    Credential(String),
}

/// No password or URL is longer; what is, is the wrong file.
const LARGEST: u64 = 64 * 1024;

impl SecretPlace {
    /// Fetches it.
    ///
    /// # Errors
    /// Why it cannot be had, and what to do; the message never holds any of it.
    pub fn fetch(&self, env: &HashMap<String, String>) -> Result<SecretString, String> {
        match self {
            Self::File(path) => read(path).map_err(|reason| {
                format!(
                    "cannot read the secret from {}: {reason}",
                    path.to_string_lossy().escape_debug()
                )
            }),
            Self::Variable(name) => match env.get(name) {
                Some(value) if !value.is_empty() => Ok(value.clone().into()),
                Some(_) => Err(format!(
                    "the variable {name:?} is empty; put the secret into it"
                )),
                None => Err(format!(
                    "the variable {name:?} is not set; set it to the secret"
                )),
            },
            Self::Credential(name) => credential(name, env),
        }
    }
}

fn credential(name: &str, env: &HashMap<String, String>) -> Result<SecretString, String> {
    let mut parts = Path::new(name).components();
    let plain = matches!(
        (parts.next(), parts.next()),
        (Some(std::path::Component::Normal(_)), None)
    );
    if !plain {
        return Err(format!(
            "{name:?} is not the name of a credential; it is a plain file name"
        ));
    }
    let Some(folder) = env
        .get("CREDENTIALS_DIRECTORY")
        .filter(|folder| !folder.is_empty())
    else {
        return Err(format!(
            "there are no credentials: CREDENTIALS_DIRECTORY is not set; run under systemd with \
             LoadCredential={name}:FILE in the unit, or use {{ file = \"…\" }}"
        ));
    };
    read(&Path::new(folder).join(name)).map_err(|reason| {
        format!("cannot read the credential {name:?}: {reason}; put LoadCredential={name}:FILE into the unit")
    })
}

/// The text of a file less one line break at its end, which editors and `echo` add.
fn read(path: &Path) -> Result<SecretString, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| reason(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err("it is larger than 64 KiB, which no secret is".into());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("it is empty".into());
    }
    Ok(text.into())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "the user lapsed runs as may not read it".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn fetched(bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        let secret = SecretPlace::File(path).fetch(&HashMap::new())?;
        Ok(secret.expose_secret().to_owned())
    }

    #[test]
    fn one_line_break_at_the_end_of_a_file_is_no_part_of_the_secret() {
        assert_eq!(fetched(b"s3cret\n").unwrap(), "s3cret");
        assert_eq!(fetched(b"s3cret\r\n").unwrap(), "s3cret");
        assert_eq!(fetched(b" s3cret \n\n").unwrap(), " s3cret \n");
        assert_eq!(fetched(b"s3cret").unwrap(), "s3cret");
    }

    #[test]
    fn a_file_that_holds_no_secret_is_refused() {
        assert!(fetched(b"\n").unwrap_err().ends_with("it is empty"));
        assert!(fetched(b"\xff").unwrap_err().ends_with("not UTF-8 text"));
        assert!(fetched(&vec![b'x'; 70_000]).unwrap_err().contains("64 KiB"));
    }

    #[test]
    fn a_credential_is_a_file_in_the_folder_of_systemd() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("smtp"), "s3cret\n").unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let env = HashMap::from([("CREDENTIALS_DIRECTORY".to_owned(), path)]);
        let fetch = |name: &str, env| SecretPlace::Credential(name.into()).fetch(env);

        assert_eq!(fetch("smtp", &env).unwrap().expose_secret(), "s3cret");
        assert!(
            fetch("other", &env)
                .unwrap_err()
                .contains("LoadCredential=other:FILE")
        );
        assert!(
            fetch("../smtp", &env)
                .unwrap_err()
                .contains("plain file name")
        );
        assert!(
            fetch("smtp", &HashMap::new())
                .unwrap_err()
                .contains("CREDENTIALS_DIRECTORY")
        );
    }
}
