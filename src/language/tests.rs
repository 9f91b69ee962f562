use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use handlebars::Handlebars;
use handlebars::template::{HelperTemplate, Parameter, Template, TemplateElement};
use rstest::rstest;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the project, with this ending.
fn files(folder: &Path, ending: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push((
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            ));
        }
    }
}

fn variables_of(files: &[(&str, &str)]) -> check::Variables {
    let files = files
        .iter()
        .map(|(name, text)| files::parse(name, (*text).to_owned()).unwrap());
    check::variables(&files.collect::<Vec<_>>())
}

fn english_variables() -> check::Variables {
    variables_of(BUILT_IN[0].1)
}

#[test]
fn all_languages_have_the_same_phrases_with_the_same_variables() {
    let english = english_variables();
    assert_eq!(BUILT_IN[0].0, "en");
    for (tag, files) in BUILT_IN {
        let own = variables_of(files);
        for (id, variables) in &english {
            assert_eq!(own.get(id), Some(variables), "{id} in {tag}");
        }
        assert_eq!(own.len(), english.len(), "{tag}");
        let ids = files.iter().flat_map(|(name, text)| {
            let file = files::parse(name, (*text).to_owned()).unwrap();
            let terms = check::term_ids(&file).collect();
            check::check(name, &file, &english, &terms).unwrap();
            let ids = file.entries().filter_map(check::id);
            ids.map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(ids.count(), english.len(), "{tag} has a phrase twice");
    }
}

#[test]
fn each_phrase_that_is_asked_for_exists_and_gets_its_variables() {
    let mut used = BTreeSet::new();
    for (file, id, values) in asked() {
        let known = english_variables().remove(&id);
        let known = known.unwrap_or_else(|| panic!("{file}: there is no phrase {id:?}"));
        assert!(
            values.is_superset(&known),
            "{file}: {id} needs {known:?}, and gets {values:?}"
        );
        used.insert(id);
    }
    let unused: Vec<_> = english_variables()
        .into_keys()
        .filter(|id| !used.contains(id))
        .collect();
    assert!(unused.is_empty(), "nothing asks for {unused:?}");
}

/// Each use of a phrase: the file, the id and the names of the values.
fn asked() -> Vec<(String, String, BTreeSet<String>)> {
    let mut all = Vec::new();
    let mut templates = Vec::new();
    files(&root().join("templates"), ".hbs", &mut templates);
    for (file, text) in templates {
        let template = Template::compile(&text).unwrap();
        let mut uses = Vec::new();
        asked_by(&template, &mut uses);
        all.extend(
            uses.into_iter()
                .map(|(id, values)| (file.clone(), id, values)),
        );
    }
    let mut sources = Vec::new();
    files(&root().join("src"), ".rs", &mut sources);
    for (file, text) in sources {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let text = text.lines().filter(is_code).collect::<Vec<_>>().join("\n");
        let calls = text
            .match_indices("phrase!(")
            .map(|(at, _)| &text[at + 8..]);
        let calls = calls.filter_map(asked_in_code);
        all.extend(calls.map(|(id, values)| (file.clone(), id, values)));
        // Asked for by the catalog itself.
        if file.ends_with("language/catalog.rs") {
            all.push((file, "digit-group".to_owned(), BTreeSet::new()));
        }
    }
    all
}

/// The id and the values of `language, "id", name = value)…`.
fn asked_in_code(call: &str) -> Option<(String, BTreeSet<String>)> {
    let (mut depth, mut is_text, mut end) = (1, false, 0);
    let mut starts = vec![0];
    for (at, c) in call.char_indices() {
        match c {
            '"' => is_text = !is_text,
            _ if is_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 1 => starts.push(at + 1),
            _ => {}
        }
        end = at;
        if depth == 0 {
            break;
        }
    }
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([end]);
    let parts: Vec<_> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| call[*start..end].trim())
        .collect();
    let id = parts.get(1)?.strip_prefix('"')?.strip_suffix('"')?;
    let name = |part: &&str| Some(part.split_once('=')?.0.trim().to_owned());
    Some((
        id.to_owned(),
        parts.iter().skip(2).filter_map(name).collect(),
    ))
}

fn asked_by(template: &Template, uses: &mut Vec<(String, BTreeSet<String>)>) {
    for element in &template.elements {
        match element {
            TemplateElement::Expression(helper)
            | TemplateElement::HtmlExpression(helper)
            | TemplateElement::HelperBlock(helper) => asked_by_helper(helper, uses),
            _ => {}
        }
    }
}

fn asked_by_helper(helper: &HelperTemplate, uses: &mut Vec<(String, BTreeSet<String>)>) {
    if helper.name.as_name() == Some("t") {
        let Some(Parameter::Literal(Json::String(id))) = helper.params.first() else {
            panic!("t needs the id of a phrase: {:?}", helper.params);
        };
        uses.push((id.clone(), helper.hash.keys().cloned().collect()));
    }
    for parameter in helper.params.iter().chain(helper.hash.values()) {
        if let Parameter::Subexpression(inner) = parameter
            && let TemplateElement::Expression(helper) = inner.as_element()
        {
            asked_by_helper(helper, uses);
        }
    }
    for template in helper.template.iter().chain(&helper.inverse) {
        asked_by(template, uses);
    }
}

#[rstest]
#[case(&["de"], "de")]
#[case(&["de-AT"], "de")]
#[case(&["en-GB"], "en")]
#[case(&["fr, de;q=0.8, en;q=0.9"], "en")]
#[case(&["fr;q=1, de;q=0.8, en;q=0"], "de")]
#[case(&["fr", "de-CH,de;q=0.9"], "de")]
#[case(&["fr", "it"], "en")]
#[case(&["no tag", "", "*", ";q=x"], "en")]
#[case(&[], "en")]
fn the_first_wish_that_can_be_fulfilled_decides(#[case] wishes: &[&str], #[case] tag: &str) {
    let languages = Languages::load(None).unwrap();
    assert_eq!(languages.choose(wishes.iter().copied()).tag(), tag);
}

fn folder_with(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join("locales").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn an_operator_changes_phrases_and_adds_a_language_that_lacks_some() {
    let folder = folder_with(&[
        ("de/ours.ftl", "clock-and-zone = { $clock } Uhr\n"),
        (
            "fr/times.ftl",
            "digit-group = { \" \" }\nshort-day = { $day } { $month }\n",
        ),
    ]);
    let languages = Languages::load(Some(folder.path())).unwrap();
    let say = |tag: &str| {
        let language = languages.get(tag).unwrap();
        phrase!(language, "clock-and-zone", clock = "10:00", zone = "UTC")
    };
    assert_eq!([say("de"), say("fr")], ["10:00 Uhr", "10:00 UTC"]);
    let french = languages.choose(["fr-CA"]);
    assert_eq!(french.number(1_204_000), "1 204 000");
    assert_eq!(languages.english().number(-1_204), "-1,204");
    assert_eq!(languages.tags().collect::<Vec<_>>(), ["de", "en", "fr"]);
}

#[rstest]
#[case(
    "de/a.ftl",
    "# ours\n\nday = { $daay }\n",
    "de/a.ftl:3: the phrase day has no variable $daay; did you mean $day?"
)]
#[case(
    "de/a.ftl",
    "month = x\nweekdays = x",
    "de/a.ftl:2: there is no phrase weekdays; did you mean weekday?"
)]
#[case(
    "fr/a.ftl",
    "day = { $day\n",
    "fr/a.ftl:1: cannot parse the phrase: Expected a token starting with \"}\""
)]
#[case(
    "fr/a.ftl",
    "\nday = { -brand }",
    "fr/a.ftl:2: there is no term -brand"
)]
#[case(
    "fr/a.ftl",
    "-a = { -b }\n-b = { -a }",
    "fr/a.ftl:1: a term cannot use another one, -b"
)]
#[case(
    "fr/a.ftl",
    "day = { month }",
    "fr/a.ftl:1: a phrase cannot use another one, month; make a term of it"
)]
#[case(
    "fr/a.ftl",
    "day = { DATE($day) }",
    "fr/a.ftl:1: there is no function DATE"
)]
#[case(
    "fr/a.ftl",
    "day =\n    .title = x",
    "fr/a.ftl:1: the phrase day has no text"
)]
#[case(
    "fr/a.ftl",
    "day = x\n    .title = x",
    "fr/a.ftl:1: the phrase day has an attribute, which nothing shows"
)]
#[case(
    "fr/a.txt",
    "x",
    "fr/a.txt is not a file of phrases; these are named FILE.ftl"
)]
#[case(
    "french_/a.ftl",
    "x",
    "french_: its name is not the tag of a language, such as fr or pt-BR"
)]
fn a_mistake_in_a_file_is_named_with_its_line(
    #[case] name: &str,
    #[case] text: &str,
    #[case] expected: &str,
) {
    let folder = folder_with(&[(name, text)]);
    let error = Languages::load(Some(folder.path()))
        .unwrap_err()
        .to_string();
    let start = format!("{}/locales/", folder.path().display());
    assert_eq!(error.replace(&start, ""), expected);
}

