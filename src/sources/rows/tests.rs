use std::fs;

use rstest::rstest;

use super::split::MAX_ROW_LENGTH;
use super::*;

const COLUMNS: Columns<3> = Columns {
    names: ["external_id", "name", "issuer_email"],
    required: &["external_id"],
    export: &[],
};

/// Reads a file of this name and content: `line:id|name|issuer` for a row, `line! why` for
/// a refused row, `why` for an error.
fn read(name: &str, content: impl AsRef<[u8]>) -> Vec<String> {
    read_with(name, content, &ReadOptions::default())
}

fn read_with(name: &str, content: impl AsRef<[u8]>, options: &ReadOptions) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let format_value = |value: Value| match value {
        Value::Absent => "-".to_owned(),
        Value::Empty => String::new(),
        Value::Text(text) | Value::OfDay(text, _) => text,
        Value::List(list) => format!("{list:?}"),
        Value::Other(text, what) => format!("{text} <{what}>"),
        Value::Unreadable(why) => format!("! {why}"),
    };
    let rows = match Rows::open(&Input::Path(path.clone()), &COLUMNS, options) {
        Ok(rows) => rows,
        Err(error) => return vec![error_without_path(&error, &path)],
    };
    let mut lines = Vec::new();
    for row in rows {
        match row {
            Ok(Row { line, values, .. }) => lines.push(match values {
                Ok(values) => format!("{line}:{}", values.map(format_value).join("|")),
                Err(reason) => format!("{line}! {reason}"),
            }),
            Err(error) => {
                lines.push(error_without_path(&error, &path));
                break;
            }
        }
    }
    lines
}

fn error_without_path(error: &Error, path: &std::path::Path) -> String {
    let text = error.to_string();
    let path = format!("{}:", path.display());
    text.strip_prefix(&path).expect("names the file").to_owned()
}

#[rstest]
#[case::plain("external_id,name\na,A\nb,B\n", &["2:a|A|-", "3:b|B|-"])]
#[case::any_order("name,external_id\nA,a\n", &["2:a|A|-"])]
#[case::no_last_line_end("external_id\na", &["2:a|-|-"])]
#[case::crlf("external_id,name\r\na,A\r\nb,B\r\n", &["2:a|A|-", "3:b|B|-"])]
#[case::cr("external_id,name\ra,A\rb,B", &["2:a|A|-", "3:b|B|-"])]
#[case::mixed("external_id\r\na\nb\rc\r\n\nd", &["2:a|-|-", "3:b|-|-", "4:c|-|-", "6:d|-|-"])]
#[case::byte_order_mark("\u{feff}external_id\na\n", &["2:a|-|-"])]
#[case::quotes("external_id,name\n\"a\",\"x, \"\"y\"\"\"\n", &["2:a|x, \"y\"|-"])]
#[case::blanks_around_quotes("external_id, \"name\" \n\"a\"\t, \"x, y\" \nb, \"\"\n", &["2:a|x, y|-", "3:b||-"])]
#[case::line_break_in_quotes("external_id,name\na,\"x\r\ny\"\nb,B\n", &["2:a|x\r\ny|-", "4:b|B|-"])]
#[case::quote_in_a_bare_cell("external_id,name\na,5\" disk\n", &["2:a|5\" disk|-"])]
#[case::blank_rows("\n\nexternal_id,name\n\n  \n,\na,\n \"\" , \n", &["7:a||-"])]
#[case::header_alone("external_id\n", &[])]
#[case::white_space(" external_id ,name\n  a ,\tA\t\n", &["2:a|A|-"])]
#[case::control_characters("external_id,name\na,x\0y\u{7f}\u{85}\u{2028}z\n", &["2:a|x y   z|-"])]
fn csv_is_read(#[case] content: &str, #[case] rows: &[&str]) {
    assert_eq!(read("t.csv", content), rows);
}

