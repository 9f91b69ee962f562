//! Whether a `lapsed.toml` of the working directory may be used: it names servers and files with secrets, so
//! a person who can write it decides where they are sent.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::error::Error;
use crate::files::format_user;

const GROUP_WRITABLE: u32 = 0o020;
const WORLD_WRITABLE: u32 = 0o002;

/// # Errors
/// If another user than root and the caller owns the file or its folder, or may write to them. A missing
/// file is no error.
pub(super) fn ensure_trusted(path: &Path) -> Result<(), Error> {
    let Ok(file) = path.canonicalize() else {
        return Ok(());
    };
    let here = std::path::absolute(path).unwrap_or_else(|_| file.clone());
    // A link leads to another folder, which counts as well.
    let folders = [here.parent(), file.parent()].into_iter().flatten();
    let reason = folders.chain([file.as_path()]).find_map(reason_against);
    match reason {
        Some(reason) => Err(Error::Untrusted { path: here, reason }),
        None => Ok(()),
    }
}

fn reason_against(path: &Path) -> Option<String> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => return Some(format!("{}: {error}", path.display())),
    };
    let caller = geteuid();
    let name = path.display();
    if found.uid() != 0 && found.uid() != caller.as_raw() {
        let (owner, caller) = (format_user(found.uid()), format_user(caller.as_raw()));
        return Some(format!(
            "{name} belongs to {owner}, and this command runs as {caller}"
        ));
    }
    let is_own_group = !caller.is_root() && found.gid() == getegid().as_raw();
    let by_group = found.mode() & GROUP_WRITABLE != 0 && !is_own_group;
    (by_group || found.mode() & WORLD_WRITABLE != 0).then(|| {
        format!(
            "{name} (of {}) can be changed by other users",
            format_user(found.uid())
        )
    })
}
