use std::sync::{Arc, Mutex};

use rstest::rstest;
use tracing::Dispatch;

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn log(filter: EnvFilter, style: LineStyle) -> (Dispatch, Written) {
    let written = Written::default();
    let writer = written.clone();
    let dispatch = Dispatch::new(subscriber(filter, style, move || writer.clone()));
    (dispatch, written)
}

const PLAIN: LineStyle = LineStyle {
    format: Format::Text,
    colour: false,
};

/// Events of several libraries and of lapsed, at every level.
fn log_at_every_level() {
    macro_rules! at_every_level {
        ($($target:literal),*) => { $(
            tracing::trace!(target: $target, "<{} trace>", $target);
            tracing::debug!(target: $target, "<{} debug>", $target);
            tracing::info!(target: $target, "<{} info>", $target);
            tracing::warn!(target: $target, "<{} warn>", $target);
        )* };
    }
    at_every_level!(
        "lapsed::engine",
        "lettre",
        "lettre::transport::smtp::client",
        "sqlx::query",
        "hyper::proto",
        "lapsed_not_ours"
    );
}

#[rstest]
#[case::level(Level::TRACE, None)]
#[case::everything(Level::INFO, Some("trace"))]
#[case::by_name(
    Level::INFO,
    Some("lettre=trace,sqlx=trace,hyper=trace,lapsed=trace,lapsed_not_ours=trace")
)]
#[case::by_module(
    Level::INFO,
    Some("trace,lettre::transport::smtp::client=trace,sqlx::query=trace")
)]
#[case::within_a_span(Level::INFO, Some("trace,[sweep]=trace,[{source=x}]=trace"))]
fn no_setting_lifts_the_caps_of_libraries(#[case] level: Level, #[case] directives: Option<&str>) {
    let (dispatch, written) = log(filter(level, directives).unwrap(), PLAIN);
    tracing::dispatcher::with_default(&dispatch, || {
        let _span = tracing::trace_span!("sweep", source = "x").entered();
        log_at_every_level();
    });
    let text = written.text();
    for shown in [
        "<lapsed::engine trace>",
        "<lapsed::engine debug>",
        "<lettre warn>",
        "<lettre::transport::smtp::client warn>",
        "<sqlx::query warn>",
        "<hyper::proto info>",
        "<lapsed_not_ours info>",
    ] {
        assert!(text.contains(shown), "{shown} is missing in\n{text}");
    }
    for hidden in [
        "<lettre trace>",
        "<lettre debug>",
        "<lettre info>",
        "<lettre::transport::smtp::client trace>",
        "<lettre::transport::smtp::client info>",
        "<sqlx::query debug>",
        "<sqlx::query info>",
        "<hyper::proto trace>",
        "<hyper::proto debug>",
        "<lapsed_not_ours debug>",
    ] {
        assert!(!text.contains(hidden), "{hidden} got through in\n{text}");
    }
}

#[test]
fn directives_can_lower_a_level_below_its_cap() {
    let filter = filter(Level::TRACE, Some("lapsed=warn")).unwrap();
    let (dispatch, written) = log(filter, PLAIN);
    tracing::dispatcher::with_default(&dispatch, log_at_every_level);
    let text = written.text();
    assert!(text.contains("<lapsed::engine warn>"));
    assert!(!text.contains("<lapsed::engine info>") && !text.contains("<hyper"));
}

#[test]
fn invalid_directives_are_named_in_the_error() {
    let error = filter(Level::INFO, Some("lapsed=loud")).unwrap_err();
    assert!(error.to_string().contains("RUST_LOG=\"lapsed=loud\""));
}

#[test]
fn a_changed_level_applies_to_the_next_line() {
    let (layer, handle) = reload::Layer::new(filter(Level::WARN, None).unwrap());
    let written = Written::default();
    let writer = written.clone();
    let dispatch = Dispatch::new(subscriber(layer, PLAIN, move || writer.clone()));
    let mut telemetry = Telemetry {
        filter: handle,
        directives: None,
    };
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::debug!("one");
        assert!(telemetry.set_level(Level::DEBUG).unwrap());
        tracing::debug!("two");
        telemetry.directives = Some("debug".to_owned());
        assert!(!telemetry.set_level(Level::WARN).unwrap());
        tracing::debug!("three");
    });
    let text = written.text();
    assert!(!text.contains("one") && text.contains("two") && text.contains("three"));
}

/// One line of the log, with `name` as a field and in the message.
fn logged(format: Format, name: &str) -> String {
    let style = LineStyle {
        format,
        colour: true,
    };
    let (dispatch, written) = log(filter(Level::INFO, None).unwrap(), style);
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!(token.name = %name, "token {name} is new");
    });
    written.text().trim_end_matches('\n').to_owned()
}