#[rstest]
#[case::stray_quote("a,\"x\" y\nb,B\n", "2! the next cell or the line's end must follow the closing quote of a cell; write a quote inside a cell twice (\"\")", &["3:b|B|-"])]
#[case::stray_quote_that_reached_the_next_row("a,\"x\nb,\"B\"\nc,C\n", "2! the next cell or the line's end must follow the closing quote of a cell; write a quote inside a cell twice (\"\"); read up to line 3 as one row", &["4:c|C|-"])]
#[case::open_quote("a,\"x\nb,B\n", "2! a quoted cell is not closed; add the quote; read up to line 3 as one row", &[])]
#[case::two_quoted_cells("a,\"x\" \"y\"\nb,B\n", "2! the next cell or the line's end must follow the closing quote of a cell; write a quote inside a cell twice (\"\")", &["3:b|B|-"])]
#[case::too_few("a\nb,B\n", "2! the row has 1 cells and the header 2; put a cell that contains a comma between double quotes", &["3:b|B|-"])]
#[case::too_many("a,A,x\nb,B\n", "2! the row has 3 cells and the header 2; put a cell that contains a comma between double quotes", &["3:b|B|-"])]
fn an_invalid_csv_row_does_not_affect_the_others(
    #[case] rows: &str,
    #[case] refusal: &str,
    #[case] rest: &[&str],
) {
    let lines = read("t.csv", format!("external_id,name\n{rows}"));
    assert_eq!(lines[0], refusal);
    assert_eq!(lines[1..], *rest);
}

#[rstest]
#[case::unknown(
    "external_id,nmae\n",
    "1: \"nmae\" is not a column; did you mean name? The columns are external_id, name, issuer_email"
)]
#[case::part_of_a_name(
    "id,name\n",
    "1: \"id\" is not a column; did you mean external_id? The columns are external_id, name, issuer_email"
)]
#[case::after_blank_lines(
    "\n\nexternal_id,email\n",
    "3: \"email\" is not a column; did you mean issuer_email? The columns are external_id, name, issuer_email"
)]
#[case::twice(
    "external_id,name,external_id\n",
    "1: the column external_id occurs twice; remove one"
)]
#[case::missing("name\n", "1: the column external_id is missing; add it")]
#[case::a_row(
    "ghp_secret,ci\n",
    "1: the first line must name the columns, at least external_id; they are external_id, name, issuer_email"
)]
#[case::open_quote(
    "\"external_id,name\na,A\n",
    "1: a quoted cell is not closed; add the quote; read up to line 2 as one row"
)]
#[case::nothing(
    "",
    "1: the file is empty, as after a failed export; a file without rows has the CSV header or the JSON array []"
)]
#[case::white_space(
    "\u{feff} \r\n",
    "1: the file is empty, as after a failed export; a file without rows has the CSV header or the JSON array []"
)]
fn an_invalid_csv_header_fails_the_file(#[case] content: &str, #[case] error: &str) {
    assert_eq!(read("t.csv", content), [error]);
}

#[rstest]
#[case::array("t.json", "[{\"external_id\":\"a\"},\n\n {\"external_id\":\"b\",\n\"name\":\"B\"} ]\n", &["1:a|-|-", "3:b|B|-"])]
#[case::lines("t.jsonl", "{\"external_id\":\"a\"}\r\n\n  {\"external_id\":\"b\"}", &["1:a|-|-", "3:b|-|-"])]
#[case::no_rows("t.json", " [ ] ", &[])]
#[case::null_and_blank("t.jsonl", r#"{"external_id":"a","name":null,"issuer_email":" "}"#, &["1:a||"])]
#[case::number("t.jsonl", r#"{"external_id":42,"name":-1,"issuer_email":true}"#, &["1:42|-1|true <true or false>"])]
#[case::wrong_types("t.jsonl", r#"{"external_id":1.5,"name":{"a":[1]},"issuer_email":["x",null,"y"]}"#, &["1:1.5 <a fraction>|! must be a text, not an object|[\"x\", \"y\"]"])]
#[case::escapes("t.json", r#"[{"external_id":"]},\"[","name":"\u0000x\n\ud83d\ude00\\"}]"#, &["1:]},\"[|x\n\u{1f600}\\|-"])]
#[case::byte_order_mark("t.json", "\u{feff}[{\"external_id\":\"a\"}]", &["1:a|-|-"])]
#[case::array_by_content("export", "\n[{\"external_id\":\"a\"}]", &["2:a|-|-"])]
#[case::lines_by_content("export.txt", "{\"external_id\":\"a\"}", &["1:a|-|-"])]
#[case::csv_by_content("export", "external_id\na", &["2:a|-|-"])]
#[case::extension_in_capitals("T.JSONL", "{\"external_id\":\"a\"}", &["1:a|-|-"])]
#[case::ndjson("t.ndjson", "{\"external_id\":\"a\"}", &["1:a|-|-"])]
fn json_is_read(#[case] name: &str, #[case] content: &str, #[case] rows: &[&str]) {
    assert_eq!(read(name, content), rows);
}

