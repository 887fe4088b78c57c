//! Tiers as people use them: a disk in a drawer.

use super::home::Home;
use std::fs;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Two snapshots with nothing in common, and one that has a small file of the first one beside what is new.
fn with_old_data() -> (Home, String) {
    let home = Home::new();
    home.write("data/old", noise(1, 400_000));
    let first = home.backup(&["--series", "s", "--time", "2026-01-01T12:00:00Z"]);
    home.write("data/old", noise(2, 400_000));
    home.backup(&["--series", "s", "--time", "2026-01-02T12:00:00Z"]);
    home.with(
        0,
        &["tier", "add", "shelf", "drawer/disk", "--removable", "--label", "disk 7", "--minimum-days", "30", "--storage-price", "4"],
    );
    (home, first)
}

#[test]
fn a_disk_in_a_drawer_is_named_when_it_is_needed() {
    let (home, first) = with_old_data();
    let planned = home.with(0, &["tier", "plan", "shelf", "--json"]).last("summary");
    assert!(planned["moves"]["packs"].as_u64().unwrap() >= 1 && planned["stranded"]["packs"] == 0, "{planned}");
    assert_eq!(planned["snapshots_cold"], 1);
    let said = home.with(0, &["tier", "apply", "shelf", "--dry-run"]).stdout;
    assert!(said.contains("nothing was changed") && said.contains("for the minimum days"), "{said}");
    let moved = home.with(0, &["tier", "apply", "shelf", "--json"]).last("summary");
    assert_eq!(moved["moved"], planned["moves"]);
    home.with(0, &["check"]);
    assert!(home.with(0, &["tier", "list"]).stdout.contains("drawer/disk"));
    for arguments in [&["tier", "remove", "shelf"][..], &["tier", "remove", "shelf", "--dry-run"]] {
        assert!(home.with(1, arguments).stderr.contains("lie in tier shelf"));
    }
    assert!(home.with(0, &["restore", &first, "--plan"]).stdout.contains("all of it can be read now"));

    fs::rename(home.path("drawer"), home.path("elsewhere")).unwrap();
    let plan = home.with(0, &["restore", "latest", "--at", "2026-01-01", "--plan", "--json"]).last("summary");
    assert!(plan["is_ready"] == false && plan["tiers"][0]["absent"].as_str().unwrap().contains("disk 7"), "{plan}");
    let said = home.with(15, &["restore", &first, "--target", "back"]);
    assert_eq!(said.stderr.matches("--tier-at shelf=PLACE").count(), 1, "once for all files: {}", said.stderr);
    assert!(said.stderr.contains("disk 7") && said.stderr.contains("in tier shelf, and not restored: 1 item;"), "{}", said.stderr);
    let last = said.stderr.lines().last().unwrap();
    assert!(last.contains("the restore is not whole: 1 item") && said.stdout.contains("restored a part of snapshot"), "{last}");
    assert!(home.with(15, &["cat", &first, "data/old"]).stderr.contains("disk 7"));
    assert!(home.with(15, &["thaw", &first]).stderr.contains("disk 7"));
    home.with(15, &["tier", "apply", "shelf"]);
    // What does not need it works.
    home.with(0, &["restore", "latest", "--target", "new"]);
    home.with(0, &["ls", &first]);
    let moved_packs = moved["moved"]["packs"].as_u64().unwrap();
    for command in ["scrub", "check"] {
        let checked = home.with(0, &[command, "--json"]).last("summary");
        assert_eq!(checked["packs_unread"], moved_packs, "{checked}");
        assert!(home.with(0, &[command]).stdout.contains(&format!("{moved_packs} in shelf not")), "{command}");
    }
    let doctor = home.with(0, &["doctor"]).stdout;
    assert!(doctor.contains("warn  tiers") && doctor.contains("--tier-at shelf=PLACE"), "{doctor}");
    home.with(0, &["gc"]);
    // An empty folder where the disk is mounted is not the disk.
    fs::create_dir_all(home.path("drawer/disk")).unwrap();
    assert!(home.with(15, &["restore", &first, "--target", "back"]).stderr.contains("disk 7"));

    home.with(0, &["restore", &first, "--target", "back", "--tier-at", "shelf=elsewhere/disk", "--verify"]);
    assert!(fs::read(home.path("back/data/old")).unwrap() == noise(1, 400_000));
    assert_eq!(fs::read_dir(home.path("drawer/disk")).unwrap().count(), 0);
}

