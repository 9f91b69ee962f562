//! Known faults of database engines.

/// The first version of each series of `YugabyteDB` without the fault of its technical advisory TA-30104: an upsert
/// can leave a partial index without the row, and lapsed finds unsent notices through such indexes.
const FIXED: [[u32; 4]; 3] = [[2024, 2, 7, 3], [2025, 1, 3, 1], [2025, 2, 1, 0]];

/// A warning about the engine that answers `SELECT version()` like this.
pub(super) fn engine_warning(version: &str) -> Option<String> {
    // Such as `PostgreSQL 15.12-YB-2025.2.0.0-b131 on x86_64-pc-linux-gnu, …`.
    let (_, yugabyte) = version.split_once("-YB-")?;
    let numbers = yugabyte.split(['.', '-']).map_while(|n| n.parse().ok());
    let numbers: Vec<u32> = numbers.take(4).collect();
    let fixed = FIXED
        .iter()
        .find(|fixed| numbers.get(..2) == fixed.get(..2) && numbers[..] < fixed[..])?;
    let fixed = fixed.map(|n| n.to_string()).join(".");
    Some(format!(
        "this version of YugabyteDB can lose warnings (its technical advisory TA-30104): upgrade it to {fixed} or newer"
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("PostgreSQL 15.12-YB-2025.2.0.0-b131 on x86_64", Some("2025.2.1.0"))]
    #[case("PostgreSQL 15.12-YB-2025.1.3.0-b10 on x86_64", Some("2025.1.3.1"))]
    #[case("PostgreSQL 11.2-YB-2024.2.7.2-b1 on aarch64", Some("2024.2.7.3"))]
    #[case("PostgreSQL 11.2-YB-2024.2.7.3-b1 on aarch64", None)]
    #[case("PostgreSQL 15.12-YB-2025.1.3.1-b2 on x86_64", None)]
    #[case("PostgreSQL 15.12-YB-2025.2.1.0-b1 on x86_64", None)]
    #[case("PostgreSQL 11.2-YB-2024.1.6.0-b1 on x86_64", None)]
    #[case("PostgreSQL 15.12-YB-2026.1.0.0-b1 on x86_64", None)]
    #[case("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64", None)]
    #[case("PostgreSQL 15.12-YB-unreadable", None)]
    fn versions_of_yugabytedb_with_the_fault_are_named(
        #[case] version: &str,
        #[case] fixed: Option<&str>,
    ) {
        let warning = engine_warning(version);
        assert_eq!(warning.is_some(), fixed.is_some(), "{warning:?}");
        assert!(warning.unwrap_or_default().contains(fixed.unwrap_or("")));
    }
}
