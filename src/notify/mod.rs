//! How people are told: letters in, receipts out. Nothing here sees the store.
//!
//! ```text
//! letter ──► view ──► template ──► message ──► transport ──► smtp or outbox
//! (values)   (words)  (text, HTML) (RFC 5322)                (the wire, a folder)
//! ```

pub mod fault;
pub mod letter;
pub mod message;
pub mod outbox;
mod plain;
pub mod sample;
pub mod smtp;
pub mod template;
pub mod transport;
pub mod view;
pub mod wording;
mod wrap;
