//! The kinds of source; each is built from its part of the configuration.

use std::time::Duration;

use super::{Error, Source, devtron, file, gcore, nocodb, rancher, sql};
use crate::upstream::ProxyRules;

#[derive(Debug, Clone)]
pub enum Kind {
    File(file::Config),
    Rancher(rancher::Config),
    Devtron(devtron::Config),
    Gcore(gcore::Config),
    NocoDb(nocodb::Config),
    Sql(sql::Config),
}

impl Kind {
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

    /// Builds the source, whose requests may each take `timeout`. Connects nothing yet, but reads CA files.
    pub fn build(&self, timeout: Duration, proxies: &ProxyRules) -> Result<Box<dyn Source>, Error> {
        Ok(match self {
            Self::File(config) => Box::new(config.clone()),
            Self::Rancher(config) => Box::new(config.build(timeout, proxies)?),
            Self::Devtron(config) => Box::new(config.build(timeout, proxies)?),
            Self::Gcore(config) => Box::new(config.build(timeout, proxies)?),
            Self::NocoDb(config) => Box::new(config.build(timeout, proxies)?),
            Self::Sql(config) => Box::new(config.build(timeout)?),
        })
    }
}
