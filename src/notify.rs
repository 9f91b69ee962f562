//! Turns the content of a mail into a message and sends it. Nothing here reads the store.
//!
//! ```text
//! letter ──► view ──► template ──► message ──► transport ──► smtp or a folder
//! (values)   (texts)  (text, HTML) (RFC 5322)                (the wire)
//! ```

pub mod fault;
pub mod letter;
pub mod message;
pub mod sample;
pub mod smtp;
pub mod template;
pub mod transport;
pub mod view;
pub mod wording;
