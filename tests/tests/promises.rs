//! Every promise of the threat model names tests that are there.

use icecore_tests::reader::project;
use std::collections::BTreeSet;

#[test]
fn the_tests_that_promises_name_are_there() {
    let page = std::fs::read_to_string(project().join("docs/threat-model.md")).unwrap();
    let named: BTreeSet<_> = page.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 40, "{}", named.len());
    for (file, test) in named {
        let source = std::fs::read_to_string(project().join(format!("{file}.rs"))).unwrap_or_else(|error| panic!("{file}.rs: {error}"));
        let attribute = "#[test]\n";
        let is_there = source.split(attribute).skip(1).any(|after| {
            let signature = after.lines().find(|line| line.trim_start().starts_with("fn "));
            signature.is_some_and(|line| line.trim_start().starts_with(&format!("fn {test}(")))
        });
        assert!(is_there, "{file}.rs has no test `{test}`");
    }
}
