//! Notices that the file of an SQLite store is no longer the one that was opened: what is recorded in a file that is
//! gone is forgotten, and would be sent again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

/// Offsets in the header of an SQLite file (<https://www.sqlite.org/fileformat.html#the_database_header>).
const GENERATION_OFFSET: usize = 60;
pub(super) const FILE_ID_OFFSET: usize = 68;

const MAX_LINKS: usize = 8;

/// Both numbers are 0 until the first checkpoint.
struct Header {
    /// `user_version`, which grows while the store is in use.
    generation: u32,
    /// `application_id`, which is random and differs in each backup.
    file_id: u32,
}

#[derive(Debug)]
pub(super) struct OpenFile {
    pub path: PathBuf,
    /// Stays open as long as SQLite's connections: closing any descriptor of a file ends the locks of the whole process.
    file: File,
    file_id: u32,
    /// Device and inode of the write-ahead log.
    log: Option<(u64, u64)>,
    /// The highest generation seen in the file.
    generation: AtomicU32,
}

impl OpenFile {
    /// `file_id` is that of the store that SQLite has opened at `path`.
    pub fn open(path: &Path, file_id: u32) -> io::Result<Self> {
        let file = File::open(path)?;
        let generation = read_header(&file)?.generation;
        Ok(Self {
            path: path.to_owned(),
            file,
            file_id,
            log: find_inode(&side_file(path, "-wal")),
            generation: AtomicU32::new(generation),
        })
    }

    /// How the file at the path differs from the one that was opened.
    pub fn find_change(&self) -> io::Result<Option<&'static str>> {
        let found = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some("it was removed"));
            }
            found => found?,
        };
        let opened = self.file.metadata()?;
        if (found.dev(), found.ino()) != (opened.dev(), opened.ino()) {
            return Ok(Some("another file replaced it"));
        }
        // Before the header, which another task may see grow.
        let seen = self.generation.load(Ordering::Relaxed);
        let header = match read_header(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Some("it was overwritten"));
            }
            header => header?,
        };
        if header.file_id != 0 && header.file_id != self.file_id {
            return Ok(Some("it was overwritten by another file"));
        }
        self.generation
            .fetch_max(header.generation, Ordering::Relaxed);
        Ok((header.generation < seen).then_some("it was overwritten by an older copy"))
    }

    /// Renames the log of the earlier file: SQLite would apply it to the file that is there now, or to a backup that
    /// takes the place of a file that was removed.
    pub fn set_log_aside(&self) {
        let log = side_file(&self.path, "-wal");
        if self.log.is_none() || find_inode(&log) != self.log {
            return;
        }
        for suffix in ["-wal", "-shm"] {
            let (from, to) = (
                side_file(&self.path, suffix),
                side_file(&self.path, &format!("{suffix}.old")),
            );
            if let Err(error) = fs::rename(&from, &to) {
                let from = from.display();
                tracing::error!("cannot rename {from}, which belongs to the earlier file: {error}");
            }
        }
    }
}

/// The file that a path leads to, also if it is yet to be made: SQLite puts its log beside that file, not beside a
/// link to it.
pub(super) fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(found) = fs::canonicalize(&path) {
            return found;
        }
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    path
}

fn find_inode(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// SQLite's name of a file beside the store.
pub(super) fn side_file(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn read_header(file: &File) -> io::Result<Header> {
    let mut header = [0; 100];
    file.read_exact_at(&mut header, 0)?;
    let number = |offset: usize| {
        let bytes = header[offset..].first_chunk().copied();
        u32::from_be_bytes(bytes.unwrap_or_default())
    };
    Ok(Header {
        generation: number(GENERATION_OFFSET),
        file_id: number(FILE_ID_OFFSET),
    })
}

/// Gives a new store a file id, unless it has one.
pub(super) async fn set_file_id(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    if find_file_id(connection).await? != 0 {
        return Ok(());
    }
    let sql = format!("PRAGMA application_id = {}", new_file_id(connection).await?);
    QueryBuilder::<Sqlite>::new(sql)
        .build()
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn find_file_id(connection: &mut SqliteConnection) -> sqlx::Result<u32> {
    let id: i32 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(connection)
        .await?;
    Ok(id.cast_unsigned())
}

pub(super) async fn new_file_id(connection: &mut SqliteConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT abs(random() % 2147483646) + 1")
        .fetch_one(connection)
        .await
}