#[test]
fn no_unsafe_character_reaches_a_terminal_a_mail_or_a_log() {
    let ranges = [
        '\u{0}'..='\u{1f}',
        '\u{7f}'..='\u{9f}',
        '\u{61c}'..='\u{61c}',
        '\u{200e}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2066}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
        '\u{e0000}'..='\u{e007f}',
    ];
    for unsafe_char in ranges.into_iter().flatten() {
        let name = format!("a{unsafe_char}b");
        let json = serde_json::to_string(&name).unwrap();
        let outputs = [
            ("terminal", text::clean(&name).into_owned()),
            (
                "terminal, lines",
                text::clean_lines(&name).replace('\n', " "),
            ),
            ("terminal, name", text::clean_name(&name)),
            ("terminal, JSON", text::escape_json(json)),
            ("mail", text::one_line(&name, text::MAX_TEXT)),
            ("mail, name", text::display_name(&name, "", text::MAX_NAME)),
            ("log", without_colours(&logged(Format::Text, &name))),
            ("log, JSON", logged(Format::Json, &name)),
        ];
        for (output, shown) in outputs {
            assert!(!shown.contains(unsafe_char), "{output}: {shown:?}");
            assert!(shown.contains('a') && shown.contains('b'), "{output}");
        }
    }
}

/// The colours of the log itself begin with the control character ESC.
fn without_colours(line: &str) -> String {
    console::strip_ansi_codes(line).into_owned()
}

#[test]
fn a_name_cannot_forge_a_line() {
    let name = "x\r\n2026-01-01T00:00:00Z  INFO lapsed: all is well\u{1b}[2J";
    for format in [Format::Text, Format::Json] {
        let style = LineStyle {
            format,
            colour: false,
        };
        let (dispatch, written) = log(filter(Level::INFO, None).unwrap(), style);
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(token.name = %name, "token {name} is new");
        });
        let text = written.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.ends_with('\n') && !text.contains(['\r', '\u{1b}']),
            "{text}"
        );
    }
}

#[test]
fn only_colour_sequences_pass_to_a_terminal() {
    let line = "\u{1b}[2mdim\u{1b}[0m \u{1b}[2Jwiped\u{1b}]0;title\u{7}\u{9b}1A ü";
    assert_eq!(
        escape_unsafe(line, true),
        "\u{1b}[2mdim\u{1b}[0m \\u{1b}[2Jwiped\\u{1b}]0;title\\u{7}\\u{9b}1A ü"
    );
    assert!(!escape_unsafe(line, false).contains('\u{1b}'));
}

#[test]
fn json_is_one_object_per_line_with_flattened_fields() {
    let style = LineStyle {
        format: Format::Json,
        colour: true,
    };
    let (dispatch, written) = log(filter(Level::INFO, None).unwrap(), style);
    tracing::dispatcher::with_default(&dispatch, || tracing::info!(sent = 3, "swept"));
    let line: serde_json::Value = serde_json::from_str(&written.text()).unwrap();
    assert_eq!(line["message"], "swept");
    assert_eq!(line["sent"], 3);
    assert_eq!(line["level"], "INFO");
}

#[rstest]
#[case(true, None, true)]
#[case(true, Some(""), true)]
#[case(true, Some("1"), false)]
#[case(false, None, false)]
fn colour_needs_a_terminal_and_no_no_color(
    #[case] is_terminal: bool,
    #[case] no_color: Option<&str>,
    #[case] colour: bool,
) {
    assert_eq!(has_colour(is_terminal, no_color.map(OsStr::new)), colour);
}

#[rstest]
#[case("src/engine/sweep.rs", "src/engine/sweep.rs")]
#[case(
    "/root/.cargo/registry/src/index-1/ldap3-0.12.1/src/protocol.rs",
    "ldap3-0.12.1/src/protocol.rs"
)]
#[case("/rustc/5980/library/core/src/option.rs", "core/src/option.rs")]
#[case("/build/main.rs", "main.rs")]
fn no_path_of_the_build_machine_is_shown(#[case] file: &str, #[case] shown: &str) {
    assert_eq!(strip_build_path(file), shown);
}

#[test]
fn a_panic_is_logged_on_one_line() {
    let (dispatch, written) = log(filter(Level::INFO, None).unwrap(), PLAIN);
    tracing::dispatcher::with_default(&dispatch, || {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        let caught = panic::catch_unwind(|| panic!("the ledger\nis lost"));
        panic::set_hook(previous);
        assert!(caught.is_err());
    });
    let text = written.text();
    assert!(
        text.contains("ERROR") && text.contains(r"panic: the ledger\nis lost"),
        "{text}"
    );
    assert!(text.contains("telemetry/tests.rs"), "{text}");
}
