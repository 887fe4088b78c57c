//! Every promise of the threat model names tests that are there and run; and so does each of SECURITY.md that names any.

use icecore_tests::reader::project;
use std::collections::BTreeSet;

fn page(name: &str) -> String {
    std::fs::read_to_string(project().join(name)).unwrap()
}

/// Tests by file and name, as pages name them.
fn tests_of(text: &str) -> BTreeSet<(&str, &str)> {
    text.split('`').filter_map(|word| word.split_once(".rs::")).collect()
}

#[test]
fn the_tests_that_promises_name_are_there_and_run() {
    let (model, security) = (page("docs/threat-model.md"), page("SECURITY.md"));
    let named: BTreeSet<_> = tests_of(&model).into_iter().chain(tests_of(&security)).collect();
    assert!(named.len() > 60, "{}", named.len());
    for (file, test) in named {
        let source = std::fs::read_to_string(project().join(format!("{file}.rs"))).unwrap_or_else(|error| panic!("{file}.rs: {error}"));
        let lines: Vec<_> = source.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| line.starts_with(&format!("fn {test}(")));
        let at = at.unwrap_or_else(|| panic!("{file}.rs has no function `{test}`"));
        // What stands above it, up to the function before.
        let above: Vec<_> = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//")).collect();
        assert!(above.contains(&&"#[test]"), "{file}.rs: `{test}` is no test");
        assert!(!above.iter().any(|line| line.starts_with("#[ignore")), "{file}.rs: `{test}` is not run");
    }
}

#[test]
fn every_promise_names_a_test() {
    let model = page("docs/threat-model.md");
    let (mut rows, mut holders) = (0, None);
    for line in model.lines() {
        let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix('|')) else {
            // A table ends with the first line that is none of it; the line of dashes below its head is one.
            holders = holders.filter(|_| line.starts_with('|'));
            continue;
        };
        let cells: Vec<_> = row.split(" | ").map(str::trim).collect();
        match (holders, cells.last()) {
            (None, Some(&"test")) => holders = Some(cells.iter().position(|cell| *cell == "held by")),
            (None, _) => {}
            (Some(holder), Some(last)) => {
                rows += 1;
                let is_held = holder.is_none_or(|holder| !cells[holder].starts_with("**nobody**"));
                assert!(!is_held || !tests_of(last).is_empty(), "no test: {line}");
            }
            (Some(_), None) => unreachable!("a line has a cell"),
        }
    }
    assert!(rows > 60, "{rows}");
    // What SECURITY.md promises in prose stands in a table there.
    for words in ["first admin", "key file", "caches", "after a minute", "certificate"] {
        assert!(model.lines().any(|line| line.starts_with("| ") && line.contains(words)), "{words}");
    }
}