#[rstest]
#[case::unknown(
    r#"{"external_id":"a","expires":{"deep":[]}}"#,
    "\"expires\" is not a column; the columns are external_id, name, issuer_email"
)]
#[case::no_known_key(
    r#"{"ghp_secret":1}"#,
    "none of its keys is a column; the columns are external_id, name, issuer_email"
)]
#[case::text(r#""ghp_secret""#, "a row must be an object: {\"external_id\": …}")]
#[case::array("[1]", "a row must be an object: {\"external_id\": …}")]
#[case::unquoted(
    "{\"external_id\":ghp_secret}",
    "this is not JSON (line 2, column 16: expected value)"
)]
#[case::half_a_character(
    r#"{"external_id":"\ud800"}"#,
    "this is not JSON (line 2, column 23: unexpected end of hex escape)"
)]
#[case::more("{} {}", "this is not JSON (line 2, column 4: trailing characters)")]
fn an_invalid_json_row_does_not_affect_the_others(#[case] row: &str, #[case] reason: &str) {
    let good = r#"{"external_id":"z"}"#;
    let lines = format!("{good}\n{row}\n{good}\n");
    let expected = ["1:z|-|-", &format!("2! {reason}"), "3:z|-|-"];
    assert_eq!(read("t.jsonl", lines), expected);
    let array = format!("[{good},\n{row},\n{good}]");
    assert_eq!(read("t.json", array), expected);
}

#[test]
fn a_json_syntax_error_has_its_line_in_the_file() {
    let lines = read("t.json", "[\n{\"external_id\":\"a\",\n\"name\" \"A\"}]");
    assert_eq!(
        lines,
        ["2! this is not JSON (line 3, column 8: expected `:`)"]
    );
}

#[rstest]
#[case::cut_off("[{\"external_id\":\"a\"},\n{\"exter", &["1:a|-|-", "2: the array is not closed, as in a truncated export; run the export again"])]
#[case::cut_off_between("[{\"external_id\":\"a\"},", &["1:a|-|-", "1: the array is not closed, as in a truncated export; run the export again"])]
#[case::only_begun("[", &["1: the array is not closed, as in a truncated export; run the export again"])]
#[case::more("[]\nx", &["2: there is something after the end of the array; remove it"])]
#[case::two_arrays("[{\"external_id\":\"a\"}] []", &["1:a|-|-", "1: there is something after the end of the array; remove it"])]
#[case::no_array("\"ghp_secret\"", &["1: this must be an array of objects: [{…}, {…}]"])]
#[case::an_object("{\"tokens\":[]}", &["1: this must be an array: [{…}, {…}]; if it has the array under a key, set items to the key; name it .jsonl if it has one object a line"])]
#[case::last_comma("[{\"external_id\":\"a\"},]", &["1:a|-|-", "1! a row is missing here; remove the comma"])]
#[case::two_commas("[,{\"external_id\":\"a\"}]", &["1! a row is missing here; remove the comma", "1:a|-|-"])]
fn an_incomplete_array_is_an_error(#[case] content: &str, #[case] rows: &[&str]) {
    assert_eq!(read("t.json", content), rows);
}

