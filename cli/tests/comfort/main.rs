//! What makes the program comfortable, as people run it: looking into snapshots, profiles, JSON, the guide.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod guide;
mod home;
mod json;
mod profiles;
mod tiers;

use home::{Home, finish};
use serde_json::json;
use std::fs;

#[test]
fn differences_and_finds_name_what_changed_and_where_it_is() {
    let home = Home::new();
    home.write("data/stays", "1");
    home.write("data/letter.txt", "Dear Ann");
    home.write("data/old", "22");
    let first = home.backup(&["--series", "one"]);
    home.with(2, &["diff", "latest"]);
    home.write("data/letter.txt", "Dear Ann, dear Bob");
    home.write("data/new", "333");
    fs::remove_file(home.path("data/old")).unwrap();
    let second = home.backup(&["--series", "one"]);

    let said = home.with(0, &["diff", "latest", "--no-metadata"]).stdout;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with('C') && lines[0].ends_with("8 B -> 18 B  data/letter.txt"), "{said}");
    assert!(lines[1].starts_with('+') && lines[2].starts_with('-') && lines[3].contains("1 added (3 B), 1 removed (2 B)"), "{said}");
    let lines = home.with(0, &["diff", &second, &first[..8], "--path", "data/new", "--json"]).json();
    assert_eq!((&lines[0]["change"], &lines[0]["size"], &lines[1]["removed"], lines.len()), (&"removed".into(), &3.into(), &1.into(), 2));
    home.with(1, &["diff", &first, &second, "--path", "data/nowhere"]);

    let lines = home.with(0, &["find", "letter*", "--json"]).json();
    let [old, new, summary] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&old["snapshots"], &old["size"]), (&json!([first]), &8.into()));
    assert_eq!((&new["snapshots"], &new["path"]), (&json!([second]), &"data/letter.txt".into()));
    assert_eq!((&summary["paths"], &summary["versions"]), (&1.into(), &2.into()));
    let stays = home.with(0, &["find", "data/s*", "--type", "file"]).stdout;
    assert!(stays.starts_with("data/stays\n") && stays.contains("in 2 snapshots"), "{stays}");
    assert_eq!(home.with(0, &["find", "--larger", "9", "--json"]).last("summary")["paths"], 1);
    assert_eq!(home.with(0, &["find", "old", "--snapshot", &second[..8], "--json"]).last("summary")["paths"], 0);
    home.with(2, &["find", "[x"]);
}

#[test]
fn tags_change_and_the_snapshot_gets_another_id() {
    let home = Home::new();
    home.write("data/file", "1");
    let old = home.backup(&["--tag", "a"]);
    home.with(2, &["tag", &old]);
    let lines = home.with(0, &["tag", "latest", "--add", "b", "--remove", "a", "--json"]).json();
    assert_eq!((&lines[0]["id_before"], &lines[0]["tags"], &lines[1]["changed"]), (&old.clone().into(), &json!(["b"]), &1.into()));
    let shown = home.with(0, &["snapshots", "--json"]).json();
    assert_eq!((&shown[0]["id"], &shown[0]["tags"], shown.len()), (&lines[0]["id"], &json!(["b"]), 2));
    assert!(home.with(0, &["tag", "latest", "--set", ""]).stdout.contains("no tags"));
    home.with(1, &["cat", &old, "data/file"]);
    assert_eq!(home.with(0, &["cat", "latest", "data/file"]).stdout, "1");
    home.with(0, &["check"]);
}

#[test]
fn snapshots_are_grouped_and_filtered() {
    let home = Home::new();
    home.write("data/file", "1");
    for (series, day) in [("b", 1), ("a", 2), ("b", 3), ("b", 4)] {
        let time = format!("2026-01-0{day}T12:00:00Z");
        home.backup(&["--series", series, "--time", &time, "--host", if day == 3 { "other" } else { "this" }]);
    }
    let table = home.with(0, &["snapshots"]).stdout;
    let headings: Vec<&str> = table.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(headings, ["a (1)", "b (3)"], "{table}");
    assert_eq!(home.with(0, &["snapshots", "--ungrouped"]).stdout.lines().count(), 5);
    let count = |arguments: &[&str]| home.with(0, &[&["snapshots", "--json"], arguments].concat()).last("summary")["snapshots"].clone();
    assert_eq!(count(&["--series", "b", "--latest", "2"]), 2);
    assert_eq!(count(&["--latest", "1"]), 2);
    assert_eq!(count(&["--since", "2026-01-02", "--until", "2026-01-03"]), 2);
    assert_eq!(count(&["--host", "other"]), 1);
    assert_eq!(count(&["--path", home.path("data/file").to_str().unwrap()]), 4);
    assert_eq!(count(&["--path", "/elsewhere"]), 0);
    home.with(2, &["snapshots", "--latest", "0"]);
    let by = home.with(0, &["stats", "--by", "series", "--json"]).json();
    assert_eq!((&by[1]["series"], &by[1]["snapshots"], by.len()), (&"b".into(), &3.into(), 3));
    assert_eq!(home.with(0, &["stats", "--by", "snapshot", "--series", "b"]).stdout.lines().count(), 4);
}

