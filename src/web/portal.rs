//! What all pages share: the visitor, the frame, templates, phrases, assets and headers.

pub mod assets;
pub mod cookies;
pub mod error;
pub mod form;
pub mod frame;
pub mod headers;
pub mod layer;
pub mod link_mail;
pub mod session;
pub mod templates;
pub mod words;
