//! Creates files and folders for the user that runs lapsed, even if root makes them; names users.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use nix::unistd::{Uid, User};
use tempfile::TempDir;

/// Creates a new file that only its owner may read. Fails where there is a file or a link.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Creates a private file, which root gives to the owner of its folder: the daemon must be able to use
/// what root's command made first.
pub fn create_private_for_owner(path: &Path) -> io::Result<File> {
    let file = create_private(path)?;
    if let Err(error) = give_to_folder_owner(&file, path) {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Creates a folder and its missing parents in the same way.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).collect();
    for folder in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(folder) {
            // Another process made it, and decided about its owner.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => {
                made?;
                let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
                let opened = OpenOptions::new()
                    .read(true)
                    .custom_flags(flags)
                    .open(folder)?;
                give_to_folder_owner(&opened, folder)?;
            }
        }
    }
    Ok(())
}

/// A temporary folder that only its owner may read. It is deleted with the returned guard.
pub fn create_temporary_folder() -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("lapsed-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
}

/// `made` is what this process has just created at `path`; an existing file never gets another owner.
fn give_to_folder_owner(made: &File, path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::metadata(folder.unwrap_or(Path::new(".")))?;
    if made.metadata()?.uid() == 0 && folder.uid() != 0 {
        fchown(made, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

pub fn format_user(id: u32) -> String {
    match User::from_uid(Uid::from_raw(id)) {
        Ok(Some(user)) => format!("{} (uid {id})", user.name),
        _ => format!("uid {id}"),
    }
}