fn rendered(template: &str, context: &Json) -> Result<String, String> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    register(&mut registry, Arc::new(Languages::load(None).unwrap()));
    let rendered = registry.render_template(template, context);
    rendered.map_err(|error| error.reason().to_string())
}

#[rstest]
#[case("{{t \"time-in\" unit=\"days\" count=n}}", "in 1.204 Tagen")]
#[case("{{t \"with-utc\" time=name utc=1}}", "&lt;b&gt; (1)")]
#[case("{{{t \"with-utc\" time=\"a\" utc=1}}}", "a (1)")]
#[case(
    "{{t \"with-utc\" time=(strong name) utc=n}}",
    "<strong>&lt;b&gt;</strong> (1.204)"
)]
#[case(
    "{{t \"with-utc\" time=(t \"with-utc\" time=name utc=1) utc=2}}",
    "&lt;b&gt; (1) (2)"
)]
#[case(
    "{{t \"with-utc\" time=(t \"with-utc\" time=(strong \"&\") utc=1) utc=2}}",
    "<strong>&amp;</strong> (1) (2)"
)]
#[case(
    "{{#each list}}{{t \"clock-and-zone\" clock=this zone=@root.n}};{{/each}}",
    "a 1.204;b 1.204;"
)]
#[case("{{t \"with-utc\" time=\"הפצה\" utc=1}}", "\u{2068}הפצה\u{2069} (1)")]
fn a_template_shows_a_phrase_and_escapes_its_values(
    #[case] template: &str,
    #[case] expected: &str,
) {
    let context = json!({"language": "de", "n": 1204, "name": "<b>", "list": ["a", "b"]});
    assert_eq!(rendered(template, &context).unwrap(), expected);
}