#[rstest]
#[case::array_in_lines("t.jsonl", b"[]".as_slice(), "1: this must have one object a line; name it .json if it is an array")]
#[case::utf_16(
    "t.csv",
    b"e\0x\0",
    "1: this is UTF-16 without a mark; set encoding = \"utf-16le\""
)]
#[case::workbook(
    "t.csv",
    b"PK\x03\x04\x14",
    "1: this is a workbook or a zip archive; export it as CSV in UTF-8"
)]
#[case::gzip(
    "t.csv",
    b"\x1f\x8b\x08",
    "1: this is compressed; unpack it with gunzip first"
)]
fn a_file_of_another_format_is_recognised(
    #[case] name: &str,
    #[case] content: &[u8],
    #[case] error: &str,
) {
    assert_eq!(read(name, content), [error]);
}

#[test]
fn a_cell_that_is_not_utf_8_does_not_affect_the_others() {
    let csv = b"external_id,name,issuer_email\na,caf\xe9,i\n\xc3,\xa9,i\nc,C,i\n";
    let bad = format!("! {NOT_UTF_8}");
    let expected = [
        format!("2:a|{bad}|i"),
        // A comma splits a character.
        format!("3:{bad}|{bad}|i"),
        "4:c|C|i".to_owned(),
    ];
    assert_eq!(read("t.csv", csv), expected);
    let lines = b"{\"external_id\":\"a\",\"name\":\"caf\xe9\"}\n{\"external_id\":\"b\"}\n";
    let expected = [format!("1:a|{bad}|-"), "2:b|-|-".to_owned()];
    assert_eq!(read("t.jsonl", lines), expected);
}

#[test]
fn a_cell_that_is_not_in_the_encoding_cannot_be_read() {
    let options = ReadOptions {
        encoding: Some(encoding_rs::SHIFT_JIS),
        ..ReadOptions::default()
    };
    let bad = format!("! {NOT_UTF_8}");
    let csv = b"external_id,name\na,\xff\nb,\x83\x41\n";
    let expected = [format!("2:a|{bad}|-"), "3:b|\u{30a2}|-".to_owned()];
    assert_eq!(read_with("t.csv", csv, &options), expected);
    let lines = b"{\"external_id\":\"a\",\"name\":\"x\xff\"}\n";
    assert_eq!(
        read_with("t.jsonl", lines, &options),
        [format!("1:a|{bad}|-")]
    );
}

#[rstest]
#[case(r#"{"external_id":"a","owner":null}"#, "1:a|-|")]
#[case(r#"{"external_id":"a","owner":{"email":null}}"#, "1:a|-|")]
#[case(r#"{"external_id":"a","owner":{}}"#, "1:a|-|-")]
#[case(r#"{"external_id":"a"}"#, "1:a|-|-")]
fn a_null_on_the_path_is_an_empty_cell(#[case] row: &str, #[case] read_as: &str) {
    let options = mapped(&[("issuer_email", "owner.email")]);
    assert_eq!(read_with("t.jsonl", row, &options), [read_as]);
}

#[rstest]
#[case::same_twice(
    r#"{"external_id":"a","name":1,"name":2}"#,
    "1:a|! occurs twice; remove one|-"
)]
#[case::list_of_lists(
    r#"{"external_id":"a","name":[["x"]]}"#,
    "1:a|! must be a list of texts|-"
)]
fn an_odd_value_of_json_is_one_unreadable_cell(#[case] row: &str, #[case] read_as: &str) {
    assert_eq!(read("t.jsonl", row), [read_as]);
}

#[rstest]
#[case::semicolons("external_id;name\na;\"A;1, x\"\n", "2:a|A;1, x|-")]
#[case::quoted_semicolons("\"external_id\";\"name\"\n\"a\";\"A\"\n", "2:a|A|-")]
#[case::tabs("external_id\tname\tissuer_email\na\t\ti\n", "2:a||i")]
#[case::bars("external_id|name\na|A\n", "2:a|A|-")]
#[case::given("sep=;\r\nexternal_id;name\r\na;A\r\n", "3:a|A|-")]
#[case::given_quoted("\"sep=,\"\nexternal_id,name\na,A\n", "3:a|A|-")]
#[case::of_powershell(
    "#TYPE Selected.System.Object\n\"external_id\",\"name\"\n\"a\",\"A\"\n",
    "3:a|A|-"
)]
#[case::other_spelling("External ID,Issuer-Email\na,i\n", "2:a|-|i")]
#[case::nameless_columns("external_id,name,,\na,A,,\n", "2:a|A|-")]
fn what_spreadsheets_make_of_a_file_is_read(#[case] content: &str, #[case] row: &str) {
    assert_eq!(read("t.csv", content), [row]);
}

