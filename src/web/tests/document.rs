//! docs/api.md lists the operations of the document.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use serde_json::{Map, Value};

use super::fixture::Api;
use crate::web::state::Settings;

const BEGIN: &str = "<!-- The operations are made from the OpenAPI document. -->\n";
const END: &str = "<!-- End of the operations. -->\n";
const UPDATE: &str = "LAPSED_UPDATE_DOCS";

#[tokio::test]
async fn the_page_about_the_api_is_up_to_date() {
    let api = Api::open(Settings::default()).await;
    let document = api.get("/api/openapi.json", &[]).await.json();
    api.close().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = [before, BEGIN, &list_operations(&document), END, after].concat();
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/api.md is out of date: run this test once with {UPDATE}=1"
    );
}

fn list_operations(document: &Value) -> String {
    let mut text = String::new();
    let paths = document["paths"].as_object().unwrap();
    let mut tags: Vec<&str> = operations(paths)
        .map(|(_, _, operation)| tag(operation))
        .collect();
    tags.sort_unstable();
    tags.dedup();
    for tag_name in tags {
        let _ = write!(text, "\n### {tag_name}\n");
        for (path, method, operation) in operations(paths) {
            if tag(operation) == tag_name {
                write_operation(&mut text, document, path, method, operation);
            }
        }
    }
    text.push('\n');
    text
}

fn operations(paths: &Map<String, Value>) -> impl Iterator<Item = (&str, &str, &Value)> {
    paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn tag(operation: &Value) -> &str {
    operation["tags"][0].as_str().unwrap()
}

fn write_operation(
    text: &mut String,
    document: &Value,
    path: &str,
    method: &str,
    operation: &Value,
) {
    let _ = write!(text, "\n#### `{} {path}`\n\n", method.to_uppercase());
    let summary = operation["summary"].as_str().unwrap_or_default();
    let further = operation["description"]
        .as_str()
        .filter(|it| *it != summary);
    let _ = writeln!(
        text,
        "{}",
        one_line(&format!("{summary} {}", further.unwrap_or_default()))
    );
    let mut rows = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let place = parameter["in"].as_str().unwrap();
        let required = parameter["required"] == true;
        rows.push(row(
            &parameter["name"],
            place,
            required,
            &parameter["schema"],
            parameter,
        ));
    }
    let content = operation["requestBody"]["content"].as_object();
    for (kind, body) in content.into_iter().flatten() {
        let schema = resolve(document, &body["schema"]);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let place = if kind.ends_with("json") {
            "JSON"
        } else {
            "form"
        };
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let name = Value::from(name.as_str());
            let is_required = required.contains(&name);
            rows.push(row(&name, place, is_required, member, member));
        }
    }
    rows.dedup();
    if !rows.is_empty() {
        text.push_str("\n| input | in | type | |\n| --- | --- | --- | --- |\n");
        text.push_str(&rows.concat());
    }
    text.push('\n');
    for (status, answer) in operation["responses"].as_object().unwrap() {
        if !status.ends_with("XX") {
            let description = one_line(answer["description"].as_str().unwrap_or_default());
            let _ = writeln!(text, "- {status}: {description}");
        }
    }
}

fn row(name: &Value, place: &str, required: bool, schema: &Value, described: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    let required = if required { "; required" } else { "" };
    let description = one_line(described["description"].as_str().unwrap_or_default());
    let kind = kind(schema);
    format!(
        "| `{name}` | {place}{required} | {kind} | {} |\n",
        description.replace('|', "\\|")
    )
}

fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let names: Vec<&str> = names.into_iter().filter(|name| *name != "null").collect();
    match (names.as_slice(), schema["format"].as_str()) {
        (["array"], _) => format!("list of {}", kind(&schema["items"])),
        ([name], Some(format)) => format!("{name} ({format})"),
        (names, _) => names.join(" or "),
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
