//! The kinds of source: each is made from its part of the configuration.

use std::time::Duration;

use super::{Error, Source, devtron, file, gcore, nocodb, rancher, sql};

/// What a source is, as it is configured.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A file or a folder of files.
    File(file::Config),
    /// A Rancher.
    Rancher(rancher::Config),
    /// A Devtron.
    Devtron(devtron::Config),
    /// An account at Gcore.
    Gcore(gcore::Config),
    /// A NocoDB.
    NocoDb(nocodb::Config),
    /// A table in a database of others.
    Sql(sql::Config),
}

/// What every kind is told.
#[derive(Debug, Clone)]
pub struct Common {
    /// The name of the source.
    pub name: String,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Kind {
    /// The word for it in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Rancher(_) => "rancher",
            Self::Devtron(_) => "devtron",
            Self::Gcore(_) => "gcore",
            Self::NocoDb(_) => "nocodb",
            Self::Sql(_) => "sql",
        }
    }

    /// The source.
    ///
    /// # Errors
    /// When what is configured cannot be used: a CA file that cannot be read.
    pub fn build(&self, common: &Common) -> Result<Box<dyn Source>, Error> {
        Ok(match self {
            Self::File(config) => Box::new(config.build(common)),
            Self::Rancher(config) => Box::new(config.build(common)?),
            Self::Devtron(config) => Box::new(config.build(common)?),
            Self::Gcore(config) => Box::new(config.build(common)?),
            Self::NocoDb(config) => Box::new(config.build(common)?),
            Self::Sql(config) => Box::new(config.build(common)?),
        })
    }
}