#[rstest]
#[case(
    "{{t \"time-out\"}}",
    "there is no phrase \"time-out\"; did you mean \"time-left\"?"
)]
#[case(
    "{{t \"short-day\" weekday=1 day=2}}",
    "the phrase \"short-day\" needs \"month\""
)]
#[case(
    "{{t \"month\" month=x.y}}",
    "Failed to access variable in strict mode Some(\"x.y\")"
)]
#[case(
    "{{t \"month\" month=null}}",
    "month of the phrase \"month\" is no text"
)]
#[case("{{t id}}", "t needs the id of a phrase")]
fn a_mistake_in_a_template_fails_the_render(#[case] template: &str, #[case] expected: &str) {
    assert_eq!(
        rendered(template, &json!({"language": "en"})).unwrap_err(),
        expected
    );
}

#[test]
fn a_template_needs_a_known_language() {
    let error = rendered("{{t \"digit-group\"}}", &json!({})).unwrap_err();
    assert!(error.contains("\"language\""), "{error}");
    let error = rendered("{{t \"digit-group\"}}", &json!({"language": "xx"})).unwrap_err();
    assert_eq!(error, "there is no language \"xx\"");
}

#[test]
fn a_language_that_is_written_to_the_left_isolates_all_values() {
    let folder = folder_with(&[("ar/a.ftl", "with-utc = { $time } ({ $utc })\n")]);
    let languages = Languages::load(Some(folder.path())).unwrap();
    let arabic = languages.get("ar").unwrap();
    assert_eq!(
        (arabic.direction(), languages.english().direction()),
        ("rtl", "ltr")
    );
    let text = phrase!(arabic, "with-utc", time = "ci!", utc = 9);
    assert_eq!(text, "\u{2068}ci!\u{2069} (9)");
}

#[test]
fn the_pseudo_language_marks_and_lengthens_every_phrase() {
    let folder = tempfile::tempdir().unwrap();
    pseudo::write(folder.path()).unwrap();
    let languages = Languages::load(Some(folder.path())).unwrap();
    let language = languages.get(pseudo::TAG).unwrap();
    let text = phrase!(language, "time-left", unit = "days", count = 1_204);
    assert_eq!(text, "[ẍẍ 1,204 dååyš ẍẍ]");
    assert_eq!(languages.choose(["en"]).tag(), "en");
}

#[test]
fn uses_in_code_are_found() {
    let (id, values) = asked_in_code("x.y(1, 2), \"a-b\", n = f(\"),\"), m = 2,\n)").unwrap();
    assert_eq!(
        (id.as_str(), values),
        ("a-b", ["n", "m"].map(str::to_owned).into())
    );
}
