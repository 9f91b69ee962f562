//! What the credentials for an upstream allow, and how to add what they lack.

/// The result of a check, which lists nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Example: `CSV, 14 tokens`.
    pub summary: String,
    pub rights: Vec<Right>,
    /// What it found that needs a person to look.
    pub notes: Vec<String>,
}

impl CheckReport {
    /// Says by which proxy the system was reached, if any.
    pub fn with_proxy(mut self, url: Option<&str>) -> Self {
        if let Some(url) = url {
            self.summary += &format!(", by the proxy {url}");
        }
        self
    }
}

impl From<String> for CheckReport {
    fn from(summary: String) -> Self {
        Self {
            summary,
            ..Self::default()
        }
    }
}

/// Something that the credentials may need permission for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// Example: `list the tokens of all users`.
    pub what: String,
    /// How to add the right; `None` if the credentials have it.
    pub missing: Option<String>,
}

impl Right {
    pub(crate) fn granted(what: &str) -> Self {
        let what = what.to_owned();
        Self {
            what,
            missing: None,
        }
    }

    pub(crate) fn missing(what: &str, fix: impl Into<String>) -> Self {
        Self {
            missing: Some(fix.into()),
            ..Self::granted(what)
        }
    }

    /// `fix` says how to add the right. It is dropped if the right is granted.
    pub(crate) fn new(what: &str, is_granted: bool, fix: impl Into<String>) -> Self {
        if is_granted {
            Self::granted(what)
        } else {
            Self::missing(what, fix)
        }
    }
}
