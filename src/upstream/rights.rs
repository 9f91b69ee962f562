//! What the credentials for an upstream allow, and how to add what they lack.

/// The result of a check, which lists nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Example: `CSV, 14 tokens`.
    pub summary: String,
    /// What the credentials can and cannot do.
    pub rights: Vec<Right>,
}

impl From<String> for CheckReport {
    fn from(summary: String) -> Self {
        Self {
            summary,
            rights: Vec::new(),
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