#[test]
fn a_value_in_a_nameless_column_may_be_a_shifted_cell() {
    let lines = read("t.csv", "external_id,name,issuer_email,\na,Smith, John,i\n");
    assert_eq!(
        lines,
        ["2! cell 4 has a value, but column 4 no name; name the column or remove the value"]
    );
    let options = ReadOptions {
        extra: Some(options::Extra::Ignore),
        ..ReadOptions::default()
    };
    let lines = read_with("t.csv", ",external_id\n0,a\n", &options);
    assert_eq!(lines, ["2:a|-|-"]);
}

fn mapped(columns: &[(&str, &str)]) -> ReadOptions {
    let columns = columns
        .iter()
        .map(|(column, name)| ((*column).into(), (*name).into()));
    ReadOptions {
        columns: columns.collect(),
        ..ReadOptions::default()
    }
}

#[rstest]
#[case::another_name("KeyID,name,team\na,A,t\n", "2:a|A|-")]
#[case::default_name("external_id,name,team\na,A,t\n", "2:a|A|-")]
#[case::both("external_id,Key ID,name\nx,a,A\n", "2:a|A|-")]
#[case::missing("name,team\nA,t\n", "1: the column external_id is missing; add it")]
fn a_mapped_name_counts_beside_the_default_one(#[case] content: &str, #[case] row: &str) {
    assert_eq!(
        read_with("t.csv", content, &mapped(&[("external_id", "keyId")])),
        [row]
    );
}

#[test]
fn a_mapped_column_that_is_missing_is_an_error() {
    let options = mapped(&[("issuer_email", "owner")]);
    assert_eq!(
        read_with("t.csv", "external_id,ownr\na,A\n", &options),
        ["1: the column that columns names for issuer_email is missing; correct the name"]
    );
}

#[test]
fn extra_columns_are_an_error_unless_they_are_ignored() {
    let error = "1: \"team\" is not a column; the columns are external_id, name, issuer_email";
    assert_eq!(read("t.csv", "external_id,team\na,t\n"), [error]);
    let options = ReadOptions {
        extra: Some(options::Extra::Error),
        ..mapped(&[("name", "title")])
    };
    assert_eq!(
        read_with("t.csv", "external_id,title,team\na,A,t\n", &options),
        [error]
    );
}

#[rstest]
#[case::one_key(
    "value",
    r#"{"@odata.context":"]","value":[{"id":"a","owner":{"login":"ada"}}, {"id":7}],"next":null}"#
)]
#[case::two_keys("data.tokens", r#"{"meta":[{"tokens":[]}],"data":{"n":1,"tokens":[{"id":"a","owner":{"login":"ada"}},{"id":7}],"x":"}"}}"#)]
fn the_records_may_be_in_a_page(#[case] items: &str, #[case] content: &str) {
    let options = ReadOptions {
        items: options::parse_items(items).unwrap(),
        ..mapped(&[("external_id", "id"), ("name", "owner.login")])
    };
    for name in ["t.json", "t"] {
        assert_eq!(read_with(name, content, &options), ["1:a|ada|-", "1:7|-|-"]);
    }
    let cut = &content[..content.len() - 1];
    let last = read_with("t.json", cut, &options).pop().unwrap();
    assert!(last.contains("the array is not closed"), "{last}");
}

#[rstest]
#[case(r#"{"values":[]}"#)]
#[case(r#"{"value":{}}"#)]
#[case(r#"{"value"#)]
#[case(r#"[{"value":[]}]"#)]
fn a_page_without_the_list_is_an_error(#[case] content: &str) {
    let options = ReadOptions {
        items: vec!["value".to_owned()],
        ..ReadOptions::default()
    };
    let error = "1: there is no list where items says; correct items";
    assert_eq!(read_with("t.json", content, &options), [error]);
}

