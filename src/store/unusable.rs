//! Why a store cannot be opened where waiting does not help, and what a person can do about it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, getegid, geteuid};
use sqlx::migrate::MigrateError;

use super::file::side_file;
use super::{Error, Result};
use crate::files::format_user;
use crate::network::TLS_ADVICE;

/// What is wrong, and how to fix it.
type Reason = (String, String);

/// The error of a store that SQLite could not open.
pub(super) fn explain_sqlite(file: &Path, source: sqlx::Error) -> Error {
    match check_access(file) {
        Err(unusable) => unusable,
        Ok(()) => Error::Open {
            place: file.display().to_string(),
            source,
        },
    }
}

/// Fails where this user may not write the file or its folder. SQLite would open such a file, and fail at the first
/// statement that writes.
pub(super) fn check_access(file: &Path) -> Result<()> {
    // A relative name of a file in the current folder has no parent.
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    match file_fault(&absolute) {
        None => Ok(()),
        Some((reason, fix)) => Err(Error::Unusable {
            place: file.display().to_string(),
            reason,
            fix,
        }),
    }
}

fn file_fault(file: &Path) -> Option<Reason> {
    if file.is_dir() {
        let what = format!("{} is a folder", file.display());
        return Some((what, "name a file in it in [store] url".to_owned()));
    }
    let folder = file.parent()?;
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let owner = match (geteuid(), getegid()) {
                (user, _) if user.is_root() => String::new(),
                (user, group) => format!("-o {user} -g {group} "),
            };
            let folder = folder.display();
            return Some((
                format!("the folder {folder} does not exist"),
                format!(
                    "create it, as root: install -d -m 0700 {owner}{folder}; or correct [store] url"
                ),
            ));
        }
        Ok(found) if !found.is_dir() => {
            let what = format!("{} is not a folder", folder.display());
            return Some((what, "correct [store] url".to_owned()));
        }
        _ => {}
    }
    let files = [
        file.to_owned(),
        side_file(file, "-wal"),
        side_file(file, "-shm"),
    ];
    let may_write = AccessFlags::R_OK | AccessFlags::W_OK;
    // The folder first: without it, no file in it can be looked at.
    let folder_and_files = [(folder, may_write | AccessFlags::X_OK)].into_iter();
    folder_and_files
        .chain(files.iter().map(|file| (file.as_path(), may_write)))
        .find(|(path, wanted)| access(*path, *wanted) == Err(Errno::EACCES))
        .map(|(path, _)| denied(path, folder, file))
}

/// The fix depends on who runs lapsed here: the owner of the folder, unless that is root.
fn denied(path: &Path, folder: &Path, file: &Path) -> Reason {
    let caller = geteuid();
    let found = fs::metadata(path);
    let owner = found.as_ref().map(Metadata::uid).ok();
    let service = fs::metadata(folder)
        .map(|folder| (folder.uid(), folder.gid()))
        .ok();
    let whose = match owner {
        Some(owner) => format!("it belongs to {}, and ", format_user(owner)),
        None => String::new(),
    };
    let reason = format!(
        "this user may not read and write {}: {whose}this command runs as {}",
        path.display(),
        format_user(caller.as_raw())
    );
    let (path, folder, file) = (path.display(), folder.display(), file.display());
    let fix = match (owner, service) {
        (Some(owner), _) if owner == caller.as_raw() => format!("chmod u+rwX {path}"),
        (_, Some((user, group))) if user == caller.as_raw() => {
            format!("as root: chown {user}:{group} {file}*")
        }
        _ => {
            let group = getegid();
            format!(
                "run the command as root or as that user; or, if lapsed is to run as this user, as root: chown \
                 {caller}:{group} {folder} {file}*"
            )
        }
    };
    (reason, fix)
}

/// Replaces an error of PostgreSQL that lasts until a person changes the server or the configuration.
pub(super) fn explain_postgres(error: Error, place: &str) -> Error {
    let (Error::Open { source, .. }
    | Error::Statement(source)
    | Error::Migrate(MigrateError::ExecuteMigration(source, _))) = &error
    else {
        return error;
    };
    let (reason, fix) = match source {
        sqlx::Error::Configuration(problem) => (problem.to_string(), "correct [store] url"),
        sqlx::Error::Tls(problem) => (problem.to_string(), TLS_ADVICE),
        sqlx::Error::Database(problem) => {
            let code = problem.code().unwrap_or_default();
            let Some(fix) = postgres_fix(&code) else {
                return error;
            };
            (problem.message().to_owned(), fix)
        }
        _ => return error,
    };
    Error::Unusable {
        place: place.to_owned(),
        reason,
        fix: fix.to_owned(),
    }
}

/// By SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn postgres_fix(code: &str) -> Option<&'static str> {
    Some(match code {
        "3D000" => {
            "create the database (`createdb --owner=ROLE DATABASE`), or correct the one in [store] url"
        }
        "42501" => {
            "make the role in [store] url the owner of the database, or let the owner GRANT USAGE, CREATE ON SCHEMA \
             public TO it"
        }
        "3F000" => "create the schema, or correct the role's search_path",
        code if code.starts_with("28") => {
            "correct role and password in [store] url, create the role (`createuser --pwprompt ROLE`), or let it in by \
             pg_hba.conf"
        }
        _ => return None,
    })
}
