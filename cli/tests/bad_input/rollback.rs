//! A store that shows an older state than was seen, or from which snapshots were taken away: each command says so and what to do, and that works.

use crate::home::{Home, copy, files_below};
use std::fs;

/// The id of the only snapshot that was not there `before`.
fn new_snapshot(home: &Home, before: &[String]) -> String {
    let name = home.objects().into_iter().find(|name| name.starts_with("snapshots/") && !before.contains(name)).unwrap();
    name.rsplit('/').next().unwrap().to_owned()
}

/// What stands in `said` between these words for the first time.
#[track_caller]
fn between<'s>(said: &'s str, from: &str, to: &str) -> &'s str {
    let rest = said.split_once(from).unwrap_or_else(|| panic!("no `{from}` in {said}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no `{to}` in {said}")).0
}

/// What was seen is not there any more, as all of `words` tell; what is there can be restored and added to, and nothing goes.
#[track_caller]
fn is_told(home: &Home, older: &str, words: &[&str]) {
    for arguments in [&["check"][..], &["scrub"], &["snapshots"], &["forget", "--keep-last", "1"]] {
        home.run(14, arguments, words);
    }
    home.run(14, &["restore", "latest", "--target", "t"], &[older, "instead of `latest`"]);
    home.run(0, &["restore", older, "--target", "t"], &words[..1]);
    assert_eq!(home.restored("t"), 42);
    home.run(0, &["backup", "s"], &words[..1]);
    let before = files_below(&home.path("r"));
    home.run(14, &["gc"], &["nothing is condemned or deleted"]);
    let after = files_below(&home.path("r"));
    assert!(before.keys().all(|name| name.starts_with("tmp/") || after.contains_key(name)), "gc took something away");
}

/// Nothing is wrong any more.
#[track_caller]
fn is_accepted(home: &Home) {
    for arguments in [&["check"][..], &["snapshots"], &["forget", "--keep-last", "1"], &["gc"]] {
        home.run(0, arguments, &[]);
    }
    fs::remove_dir_all(home.path("t")).unwrap();
    home.run(0, &["restore", "latest", "--target", "t"], &[]);
    assert_eq!(home.restored("t"), 42);
}

#[test]
fn an_older_copy_in_the_place_of_the_repository_is_told_and_accepted_as_is_said() {
    let home = Home::new();
    let older = home.only("snapshots").rsplit('/').next().unwrap()[..8].to_owned();
    let before = home.objects();
    copy(&home.path("r"), &home.path("older"));
    home.run(0, &["backup", "s"], &[]);
    let newer = new_snapshot(&home, &before);
    home.run(0, &["forget", &older], &[]);
    home.run(0, &["gc"], &[]);
    fs::remove_dir_all(home.path("r")).unwrap();
    copy(&home.path("older"), &home.path("r"));
    is_told(&home, &older, &["the store serves an older or another state"]);
    let said = home.run(14, &["check"], &["epoch 1 of garbage collection was there", &newer, "Bring back the newer state"]);
    fs::remove_file(between(&said, "on purpose, remove ", " to accept it")).unwrap();
    is_accepted(&home);
}

#[test]
fn an_older_config_is_refused_by_every_command_and_accepted_as_is_said() {
    let home = Home::new();
    copy(&home.path("r"), &home.path("older"));
    home.run(0, &["key", "rotate"], &[]);
    home.run(0, &["snapshots"], &[]);
    fs::remove_dir_all(home.path("r")).unwrap();
    copy(&home.path("older"), &home.path("r"));
    let mut file = String::new();
    for arguments in [&["check"][..], &["snapshots"], &["backup", "s"], &["restore", "latest", "--target", "t"], &["gc"]] {
        let said = home.run(14, arguments, &["generation 2 of the config was there, and now 1 is the newest"]);
        file = between(&said, "on purpose, remove ", " to accept it").to_owned();
    }
    fs::remove_file(file).unwrap();
    home.run(0, &["check"], &[]);
    home.run(0, &["restore", "latest", "--target", "t"], &[]);
    assert_eq!(home.restored("t"), 42);
}

#[test]
fn a_snapshot_that_was_taken_away_is_told_and_given_up_as_is_said() {
    // All that tells of it, or only the snapshot itself.
    for with_traces in [true, false] {
        let home = Home::new();
        let older = home.only("snapshots").rsplit('/').next().unwrap()[..8].to_owned();
        let before = home.objects();
        home.run(0, &["backup", "s"], &[]);
        let lost = new_snapshot(&home, &before);
        let taken = if with_traces { &["snapshots/", "closed/", "sessions/"][..] } else { &["snapshots/"] };
        let is_taken = |name: &String| !before.contains(name) && taken.iter().any(|folder| name.starts_with(folder));
        home.objects().iter().filter(|name| is_taken(name)).for_each(|name| home.set(name, None));
        if with_traces {
            is_told(&home, &older, &[&lost]);
        }
        let said = home.run(14, &["check"], &[&lost, "without having been forgotten"]);
        home.run(14, &["restore", &lost, "--target", "u"], &["without having been forgotten", "icecore forget"]);
        let id = between(&said, "accept the loss with `icecore forget ", "`").to_owned();
        home.run(0, &["forget", &id], &[]);
        if with_traces {
            is_accepted(&home);
        } else {
            home.run(0, &["check"], &[]);
            home.run(0, &["restore", "latest", "--target", "t"], &[]);
        }
    }
}
