//! Finds what a mistyped name was meant to be, for a suggestion.

/// No known name is that long, and the comparison takes quadratic time.
const MAX_CHARS: usize = 64;

/// The known name that is most likely meant, if one is near: up to a third of its letters may be wrong
/// (beyond that a guess misleads), or one of the two names is part of the other.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.chars().take(MAX_CHARS).collect::<String>();
    let given = given.to_lowercase();
    let candidates = known.into_iter().filter_map(|name| {
        let lower = name.to_lowercase();
        let distance = strsim::damerau_levenshtein(&given, &lower);
        let is_similar = distance <= lower.chars().count().div_ceil(3);
        let is_part =
            given.len().min(lower.len()) > 1 && (lower.contains(&given) || given.contains(&lower));
        (is_similar || is_part).then_some(((!is_similar, distance), name))
    });
    candidates
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["name", "external_id", "issuer_email", "admins"];
        for (given, expected) in [
            ("nmae", Some("name")),
            ("ADMIN", Some("admins")),
            ("id", Some("external_id")),
            ("email", Some("issuer_email")),
            ("my_external_id", Some("external_id")),
            ("expires", None),
            ("n", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given:?}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
    }
}
