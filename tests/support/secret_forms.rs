//! The forms in which a secret may be found in what was stored, logged or answered.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A secret key and its halves, with and without the check characters: as they are, in hexadecimal and in base64.
pub fn secret_forms(secret_key: &str) -> Vec<String> {
    let secret = &secret_key[..43];
    let halves = secret_key.split_at(secret_key.len() / 2);
    let parts = [secret_key, secret, halves.0, halves.1];
    parts.into_iter().flat_map(part_forms).collect()
}

fn part_forms(part: &str) -> Vec<String> {
    let hex = |case: fn(u8) -> String| part.bytes().map(case).collect();
    let mut forms = vec![
        part.to_owned(),
        hex(|byte| format!("{byte:02x}")),
        hex(|byte| format!("{byte:02X}")),
    ];
    for before in 0..3 {
        // Behind other text, such as the access key of a pair: the first and the last character depend on it.
        let shifted = "x".repeat(before) + part;
        for base64 in [
            STANDARD_NO_PAD.encode(&shifted),
            URL_SAFE_NO_PAD.encode(&shifted),
        ] {
            let from = (before * 8).div_ceil(6);
            let until = (before + part.len()) * 8 / 6;
            forms.push(base64[from..until].to_owned());
        }
    }
    forms
}
