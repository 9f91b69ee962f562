//! How people are told: letters in, receipts out. Nothing here sees the store.

pub mod letter;
