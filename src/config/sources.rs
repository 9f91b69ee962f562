//! `[[source]]` and `[[directory]]`: where tokens live, and who knows the people.
//!
//! A new kind is one struct with a `read`, one variant, and one word in `KINDS`.

use std::{collections::BTreeSet, path::PathBuf};

use super::{field::Field, table::Table};

/// A place where tokens live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its name: `[a-z0-9][a-z0-9_-]*`, not `local`. Unique.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A file or a folder of files.
    File(FileSource),
}

/// Tokens in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// A CSV, JSON or JSON lines file, or a folder of them.
    pub path: PathBuf,
}

/// A place that knows whether a person still has access.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectoryConfig {
    /// Its name: `[a-z0-9][a-z0-9_-]*`. Unique.
    pub name: String,
    /// Which part of the people known active may lose access in one sync, from 0 to 1.
    pub breaker_share: f64,
    /// So many may in any case.
    pub breaker_min: u32,
    /// What it is.
    pub kind: DirectoryKind,
}

/// What a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryKind {
    /// A file.
    File(FileDirectory),
}

/// People in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDirectory {
    /// A CSV, JSON or JSON lines file.
    pub path: PathBuf,
}

/// How the table of a kind is read; `None` when something is missing, and noted.
type ReadKind<T> = fn(&mut Table) -> Option<T>;

impl SourceKind {
    const KINDS: &[(&'static str, ReadKind<Self>)] = &[("file", |table| {
        let path = table.required("path", "path = \"tokens.csv\"", Field::path)?;
        Some(Self::File(FileSource { path }))
    })];
}

impl DirectoryKind {
    const KINDS: &[(&'static str, ReadKind<Self>)] = &[("file", |table| {
        let path = table.required("path", "path = \"people.csv\"", Field::path)?;
        Some(Self::File(FileDirectory { path }))
    })];
}

impl SourceConfig {
    /// All sources.
    pub(super) fn read_all(tables: Vec<Table>) -> Vec<Self> {
        let mut names = BTreeSet::from(["local".to_owned()]);
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let kind = kind(&mut table, SourceKind::KINDS);
            table.finish();
            Some(Self {
                name: name?,
                kind: kind?,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}

impl DirectoryConfig {
    /// All directories.
    pub(super) fn read_all(tables: Vec<Table>) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let breaker_share = table.or("breaker_share", 0.1, |field| field.number(0.0..=1.0));
            let breaker_min = table.or("breaker_min", 3, |field| {
                field.whole(0..=u64::from(u32::MAX))
            });
            let kind = kind(&mut table, DirectoryKind::KINDS);
            table.finish();
            Some(Self {
                name: name?,
                breaker_share,
                breaker_min,
                kind: kind?,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}

fn name(table: &mut Table, taken: &mut BTreeSet<String>) -> Option<String> {
    let name = table.required("name", "name = \"exports\"", |field| {
        let name = field.text()?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = name.starts_with(plain) && name.chars().all(|c| plain(c) || "_-".contains(c));
        if fits && name.len() <= 60 {
            Ok(name.to_owned())
        } else {
            Err("must be made of a-z, 0-9, _ and -, and begin with a letter or digit".into())
        }
    })?;
    if !taken.insert(name.clone()) {
        let why = if name == "local" {
            "is the name of the built-in store"
        } else {
            "is taken by another"
        };
        table.refuse("name", &format!("{name:?} {why}; choose a different name"));
    }
    Some(name)
}

/// What the table's kind makes of it. The keys of an unknown kind are unknown, too, and left alone.
fn kind<T>(table: &mut Table, kinds: &[(&'static str, ReadKind<T>)]) -> Option<T> {
    let Some(read) = table.required("kind", "kind = \"file\"", |field| field.word(kinds)) else {
        table.forget_rest();
        return None;
    };
    read(table)
}