#[rstest]
#[case::utf_16le(encoding_rs::UTF_16LE, true)]
#[case::utf_16be(encoding_rs::UTF_16BE, true)]
#[case::windows_1252(encoding_rs::WINDOWS_1252, false)]
fn other_encodings_are_read_and_written(
    #[case] encoding: &'static Encoding,
    #[case] has_mark: bool,
) {
    let rows: String = (0..5000)
        .map(|nth| format!("t{nth};Grüße – {nth}\r\n"))
        .collect();
    let text = format!("external_id;name\r\n{rows};Öl\r\n");
    let mark = if has_mark { "\u{feff}" } else { "" };
    let mut content = Vec::new();
    let write = |text: &str, content: &mut Vec<u8>| {
        write_encoded(text.as_bytes(), Some(encoding), content).unwrap();
    };
    write(&format!("{mark}{text}"), &mut content);
    let options = ReadOptions {
        encoding: Some(encoding).filter(|_| !has_mark),
        ..ReadOptions::default()
    };
    let lines = read_with("t.csv", &content, &options);
    assert_eq!(
        (lines.len(), lines[4999].as_str()),
        (5001, "5001:t4999|Grüße – 4999|-")
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    fs::write(&path, &content).unwrap();
    let input = Input::Path(path);
    let rows = Rows::open(&input, &COLUMNS, &options).unwrap();
    let mut spans = vec![rows.last().unwrap().unwrap().span];
    let mut copy = Vec::new();
    copy_rows(&input, &COLUMNS, &options, &mut spans, &mut copy).unwrap();
    let mut expected = Vec::new();
    write(&format!("{mark}external_id;name\r\n;Öl\r\n"), &mut expected);
    assert_eq!(copy, expected);
}

#[test]
fn a_huge_cell_or_row_is_refused() {
    for (size, expected) in [
        (64 * 1024, None),
        (64 * 1024 + 1, Some("2:a|! is longer than 64 KiB; cut it|-")),
        (
            MAX_ROW_LENGTH + 1,
            Some("2! the row is longer than 1 MiB; is a quote left open?"),
        ),
    ] {
        let cell = "x".repeat(size);
        let csv = read("t.csv", format!("external_id,name\na,\"{cell}\"\nb,B\n"));
        let good = "{\"external_id\":\"z\"}";
        let row = format!("{{\"external_id\":\"a\",\"name\":\"{cell}\"}}");
        let lines = read("t.jsonl", format!("{good}\n{row}\n{good}"));
        let array = read("t.json", format!("[{good},\n{row},\n{good}]"));
        assert_eq!(csv[1], "3:b|B|-");
        assert_eq!(lines[2], "3:z|-|-");
        assert_eq!(array, lines);
        if let Some(expected) = expected {
            assert_eq!(csv[0], expected);
            assert_eq!(lines[1], expected);
        } else {
            assert_eq!(csv[0].len(), size + "2:a||-".len());
        }
    }
}

#[test]
fn a_huge_row_of_commas_is_refused() {
    let mut content = "external_id,name\na".to_owned();
    content.push_str(&",".repeat(4 * MAX_ROW_LENGTH));
    let lines = read("t.csv", content);
    assert_eq!(
        lines,
        ["2! the row is longer than 1 MiB; is a quote left open?"]
    );
}

#[test]
fn a_huge_column_name_is_refused_quickly() {
    let name = "x".repeat(MAX_ROW_LENGTH / 2);
    let csv = read("t.csv", format!("external_id,{name}\n"));
    let line = read("t.jsonl", format!("{{\"external_id\":1,\"{name}\":1}}\n"));
    for lines in [csv, line] {
        assert!(
            lines[0].contains(" \"xxxxxxxxxxxxxxxxxxxxxxxx…\" is not a column"),
            "{}",
            lines[0]
        );
    }
}
