//! How people are told: letters in, receipts out. Nothing here sees the store.
//!
//! ```text
//! letter ──► view ──► template ──► message ──► smtp or outbox
//! (values)   (words)  (text, HTML) (RFC 5322)  (the wire, a folder)
//! ```

pub mod letter;
mod plain;
pub mod sample;
pub mod template;
pub mod view;
pub mod wording;
mod wrap;
