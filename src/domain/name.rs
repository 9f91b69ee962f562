use std::str::FromStr;

/// The name of a source or directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "may contain only a-z, 0-9, _ and -, must begin with a letter or digit, and has at most 60 characters"
)]
pub struct InvalidName;

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_valid = text.len() <= 60
            && text.starts_with(is_alphanumeric)
            && text.chars().all(|c| is_alphanumeric(c) || "_-".contains(c));
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_short_word_in_lower_case() {
        let longest = "x".repeat(60);
        for name in ["exports", "7-days", "hr_2", &longest] {
            assert_eq!(name.parse::<Name>().map(String::from), Ok(name.to_owned()));
        }
        let too_long = "x".repeat(61);
        for name in ["", "-x", "_x", "Exports", "a b", "a/b", "é", &too_long] {
            assert_eq!(name.parse::<Name>(), Err(InvalidName), "{name:?}");
        }
    }
}
