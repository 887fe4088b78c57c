//! Objects that are missing, cut off, changed, exchanged or doubled.

use crate::home::{Home, finish};

/// An object's bytes, damaged.
fn ways(bytes: &[u8], other: &[u8]) -> [(&'static str, Option<Vec<u8>>); 6] {
    let flipped = |at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 4;
        Some(bytes)
    };
    [
        ("missing", None),
        ("empty", Some(Vec::new())),
        ("cut off", Some(bytes[..bytes.len() - 9].to_vec())),
        ("changed in its head", flipped(20)),
        ("changed in its middle", flipped(bytes.len() / 2)),
        ("exchanged", Some(other.to_vec())),
    ]
}

#[test]
fn damage_is_named_by_scrub_and_nothing_wrong_is_restored() {
    let home = Home::new();
    let objects = home.objects();
    assert!(objects.len() >= 8, "{objects:?}");
    for (number, name) in objects.iter().enumerate() {
        let bytes = home.object(name);
        let other = home.object(&objects[(number + 1) % objects.len()]);
        let kind = name.split('/').next().unwrap();
        for (way, damaged) in ways(&bytes, &other) {
            home.set(name, damaged.as_deref());
            let what = format!("{name} {way}");
            let (code, said) = finish(&mut home.command(&["scrub"]));
            // Without it a repository is as it was before it was written, and its session unfinished.
            let is_missed = !(way == "missing" && kind == "closed");
            assert!(code == 14 || !is_missed, "{what}: scrub ended with {code}:\n{said}");
            let is_gone = way == "missing" && matches!(kind, "packs" | "meta" | "refs" | "config" | "keys");
            assert!(code == 0 || is_gone || said.contains(name.as_str()), "{what}: scrub does not name it:\n{said}");
            let _ = std::fs::remove_dir_all(home.path("t"));
            let (restored, told) = finish(&mut home.command(&["restore", "latest", "--target", "t"]));
            let count = home.restored("t");
            match restored {
                0 => assert_eq!(count, 42, "{what}: {told}"),
                14 => assert!(code == 14 && ["check", "scrub"].iter().any(|word| told.contains(word)), "{what}: {told}"),
                // The one snapshot's session is not closed, and it is not complete.
                1 => assert!(way == "missing" && kind == "closed", "{what}: {told}"),
                other => panic!("{what}: restore ended with {other}:\n{told}"),
            }
            home.set(name, Some(&bytes));
        }
    }
    home.run(0, &["scrub"], &["no damage found"]);
}

#[test]
fn files_that_are_lost_are_named_and_the_others_come_back() {
    let home = Home::new();
    let pack = home.only("packs");
    let mut bytes = home.object(&pack);
    bytes[5000] ^= 1;
    home.set(&pack, Some(&bytes));
    let said = home.run(14, &["restore", "latest", "--target", "t"], &[pack.as_str(), "s/", "scrub"]);
    let count = home.restored("t");
    assert!(count > 0 && count < 42, "{count}: {said}");
    home.run(14, &["scrub"], &[pack.as_str(), "suffers: snapshot ", "\n  s/", "snapshots that suffer", "icecore repair"]);
}

#[test]
fn where_the_newest_snapshot_is_damaged_the_one_before_is_offered_and_not_taken() {
    let home = Home::new();
    let first = home.only("snapshots").rsplit('/').next().unwrap()[..8].to_owned();
    let before = home.objects();
    home.run(0, &["backup", "s"], &[]);
    let newest = home.objects().into_iter().find(|name| name.starts_with("snapshots/") && !before.contains(name)).unwrap();
    let mut bytes = home.object(&newest);
    bytes[100] ^= 1;
    home.set(&newest, Some(&bytes));
    let newest = &newest.rsplit('/').next().unwrap()[..8];
    home.run(14, &["restore", "latest", "--target", "t"], &[newest, &format!("say {first} instead of `latest`"), "icecore forget"]);
    home.run(0, &["restore", &first, "--target", "t"], &[]);
    home.run(0, &["forget", newest], &[]);
    home.run(0, &["restore", "latest", "--target", "t"], &[]);
}

#[test]
fn a_copy_under_another_name_is_named() {
    let home = Home::new();
    // A restore from it leaves more of them.
    for name in ["packs", "snapshots", "closed", "sessions"].map(|folder| home.only(folder)) {
        let folder = name.split('/').next().unwrap();
        let copy = match folder {
            "packs" => format!("packs/cc/{}", "c".repeat(32)),
            _ => format!("{folder}/{}", "c".repeat(32)),
        };
        home.set(&copy, Some(&home.object(&name)));
        for command in ["check", "scrub"] {
            home.run(14, &[command], &[copy.as_str(), "another name"]);
        }
        let _ = std::fs::remove_dir_all(home.path("t"));
        let (code, said) = finish(&mut home.command(&["restore", "latest", "--target", "t"]));
        assert!(matches!(code, 0 | 14) && (code == 14 || home.restored("t") == 42), "{folder}: {said}");
        home.set(&copy, None);
    }
}

#[test]
fn commands_that_change_something_refuse_what_might_lose_something() {
    let home = Home::new();
    home.set(&home.only("packs"), None);
    home.run(14, &["gc"], &["nothing is condemned or deleted", "check", "forget"]);
    // What is lost is stored anew, since the source still has it.
    home.run(0, &["backup", "s"], &[]);
    home.run(0, &["restore", "latest", "--target", "t"], &[]);
    assert_eq!(home.restored("t"), 42);
    home.set(&home.only("config"), None);
    let objects = home.objects();
    for arguments in [&["backup", "s"][..], &["gc"], &["snapshots"], &["check"], &["forget", "--keep-last", "1"], &["key", "list"]] {
        home.run(14, arguments, &["config", "copy of the repository", "no new repository"]);
    }
    home.run(1, &["init", "--new-key-file", "k2"], &["there is a repository already"]);
    std::fs::remove_dir_all(home.path("r/config")).unwrap();
    home.run(2, &["init", "--new-key-file", "k3"], &["not empty"]);
    home.run(14, &["snapshots"], &["config", "copy of the repository", "no new repository"]);
    assert_eq!(home.objects(), objects, "nothing was written or lost");
}

#[test]
fn without_its_key_slot_nobody_gets_in_and_it_is_said_why() {
    let home = Home::new();
    let slot = home.only("keys");
    let mut bytes = home.object(&slot);
    bytes[80] ^= 1;
    home.set(&slot, Some(&bytes));
    home.run(14, &["snapshots"], &[slot.as_str(), "copy of the repository", "another passphrase or key"]);
    home.set(&slot, None);
    home.run(14, &["snapshots"], &["no key slot", "`keys`", "copy of the repository"]);
}
