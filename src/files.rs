//! Creates files and folders for the user that runs lapsed, even if root makes them; reads them; names users.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use tempfile::{NamedTempFile, TempDir};

/// Creates a new file that only its owner may read. Fails where there is a file or a link.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Names and paths of what is in a folder, sorted, without what is hidden.
pub fn list_folder(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            list.push((name, entry.path()));
        }
    }
    list.sort();
    Ok(list)
}

/// The text of a file of at most `max` octets.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    if fs::metadata(path)?.len() > max {
        let limit = format!("it is larger than {} KiB", max / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, limit));
    }
    fs::read_to_string(path)
}

pub const PRIVATE: u32 = 0o600;
pub const READABLE: u32 = 0o644;

/// Writes a file in place of another one at once, so that a reader sees the one or the other. A link is replaced, and
/// not followed.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.persist(path)?;
    Ok(())
}

/// Writes a private file in place of another one, whose owner it gets. After a crash, there is the one or the other.
pub fn replace_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    match fs::symlink_metadata(path) {
        Ok(known) if known.is_file() => {
            let made = file.as_file().metadata()?;
            if (made.uid(), made.gid()) != (known.uid(), known.gid()) {
                fchown(file.as_file(), Some(known.uid()), Some(known.gid()))?;
            }
        }
        _ => give_to_folder_owner(file.as_file(), path)?,
    }
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_without_following_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("other"));
        fs::write(&other, "kept").unwrap();
        symlink(&other, &path).unwrap();
        for content in ["one", "two"] {
            replace(&path, content.as_bytes(), PRIVATE).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }
}
