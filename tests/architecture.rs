//! Rules for the whole code: layers use only layers below them, files stay short, and the documents list what
//! the program has.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/portable_sql.rs"]
mod portable_sql;
#[path = "architecture/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rules and helpers that every layer may use and that use no layer.
const ROOT: [&str; 7] = [
    "causes",
    "files",
    "nearest",
    "network",
    "server_warnings",
    "text",
    "time",
];

/// The other top-level modules with those that they may use, as in `src/lib.rs`. `directories` uses `sources`, because
/// people files are read like token files, and `clock`, because a sign-in with a key contains the time.
const ALLOWED: [(&str, &str); 18] = [
    ("domain", ""),
    ("clock", ""),
    ("language", "domain"),
    ("telemetry", ""),
    ("tls", ""),
    ("upstream", "tls"),
    (
        "config",
        "directories domain engine language notify sources telemetry",
    ),
    ("store", "domain"),
    ("sources", "domain upstream"),
    ("notify", "domain language tls"),
    ("directories", "clock domain sources upstream"),
    (
        "engine",
        "clock directories domain language notify sources store",
    ),
    ("service", "clock domain engine store"),
    ("listener", ""),
    ("http", "domain listener"),
    ("web", "domain language listener service store"),
    ("lifecycle", ""),
    (
        "cli",
        "clock config directories domain engine http language lifecycle listener notify service sources store telemetry tls upstream web",
    ),
];

/// The limit of lines per file, without tests.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Collects the source files below `folder`, except tests, with their text up to their own tests.
fn collect_sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry of src").path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_test {
            collect_sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test {
            let text = fs::read_to_string(&path).expect("a file of src");
            let code = text.split("#[cfg(test)]\nmod tests {").next();
            found.push((path.clone(), code.unwrap_or_default().to_owned()));
        }
    }
}

fn code() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect_sources(&root().join("src"), &mut found);
    assert!(found.len() > 100, "only {} files found", found.len());
    found
}

/// The top-level modules in a line: `crate::store`, `use crate::{domain::Token, store}`.
fn used_modules(line: &str) -> Vec<&str> {
    let known = |word: &&str| ROOT.contains(word) || ALLOWED.iter().any(|(name, _)| name == word);
    let words = |text| str::split(text, |c: char| !c.is_alphanumeric() && c != '_');
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => words(group).filter(known).collect(),
            None => words(rest).take(1).filter(known).collect::<Vec<_>>(),
        })
        .collect()
}

