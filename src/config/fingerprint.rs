//! The fingerprint of a configuration, by which replicas are compared.
//!
//! Fields note what they read, so a new key counts by itself, and a secret or a path never does. A value that equals
//! its default does not count either: then versions with other keys have the same fingerprint.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::sources::hex;

/// The values that count, by path, such as `notify.steps[1]`.
pub(super) type Counted = BTreeMap<String, String>;

/// What may rightly differ between machines, with everything below it.
const NOT_COUNTED: &[&str] = &[
    "store",
    "http",
    "web.listen",
    "web.tls_certificate",
    "web.tls_key",
    "log",
    "schedule.heartbeat",
    "schedule.textfile",
    "mail.directory",
    "smtp.hello_name",
    "source[].proxy",
    "directory[].proxy",
];

const DIGITS: usize = 12;

/// The order of keys, sections and lists does not matter.
pub(super) fn compute(counted: &Counted) -> String {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, value) in counted {
        let key = without_indexes(path);
        if NOT_COUNTED.iter().any(|outer| is_within(&key, outer)) {
            continue;
        }
        // The keys of one `[[source]]` stay together.
        let end = path.find(']').unwrap_or(path.len());
        let group = groups.entry(&path[..end]).or_default();
        group.push(format!("{key} = {value}"));
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    for lines in &mut groups {
        lines.sort_unstable();
    }
    groups.sort_unstable();
    let mut digest = Sha256::new();
    for lines in groups {
        digest.update(format!("{lines:?}\n"));
    }
    hex(digest)[..DIGITS].to_owned()
}

pub(super) fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// `source[].steps[]` for `source[0].steps[1]`.
fn without_indexes(path: &str) -> String {
    let mut parts = path.split('[');
    let mut key = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        key.push('[');
        key.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    key
}
