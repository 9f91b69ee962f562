//! The `lapsed` program.

fn main() {}
