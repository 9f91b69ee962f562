//! What can be wrong with a file of phrases.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the folder of languages {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read the phrases {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: its name is not the tag of a language, such as fr or pt-BR", path.display())]
    Tag { path: PathBuf },
    #[error("{} is not a file of phrases; these are named FILE.ftl", path.display())]
    Name { path: PathBuf },
    #[error("there is no language {wish:?}; there are {known}")]
    Unavailable { wish: String, known: String },
    #[error("{file}:{line}: {reason}")]
    Phrase {
        file: String,
        line: usize,
        reason: String,
    },
}
