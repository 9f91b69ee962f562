//! Reads secrets from files, variables and systemd credentials, once, when the configuration is loaded.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::SecretString;

/// A larger file is the wrong file.
const MAX_SECRET_OCTETS: u64 = 64 * 1024;

/// # Errors
/// All messages say what to do, and none contains any part of the secret.
pub(super) fn from_file(path: &Path) -> Result<SecretString, String> {
    read_file(path).map_err(|reason| {
        let path = path.to_string_lossy();
        format!(
            "cannot read the secret from {}: {reason}",
            path.escape_debug()
        )
    })
}

pub(super) fn from_variable(
    name: &str,
    env: &HashMap<String, String>,
) -> Result<SecretString, String> {
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
pub(super) fn from_credential(
    name: &str,
    env: &HashMap<String, String>,
) -> Result<SecretString, String> {
    let mut parts = Path::new(name).components();
    let plain = matches!(
        (parts.next(), parts.next()),
        (Some(std::path::Component::Normal(_)), None)
    );
    if !plain {
        return Err(format!(
            "{name:?} is not the name of a credential; write a plain file name"
        ));
    }
    let Some(folder) = env
        .get("CREDENTIALS_DIRECTORY")
        .filter(|folder| !folder.is_empty())
    else {
        return Err(format!(
            "there are no credentials: CREDENTIALS_DIRECTORY is not set; run lapsed under systemd with \
             LoadCredential={name}:FILE in the unit, or use {{ file = \"…\" }}"
        ));
    };
    read_file(&Path::new(folder).join(name)).map_err(|reason| {
        format!("cannot read the credential {name:?}: {reason}; put LoadCredential={name}:FILE into the unit")
    })
}

/// Strips one line break from the end, which editors and `echo` add.
fn read_file(path: &Path) -> Result<SecretString, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET_OCTETS + 1).read_to_end(&mut bytes))
        .map_err(|error| reason(&error))?;
    if bytes.len() as u64 > MAX_SECRET_OCTETS {
        return Err("it is larger than 64 KiB; is it the right file?".into());
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
        io::ErrorKind::PermissionDenied => "lapsed has no permission to read it".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn load(bytes: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        let secret = from_file(&path)?;
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
        let load = from_credential;

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