#[test]
fn what_nobody_needs_goes_from_the_tier_and_then_the_tier() {
    let (home, first) = with_old_data();
    home.with(0, &["tier", "apply", "shelf"]);
    home.with(0, &["forget", &first]);
    let plan = home.with(0, &["gc", "--dry-run", "--json"]).last("summary");
    let (packs, early) = (plan["early"]["packs"].as_u64().unwrap(), plan["early_cost"].as_f64().unwrap() * 1e6);
    assert!(packs >= 1 && early > 0.0, "{plan}");
    // `cost` says the same beforehand.
    home.write("p.toml", b"currency = 'X'\n[[tier]]\nname = 'warm'\nstorage = 20\nminimum-days = 3\n");
    let told = home.with(0, &["cost", "--prices", "p.toml", "--json"]).json();
    let of = |tier: &str| told.iter().find(|line| line["message_type"] == "tier" && line["tier"] == tier).unwrap().clone();
    assert!(of("shelf")["early_deletion_is_exact"] == true && of("warm")["bytes"].as_u64().unwrap() > 0, "{told:?}");
    assert!((of("shelf")["early_deletion_millionths"].as_f64().unwrap() - early).abs() <= packs as f64, "{told:?}");
    assert!(home.with(0, &["cost", "--prices", "p.toml"]).stdout.contains("that nobody needs costs"));
    home.with(0, &["gc"]);
    let listed = home.with(0, &["tier", "list", "--json"]).json();
    assert_eq!(listed[0]["held"]["packs"], 0);
    assert!(home.with(0, &["tier", "remove", "shelf", "--dry-run"]).stdout.contains("would be removed"));
    home.with(0, &["tier", "remove", "shelf"]);
    home.with(1, &["tier", "apply", "shelf"]);
    home.with(2, &["tier", "add", "Shelf", "x"]);
    home.with(2, &["tier", "add", "shelf", "new", "--storage-class", "GLACIER"]);
    home.with(2, &["tier", "add", "shelf", "new", "--thaw-class", "bulk:48:2.5:25"]);
    home.with(2, &["tier", "add", "shelf", "s3://bucket/cold", "--storage-class", "GLACIER", "--thaw-class", "tomorrow:48:2.5:25"]);
    home.with(0, &["scrub"]);
}

#[test]
fn each_series_has_a_life_of_its_own_which_a_profile_can_say() {
    let (home, _) = with_old_data();
    let moves = |arguments: &[&str]| {
        let planned = home.with(0, &[&["tier", "plan", "shelf", "--json"], arguments].concat()).last("summary");
        planned["snapshots_cold"].as_u64().unwrap()
    };
    assert_eq!(moves(&[]), 1);
    assert_eq!(moves(&["--series", "s=never"]), 0);
    assert_eq!(moves(&["--series", "s=100000"]), 0);
    assert_eq!(moves(&["--older-than", "100000", "--series", "s=1:200000"]), 1);
    // It would leave before its 30 days are over.
    assert_eq!(moves(&["--kept-for", "1"]), 0);
    assert!(home.with(0, &["tier", "plan", "shelf", "--series", "other=never"]).stderr.contains("no snapshot of series `other`"));
    for wrong in ["s", "=1", "s=x", "s=1:x"] {
        home.with(2, &["tier", "plan", "shelf", "--series", wrong]);
    }
    home.write(".config/icecore/icecore.toml", "[profiles.default.tier.plan]\nseries = ['s=never']\n");
    assert_eq!((moves(&[]), moves(&["--series", "s=0"])), (0, 1));
    home.write(".config/icecore/icecore.toml", "[profiles.default.tier.pln]\nseries = ['s=never']\n");
    assert!(home.with(2, &["tier", "plan", "shelf"]).stderr.contains("did you mean `plan`?"));
}
