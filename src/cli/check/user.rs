//! `lapsed check --as USER`: a check as the user of the service.

use std::ffi::CString;
use std::io;
use std::path::Path;

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use secrecy::ExposeSecret;

use crate::cli::exit::{Failure, Result};
use crate::config::Config;

pub(super) fn find_user(name: &str) -> Result<User> {
    if !geteuid().is_root() {
        let error = anyhow::anyhow!("only root can check as another user");
        let hint = format!("run it as root, or as that user: runuser -u {name} -- lapsed check");
        return Err(Failure::usage(error).hint(hint).into());
    }
    let found = User::from_name(name).map_err(io::Error::from)?;
    found.ok_or_else(|| {
        let error = anyhow::anyhow!("there is no user {name:?}");
        let hint = "the user of a unit with DynamicUser=yes exists only while the unit runs: start it first";
        Failure::usage(error).hint(hint).into()
    })
}

/// For good, and for all threads.
pub(super) fn become_user(user: &User) -> io::Result<()> {
    let name = CString::new(user.name.clone())?;
    initgroups(&name, user.gid)?;
    setgid(user.gid)?;
    Ok(setuid(user.uid)?)
}

/// Whether the folder of the store is that of a unit with `DynamicUser=yes`, for another user than root.
pub(super) fn is_private_to_service(config: &Config) -> bool {
    let url = config.store.url.expose_secret();
    let Some(path) = url.strip_prefix("sqlite://").map(Path::new) else {
        return false;
    };
    let is_private = |folder: &Path| {
        std::fs::read_link(folder).is_ok_and(|to| to.iter().any(|part| part == "private"))
    };
    !geteuid().is_root() && path.ancestors().any(is_private)
}
