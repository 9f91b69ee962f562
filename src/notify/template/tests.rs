use std::fs;

use proptest::prelude::*;

use super::*;

fn built_in() -> Templates {
    Templates::load(None).unwrap()
}

fn sample_named(name: &str) -> Letter {
    let found = sample::all(sample::now())
        .into_iter()
        .find(|sample| sample.name == name);
    found.unwrap().letter
}

#[test]
fn print_all() {
    let t = built_in();
    for s in sample::all(sample::now()) {
        let r = t.render(&s.letter, &Place::default()).unwrap();
        println!("=== {} [{}]\n{}\n", s.name, r.subject, r.text);
    }
}
