//! A language made of English, for tests: what is not in `[ẍẍ … ẍẍ]` is not translatable, and a third more letters
//! show what has too little room.

use std::fs;
use std::io;
use std::path::Path;

use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};
use fluent_syntax::{parser, serializer};

use super::BUILT_IN;

/// Reserved for this (Unicode CLDR).
pub const TAG: &str = "en-XA";

/// Writes the language to a folder of templates.
pub fn write(templates: &Path) -> io::Result<()> {
    let folder = templates.join("locales").join(TAG);
    fs::create_dir_all(&folder)?;
    let (_, files) = BUILT_IN[0];
    for (path, text) in files {
        let name = Path::new(path).file_name().unwrap_or_default();
        fs::write(folder.join(name), disguise_file(text))?;
    }
    Ok(())
}

fn disguise_file(text: &str) -> String {
    let mut file = parser::parse(text.to_owned()).expect("a built-in file");
    for entry in &mut file.body {
        if let Entry::Message(message) = entry
            && let Some(text) = &mut message.value
            && message.id.name != "digit-group"
        {
            disguise(text);
            // Parts of other phrases are marked with them.
            let mark = |value: &str| PatternElement::Placeable {
                expression: Expression::Inline(InlineExpression::StringLiteral {
                    value: value.to_owned(),
                }),
            };
            text.elements.insert(0, mark("[ẍẍ "));
            text.elements.push(mark(" ẍẍ]"));
        }
    }
    serializer::serialize(&file)
}

fn disguise(text: &mut Pattern<String>) {
    for element in &mut text.elements {
        match element {
            PatternElement::TextElement { value }
            | PatternElement::Placeable {
                expression: Expression::Inline(InlineExpression::StringLiteral { value }),
            } => *value = lengthen(value),
            PatternElement::Placeable {
                expression: Expression::Select { variants, .. },
            } => variants
                .iter_mut()
                .for_each(|variant| disguise(&mut variant.value)),
            PatternElement::Placeable { .. } => {}
        }
    }
}

/// Doubles vowels, and gives letters a mark.
fn lengthen(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        out.push_str(match c {
            'a' => "åå",
            'e' => "éé",
            'i' => "íí",
            'o' => "øø",
            'u' => "üü",
            'k' => "ķ",
            'n' => "ñ",
            's' => "š",
            't' => "ţ",
            'T' => "Ţ",
            other => {
                out.push(other);
                continue;
            }
        });
    }
    out
}
