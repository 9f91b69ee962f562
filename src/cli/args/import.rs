//! The arguments of `lapsed import`.
#![expect(
    clippy::doc_markdown,
    reason = "clap prints these comments, back-ticks and all"
)]

use std::path::PathBuf;

use chrono_tz::Tz;
use clap::Args;
use encoding_rs::Encoding;

use super::values::{Input, parse_mapping, parse_zone};
use crate::domain::LOCAL_SOURCE;
use crate::sources::rows::options::{parse_date_format, parse_encoding};

#[derive(Debug, Args)]
pub struct Import {
    /// File to read; - is standard input
    #[arg(value_name = "FILE")]
    pub file: Input,
    /// Source of the tokens; a configured source would mark them as gone at its next sync
    #[arg(long, value_name = "NAME", default_value = LOCAL_SOURCE)]
    pub source: String,
    /// Copy the header and the refused rows to this new file, and print every reason
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
    /// Check the file and show what would change; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// How the file is read, as the keys of a `[[source]]` of kind `file` say it.
#[derive(Debug, Args)]
pub struct Reading {
    /// Name that a column has in the file, such as expires_at=endDateTime; repeatable
    #[arg(long, value_name = "COLUMN=NAME", value_parser = parse_mapping)]
    pub map: Vec<(String, String)>,
    /// Keys that lead to the list of tokens in a JSON document, such as value or data.tokens
    #[arg(long, value_name = "KEYS")]
    pub items: Option<String>,
    /// What to do with other columns [default: ignore with --map, otherwise error]
    #[arg(long, value_name = "WHAT", value_parser = ["error", "ignore"])]
    pub extra: Option<String>,
    /// How dates are written, such as %d.%m.%Y
    #[arg(long, value_name = "FORMAT", value_parser = parse_date_format)]
    pub date_format: Option<String>,
    /// Expiry that means never, such as N/A; repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub never: Vec<String>,
    /// Time zone of dates without one, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", value_parser = parse_zone)]
    pub timezone: Option<Tz>,
    /// Instant that a plain date means [default: start]
    #[arg(long, value_name = "EDGE", value_parser = ["start", "end"])]
    pub dates: Option<String>,
    /// Encoding of the file, such as windows-1252 [default: UTF-8, or by its byte order mark]
    #[arg(long, value_name = "NAME", value_parser = parse_encoding)]
    pub encoding: Option<&'static Encoding>,
}