#[test]
fn what_was_probably_meant_is_said() {
    let home = Home::new();
    home.write("data/file", "1");
    let id = home.backup(&["--series", "documents"]);
    let said = |code, arguments: &[&str]| home.with(code, arguments).stderr;
    assert!(said(2, &["snapshot"]).contains("'snapshots'"));
    assert!(said(2, &["backup", "data", "--serie", "x"]).contains("--series"));
    assert!(said(1, &["ls", "latest", "--series", "document"]).contains("did you mean `documents`?"));
    assert!(said(0, &["snapshots", "--series", "documnets"]).contains("did you mean `documents`?"));
    let mut wrong = id[..8].to_owned();
    wrong.replace_range(7..8, if wrong.ends_with('0') { "1" } else { "0" });
    assert!(said(1, &["ls", &wrong]).contains(&format!("did you mean `{}`?", &id[..8])));
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let home = Home::new();
    home.write("data/file", "1");
    home.backup(&["--series", "old", "--time", "2026-01-01T00:00:00Z"]);
    home.backup(&["--series", "new"]);
    let states = |code, arguments: &[&str]| {
        let lines = home.with(code, &[&["doctor", "--garbage", "--json"], arguments].concat()).json();
        let told: Vec<_> = lines.iter().filter(|line| line["message_type"] == "examination").cloned().collect();
        let state = |topic: &str, text: &str| {
            let found = told.iter().find(|line| line["topic"] == topic && line["message"].as_str().unwrap().contains(text));
            found.unwrap_or_else(|| panic!("{topic} {text}: {told:?}"))["state"].as_str().unwrap().to_owned()
        };
        [state("folder", "hard links"), state("backups", "new:"), state("backups", "old:"), state("sessions", ""), state("garbage", "")]
    };
    assert_eq!(states(0, &[]), ["ok", "ok", "warn", "ok", "ok"]);
    assert_eq!(states(0, &["--max-age", "99y"]), ["ok", "ok", "ok", "ok", "ok"]);
    home.backup(&["--series", "ahead", "--time", "2100-01-01T00:00:00Z"]);
    let said = home.with(0, &["doctor"]).stdout;
    assert!(said.contains("sessions") && !said.contains("garbage"), "quick unless asked for more: {said}");
    assert!(said.contains("warn  clock") && said.contains("2 deserve a look"), "{said}");
    assert!(home.run(12, &["doctor", "-r", "r", "--key-command", "printf '%064d' 7"]).stdout.contains("fail  repository"));
    home.run(10, &["doctor", "-r", "nowhere"]);
    let left = fs::read_dir(home.path("r/tmp")).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name != "reserve").count(), 0, "nothing is left behind");
}

#[test]
fn speed_is_limited_and_manual_pages_are_written() {
    let home = Home::new();
    home.write("data/file", "1");
    home.with(0, &["backup", "data", "--limit-upload", "50M", "--limit-download", "50M", "--nice", "5", "--threads", "1"]);
    home.with(2, &["snapshots", "--limit-download", "0"]);
    home.with(2, &["snapshots", "--nice", "20"]);
    home.run(0, &["man", "--out", "pages"]);
    let page = fs::read_to_string(home.path("pages/icecore-backup.1")).unwrap();
    assert!(page.contains("exclude") && home.path("pages/icecore-key-add.1").exists(), "{page}");
}

#[test]
fn folders_are_listed_one_at_a_time() {
    let home = Home::new();
    home.write("data/a/b/c", "1");
    home.write("data/d", vec![b'x'; 2048]);
    home.backup(&[]);
    assert_eq!(home.with(0, &["ls", "latest", "data"]).stdout, "data/\ndata/a/\ndata/d\n");
    assert_eq!(home.with(0, &["ls", "latest", "data", "-R"]).stdout, "data/\ndata/a/\ndata/a/b/\ndata/a/b/c\ndata/d\n");
    assert!(home.with(0, &["ls", "latest", "data", "-l"]).stdout.contains("2.0 KiB"));
    finish(1, &mut home.command(&["ls", "latest", "data/x", "-r", "r", "--key-file", "k"]));
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let home = Home::new();
    for command in json::commands(&home) {
        let words: Vec<&str> = match command.split_once('-').filter(|(first, _)| ["hold", "key", "profile", "tier"].contains(first)) {
            Some((first, second)) => vec![first, second],
            None => vec![&command],
        };
        let help = home.run(0, &[&words[..], &["--help"]].concat()).stdout;
        assert!(help.contains(&format!("\n  icecore {}", words.join(" "))), "{command}: {help}");
    }
}
