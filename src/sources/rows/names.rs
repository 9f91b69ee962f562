//! Finds the columns by the names in a file.

use super::columns::Columns;
use super::options::ReadOptions;

/// The names of columns, and how unknown ones are treated.
pub(super) struct Names {
    targets: Vec<NameTarget>,
    pub ignores_extra: bool,
}

/// A name that fills a column.
pub(super) struct NameTarget {
    /// In lower case, without blanks, hyphens and underscores.
    key: String,
    /// The keys in the object with this name that lead to the value.
    pub path: Vec<String>,
    pub column: usize,
    /// It was configured, so it counts more than the default name.
    pub is_mapped: bool,
}

impl Names {
    pub fn new<const N: usize>(columns: &Columns<N>, options: &ReadOptions) -> Self {
        let mut targets = Vec::new();
        let mut add = |name: &str, path: &[&str], column, is_mapped| {
            targets.push(NameTarget {
                key: normalize(name).collect(),
                path: path.iter().map(|key| (*key).to_owned()).collect(),
                column,
                is_mapped,
            });
        };
        for (column, name) in &options.columns {
            let Some(column) = columns.find(column) else {
                continue;
            };
            add(name, &[], column, true);
            let keys: Vec<&str> = name.split('.').collect();
            if let [first, path @ ..] = keys.as_slice()
                && !path.is_empty()
            {
                add(first, path, column, true);
            }
        }
        for (column, name) in columns.names.into_iter().enumerate() {
            add(name, &[], column, false);
        }
        Self {
            targets,
            ignores_extra: options.ignores_extra(),
        }
    }

    pub fn has_mapped(&self) -> bool {
        self.targets.iter().any(|target| target.is_mapped)
    }

    pub fn find(&self, name: &str) -> impl Iterator<Item = &NameTarget> {
        let targets = self.targets.iter();
        targets.filter(move |target| normalize(name).eq(target.key.chars()))
    }

    /// For each cell of a header, the columns that it fills.
    pub fn order<const N: usize>(
        &self,
        columns: &Columns<N>,
        header: &[&str],
    ) -> Result<Vec<Vec<usize>>, String> {
        let mut filled: [Option<(usize, bool)>; N] = [None; N];
        for (cell, name) in header.iter().enumerate() {
            for target in self.find(name).filter(|target| target.path.is_empty()) {
                let place = &mut filled[target.column];
                match place {
                    Some((_, is_mapped)) if *is_mapped == target.is_mapped => {
                        return Err(format!("the column {name} occurs twice; remove one"));
                    }
                    Some((_, true)) => {}
                    _ => *place = Some((cell, target.is_mapped)),
                }
            }
            let is_extra = !name.is_empty() && self.find(name).next().is_none();
            if is_extra && !self.ignores_extra {
                return Err(columns.explain_unknown(name));
            }
        }
        let has = |name: &&str| {
            columns
                .find(name)
                .is_some_and(|column| filled[column].is_some())
        };
        if let Some(missing) = columns.required.iter().find(|name| !has(name)) {
            return Err(format!("the column {missing} is missing; add it"));
        }
        let mut mapped = self.targets.iter().filter(|target| target.is_mapped);
        if let Some(target) = mapped.find(|target| filled[target.column].is_none()) {
            let name = columns.names[target.column];
            return Err(format!(
                "the column that columns names for {name} is missing; correct the name"
            ));
        }
        let columns_of = |cell: usize| {
            let filled = filled.iter().enumerate();
            let own = filled.filter(|(_, place)| place.is_some_and(|(from, _)| from == cell));
            own.map(|(column, _)| column).collect()
        };
        Ok((0..header.len()).map(columns_of).collect())
    }
}

/// Spreadsheets and people write `Issuer Email` for `issuer_email`.
fn normalize(name: &str) -> impl Iterator<Item = char> {
    name.chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
}

/// The lines before the header that spreadsheets and PowerShell write, and what separates the cells: the character that
/// makes the most known names, and otherwise the most frequent one.
pub(super) fn detect_separator(names: &Names, head: &str) -> (usize, u8) {
    const SEPARATORS: [char; 4] = ['|', '\t', ';', ','];
    let mut preamble = 0;
    let mut given = None;
    let lines = head
        .split(['\r', '\n'])
        .filter(|line| !line.trim().is_empty());
    for line in lines {
        let bare = line.trim_matches('"');
        match bare
            .to_ascii_lowercase()
            .strip_prefix("sep=")
            .map(str::as_bytes)
        {
            Some([separator]) => given = Some(*separator),
            _ if bare.starts_with("#TYPE") => {}
            _ => {
                let count_known = |separator: &char| {
                    let cells = line.split(*separator);
                    cells
                        .filter(|cell| names.find(cell.trim().trim_matches('"')).next().is_some())
                        .count()
                };
                let score =
                    |separator: &char| (count_known(separator), line.matches(*separator).count());
                let best = SEPARATORS.into_iter().max_by_key(score).unwrap_or(',');
                return (preamble, given.unwrap_or(best as u8));
            }
        }
        preamble += 1;
    }
    (preamble, given.unwrap_or(b','))
}
