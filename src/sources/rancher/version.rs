//! What a Rancher can do, by its version: `v2.12.1`, `2.13-head`. Builds of developers have none.

/// Whether the server writes down when its legacy tokens are used.
pub fn tells_use(version: Option<&str>) -> bool {
    is_since(version, (2, 10))
}

/// Whether the server has ext tokens, so that it is no answer when their list is not there.
pub fn has_ext(version: Option<&str>) -> bool {
    is_since(version, (2, 12))
}

fn is_since(version: Option<&str>, first: (u32, u32)) -> bool {
    let number = |part: Option<&str>| part?.parse::<u32>().ok();
    let version = version.unwrap_or_default().trim_start_matches('v');
    let mut parts = version.split(['.', '-']);
    let (major, minor) = (number(parts.next()), number(parts.next()));
    major.zip(minor).is_some_and(|version| version >= first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_told_since_2_10() {
        let told = ["v2.10.0", "v2.11.3-rc1", "2.13.0", "v3.0.0"];
        assert!(told.iter().all(|version| tells_use(Some(version))));
        let untold = [Some("v2.9.12"), Some("dev"), Some("v2"), None];
        assert!(!untold.iter().any(|version| tells_use(*version)));
    }

    #[test]
    fn ext_tokens_are_there_since_2_12() {
        let there = ["v2.12.0", "v2.12-head", "v2.15.0-rc1"];
        assert!(there.iter().all(|version| has_ext(Some(version))));
        let missing = [Some("v2.11.9"), Some("dev"), None];
        assert!(!missing.iter().any(|version| has_ext(*version)));
    }
}