#[test]
fn a_layer_uses_only_layers_below_it() {
    let mut broken = Vec::new();
    for (path, code) in code() {
        let inner = path.strip_prefix(root().join("src")).unwrap();
        let module = inner
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let rule = ALLOWED.iter().find(|(name, _)| *name == module);
        let allowed = match rule {
            Some((_, allowed)) => *allowed,
            None if ROOT.contains(&module) => "",
            None => panic!("ALLOWED lacks {module}"),
        };
        let may_use = |name| {
            name == module
                || allowed.split(' ').any(|other| other == name)
                || (rule.is_some() && ROOT.contains(&name))
        };
        // A `use` may span lines; comments may mention any module.
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join(" ").replace(';', ";\n");
        for name in code.lines().flat_map(used_modules) {
            if !may_use(name) {
                broken.push(format!("{} uses {name}", inner.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_the_sweep_and_its_dry_run_know_the_engine() {
    let jobs = root().join("src/engine");
    let knows = |(path, code): &(PathBuf, String)| {
        let may = ["sweep.rs", "dry_run.rs"]
            .iter()
            .any(|name| path.ends_with(name));
        path.starts_with(&jobs) && !may && code.contains("Engine")
    };
    let knowing = code().into_iter().filter(knows).map(|(path, _)| path);
    let knowing: Vec<PathBuf> = knowing.collect();
    assert!(knowing.is_empty(), "{knowing:#?}");
}

#[test]
fn no_two_files_use_each_other() {
    let example = circles::EXAMPLE.map(|(path, code)| (path.into(), code.to_owned()));
    let found = circles::find_circles(&example, Path::new(""));
    assert_eq!(found, ["mail -> mail/smtp: Connection Open; back: Mailer"]);

    let found = circles::find_circles(&code(), &root().join("src"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_is_too_long() {
    let long = |(path, code): (PathBuf, String)| {
        let lines = code.lines().count();
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines", path.display()))
    };
    let long: Vec<String> = code().into_iter().filter_map(long).collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// What follows a text in code that decides by its wording.
const TEXT_COMPARISONS: [&str; 19] = [
    " == \"",
    " == Some(\"",
    " != \"",
    " != Some(\"",
    ") == ",
    ") != ",
    ", Some(\"",
    ", \"",
    " { \"",
    " { Some(\"",
    ".contains(",
    ".ends_with(",
    ".eq(",
    ".eq_ignore_ascii_case(",
    ".find(",
    ".split_once(",
    ".starts_with(",
    ".strip_prefix(",
    ".strip_suffix(",
];

/// Comparisons of evidence or a reason with a text.
fn prose_comparisons(code: &str) -> Vec<String> {
    let lines = code.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with("//"));
    let code = lines.collect::<Vec<_>>().join(" ").replace(" .", ".");
    let mut found = Vec::new();
    for (at, word) in ["evidence", "reason"]
        .iter()
        .flat_map(|word| code.match_indices(word))
    {
        let mut rest = &code[at + word.len()..];
        while let Some(next) = [".as_deref()", ".as_ref()", ".as_str()", ".clone()"]
            .iter()
            .find_map(|accessor| rest.strip_prefix(accessor))
        {
            rest = next;
        }
        if TEXT_COMPARISONS.iter().any(|end| rest.starts_with(end)) {
            let shown: String = code[at..].chars().take(60).collect();
            found.push(shown);
        }
    }
    found
}

#[test]
fn evidence_and_reasons_are_for_people_and_decide_nothing() {
    for code in [
        "rows.filter(|evidence| evidence.starts_with(&prefix))",
        "if row.reason.as_deref() == Some(\"held\") {",
        "match row.reason\n    .as_deref() {\n    Some(\"held\") => {}",
        "known_evidence\n    .strip_suffix(\", checked\")",
        "(known.status, &known.evidence) == (person.status, text)",
        "matches!(row.reason.as_deref(), Some(\"held\"))",
    ] {
        assert_eq!(prose_comparisons(code).len(), 1, "{code}");
    }
    let found = code().into_iter().flat_map(|(path, code)| {
        let found = prose_comparisons(&code).into_iter();
        found.map(move |line| format!("{}: {line}", path.display()))
    });
    let found: Vec<_> = found.collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The path below the root and the text of every file with SQL about what is ours.
fn files_with_sql() -> Vec<(String, String)> {
    let mut files = code();
    for database in ["postgres", "sqlite"] {
        let folder = root().join("migrations").join(database);
        for entry in fs::read_dir(folder).expect("migrations") {
            let path = entry.expect("a migration").path();
            files.push((path.clone(), read(path)));
        }
    }
    let inner = |path: &Path| {
        path.strip_prefix(root())
            .expect("a file below the root")
            .display()
            .to_string()
    };
    let files = files.iter().map(|(path, text)| (inner(path), text.clone()));
    files
        .filter(|(path, _)| path.starts_with("src/store") || path.starts_with("migrations/"))
        .collect()
}

#[test]
fn the_sql_of_the_store_is_portable() {
    for (path, code, forbidden) in [
        ("src/store/a.rs", r#"query("SELECT now()")"#, "now()"),
        ("src/store/a.rs", "query(r#\"LISTEN \"wake\"\"#)", "LISTEN"),
        (
            "src/store/a.rs",
            r#"query("SELECT pg_advisory_xact_lock($1)")"#,
            "pg_advisory",
        ),
        ("src/store/a.rs", r#"query("SELECT a::jsonb")"#, "::jsonb"),
        ("src/store/a.rs", r#"query("ANALYZE notice")"#, "ANALYZE"),
        (
            "migrations/postgres/9_a.sql",
            "CREATE TEMP TABLE a (b INT);",
            "TEMP",
        ),
        (
            "migrations/postgres/9_a.sql",
            "CREATE TABLE a (b TEXT COLLATE \"de_DE\");",
            "COLLATE",
        ),
        (
            "migrations/sqlite/9_a.sql",
            "CREATE TABLE a (b TEXT COLLATE \"C\");",
            "COLLATE",
        ),
    ] {
        let found = portable_sql::find_forbidden(path, code, &mut Vec::new());
        assert_eq!(found, [format!("{path}: {forbidden}")], "{code}");
    }
    for (path, code) in [
        (
            "src/store/a.rs",
            "// now()\nlet template = \"TEMPLATE is listed, copied\";",
        ),
        (
            "migrations/postgres/9_a.sql",
            "CREATE TABLE a (b TEXT COLLATE \"C\"); -- COPY",
        ),
    ] {
        let found = portable_sql::find_forbidden(path, code, &mut Vec::new());
        assert!(found.is_empty(), "{code}: {found:?}");
    }

    let (files, mut used) = (files_with_sql(), Vec::new());
    assert!(files.len() > 15, "only {} files found", files.len());
    let found: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| portable_sql::find_forbidden(path, text, &mut used))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    let unused = portable_sql::unused_allowances(&used);
    assert!(unused.is_empty(), "no longer in the code: {unused:?}");
}

#[test]
fn the_documents_list_every_metric() {
    let (code, page) = (read("src/http/metrics.rs"), read("docs/operations.md"));
    let names = code.split('"').filter(|text| text.starts_with("lapsed_"));
    let names: BTreeSet<&str> = names.collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}{{")),
            "docs/operations.md lacks {name}"
        );
    }
}

#[test]
fn the_reference_lists_every_command() {
    let page = read("docs/reference.md");
    for command in lapsed::cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(
            page.contains(&format!("| `lapsed {name}")),
            "docs/reference.md lacks lapsed {name}"
        );
    }
    for line in page
        .lines()
        .filter_map(|line| line.strip_prefix("| `lapsed "))
    {
        let name = line.split([' ', '`']).next().unwrap();
        assert!(
            lapsed::cli::command().find_subcommand(name).is_some(),
            "there is no lapsed {name}"
        );
    }
}
