//! Finds pairs of source files that use each other: each names an item of the other.
//!
//! A name is resolved through `use` lines to the file that defines it, so that a module which only declares and
//! re-exports its children is part of no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::words::scan;

/// A path that a `use` line brings into scope as `name`.
struct Import<'a> {
    path: Vec<&'a str>,
    name: &'a str,
    is_public: bool,
}

#[derive(Default)]
struct File<'a> {
    items: BTreeSet<&'a str>,
    imports: Vec<Import<'a>>,
    /// Paths outside `use` lines.
    paths: Vec<Vec<&'a str>>,
    /// Words outside `use` lines.
    names: BTreeSet<&'a str>,
}

impl<'a> File<'a> {
    fn parse(code: &'a str) -> Self {
        let words = scan(code).0;
        let (mut file, mut depth, mut at) = (Self::default(), 0_usize, 0);
        while at < words.len() {
            let next = words.get(at + 1).copied().unwrap_or_default();
            match words[at] {
                "use" if next != "<" => {
                    let is_public = at > 0 && matches!(words[at - 1], "pub" | ")");
                    at = file.import(&words, at + 1, &mut Vec::new(), is_public);
                    continue;
                }
                "{" => depth += 1,
                "}" => depth -= 1,
                "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" | "fn"
                    if depth == 0 && next != "fn" =>
                {
                    file.items.insert(next);
                }
                _ => {}
            }
            let start = at;
            while words.get(at + 1) == Some(&"::") && words.get(at + 2).is_some_and(is_name) {
                at += 2;
            }
            file.paths
                .push(words[start..=at].iter().copied().step_by(2).collect());
            file.names.insert(words[start]);
            at += 1;
        }
        file
    }

    /// Reads a tree of a `use` line; the number of the word behind it.
    fn import(
        &mut self,
        words: &[&'a str],
        mut at: usize,
        path: &mut Vec<&'a str>,
        is_public: bool,
    ) -> usize {
        let base = path.len();
        loop {
            match words[at] {
                "::" => {}
                "{" => {
                    while words[at] != "}" {
                        at = self.import(words, at + 1, path, is_public);
                    }
                    path.truncate(base);
                    return at + 1;
                }
                "as" => {
                    at += 1;
                    if let Some(import) = self.imports.last_mut() {
                        import.name = words[at];
                    }
                }
                "," | "}" | ";" => {
                    path.truncate(base);
                    return at;
                }
                word => {
                    if word != "self" || path.is_empty() {
                        path.push(word);
                    }
                    if words[at + 1] != "::" {
                        let name = path[path.len() - 1];
                        let path = path.clone();
                        self.imports.push(Import {
                            path,
                            name,
                            is_public,
                        });
                    }
                }
            }
            at += 1;
        }
    }
}

fn is_name(word: &&str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Modules by their path; the crate itself has none.
type Modules<'a> = BTreeMap<Vec<&'a str>, File<'a>>;

/// The module that defines what a path in a module names; none if it names a module or something of another crate.
fn definition<'a>(
    modules: &Modules<'a>,
    module: &[&'a str],
    path: &[&'a str],
    hops: usize,
) -> Option<Vec<&'a str>> {
    let (&first, rest) = path.split_first()?;
    match first {
        "crate" => return definition(modules, &[], rest, hops),
        "self" => return definition(modules, module, rest, hops),
        "super" => return definition(modules, &module[..module.len() - 1], rest, hops),
        _ => {}
    }
    let file = &modules[module];
    let child = [module, &[first]].concat();
    if modules.contains_key(&child)
        && let Some(found) = definition(modules, &child, rest, hops)
    {
        return Some(found);
    }
    if file.items.contains(first) {
        return Some(module.to_vec());
    }
    let import = file.imports.iter().find(|import| import.name == first)?;
    let path = [&import.path, rest].concat();
    // `use name;` would import itself.
    let hops = hops.checked_sub(1)?;
    definition(modules, module, &path, hops)
}

/// The modules whose items a module names, with the last word of each path.
fn uses<'a>(
    modules: &Modules<'a>,
    module: &[&'a str],
) -> BTreeMap<Vec<&'a str>, BTreeSet<&'a str>> {
    let file = &modules[module];
    let imports = file.imports.iter();
    let imports = imports.filter(|import| !import.is_public || file.names.contains(import.name));
    let paths = imports.map(|import| &import.path).chain(&file.paths);
    let mut used = BTreeMap::<_, BTreeSet<&str>>::new();
    for path in paths {
        if let Some(other) = definition(modules, module, path, 8) {
            used.entry(other).or_default().insert(path[path.len() - 1]);
        }
    }
    used.remove(module);
    used
}

/// The circles of two files, with the names that make them.
pub fn find_circles(code: &[(PathBuf, String)], src: &Path) -> Vec<String> {
    let mut modules = Modules::new();
    for (path, code) in code {
        let inner = path.strip_prefix(src).expect("a file of src");
        let module: Vec<&str> = inner.iter().filter_map(|part| part.to_str()).collect();
        let (last, folders) = module.split_last().expect("a file");
        let module = match last.trim_end_matches(".rs") {
            "main" => continue,
            "lib" => Vec::new(),
            name => [folders, &[name]].concat(),
        };
        modules.insert(module, File::parse(code));
    }
    let arrows: BTreeMap<_, _> = modules
        .keys()
        .map(|module| (module, uses(&modules, module)))
        .collect();
    let mut circles = Vec::new();
    for (module, used) in &arrows {
        for (other, names) in used.iter().filter(|(other, _)| other > module) {
            if let Some(back) = arrows[other].get(*module) {
                let (module, other) = (module.join("/"), other.join("/"));
                let list =
                    |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(" ");
                let (names, back) = (list(names), list(back));
                circles.push(format!("{module} -> {other}: {names}; back: {back}"));
            }
        }
    }
    circles
}

/// Files with one circle: the words in strings, comments and re-exports make none.
#[expect(
    clippy::needless_raw_string_hashes,
    reason = "the example holds a raw string"
)]
pub const EXAMPLE: [(&str, &str); 4] = [
    (
        "lib.rs",
        "mod mail; mod store;\npub use mail::{Mailer, smtp::Connection};",
    ),
    (
        "mail.rs",
        r##"mod smtp;
        pub use self::smtp::{Connection as Open, Reply};
        pub(crate) struct Mailer<'a>(&'a [Open], [char; 2]);
        const MARKS: [char; 2] = ['"', '\\''];
        // crate::store::Store
        const TEXT: &str = r#"crate::store::Store""#;"##,
    ),
    (
        "mail/smtp.rs",
        "use super::{self as above, Reply as _};
        use crate::store;
        pub struct Connection;
        pub struct Reply(store::Store);
        fn open(_: &above::Mailer<'_>) {}",
    ),
    (
        "store.rs",
        "pub struct Store; fn store() -> Store { Store }",
    ),
];
