//! Profiles: what they add, what goes before them, and what is said of mistakes.

use super::home::{Home, finish};
use serde_json::Value;
use std::collections::BTreeMap;

const FILE: &str = ".config/icecore/icecore.toml";

fn home() -> Home {
    let home = Home::new();
    home.write("data/file", "1");
    home.write("data/file.tmp", "1");
    home.write("other/file", "2");
    home.write(
        FILE,
        "default-profile = 'main'\n\
         [profiles.main]\nrepository = '~/r'\nkey-file = '../../k'\nthreads = 1\n\
         [profiles.main.backup]\npaths = ['~/data']\nexclude = ['*.tmp']\nseries = 'mine'\ntag = ['auto', 'x']\nexclude-caches = true\n\
         [profiles.main.forget]\nkeep-last = 1\n\
         [profiles.none]\nverbose = false\n",
    );
    home
}

#[test]
fn a_profile_fills_in_what_was_not_typed() {
    let home = home();
    let snapshot = |arguments: &[&str]| {
        home.run(0, &[&["backup", "-q"], arguments].concat());
        home.run(0, &["snapshots", "--json", "--ungrouped"]).json().into_iter().rev().nth(1).unwrap()
    };
    let made = snapshot(&[]);
    assert_eq!((&made["series"], &made["tags"], &made["entries"]), (&"mine".into(), &serde_json::json!(["auto", "x"]), &3.into()));
    let made = snapshot(&["--tag", "typed"]);
    assert_eq!((&made["series"], &made["tags"]), (&"mine".into(), &serde_json::json!(["typed"])), "what is typed takes the place");
    let made = snapshot(&["other"]);
    assert!(made["series"].as_str().unwrap().ends_with("/other"), "a series belongs to its paths: {made}");
    for stream in [&["--stdin", "--name", "s", "--json"][..], &["--exec", "--name", "s", "--json", "--", "echo", "-P"]] {
        let made = home.run(0, &[&["backup"], stream].concat()).last("summary");
        assert!(made["series"].as_str().unwrap().ends_with(":s"), "what is left out of paths is left out then: {made}");
    }
    home.write("list", "other\n");
    let listed = home.run(0, &["backup", "--files-from", "list", "--json"]).last("summary");
    assert!(listed["series"].as_str().unwrap().ends_with("/list") && listed["files_new"] == 1, "{listed}");
    assert_eq!(home.run(0, &["forget", "--series", "mine", "--dry-run", "--json"]).last("summary")["snapshots_dropped"], 1);
    home.write(FILE, std::fs::read_to_string(home.path(FILE)).unwrap().replace("keep-last = 1", "keep-last = 2"));
    let dropped = |rule: &[&str]| {
        let made = home.run(0, &[&["forget", "--series", "mine", "--dry-run", "--json"], rule].concat());
        made.last("summary")["snapshots_dropped"].clone()
    };
    assert_eq!((dropped(&[]), dropped(&["--keep-tag", "none"])), (0.into(), 1.into()), "typed rules take the place of all");
    home.run(1, &["forget", "--series", "mien"]);
    let by_id = made["id"].as_str().unwrap();
    assert_eq!(home.run(0, &["forget", by_id, "--dry-run", "--json"]).last("summary")["snapshots_dropped"], 1, "rules are left out then");
}

#[test]
fn a_switch_of_the_profile_can_be_taken_back() {
    let home = home();
    home.write("data/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    home.write("data/cache/large", "1");
    let entries =
        |arguments: &[&str]| home.run(0, &[&["backup", "--json"], arguments].concat()).last("summary")["entries"].as_u64().unwrap();
    let without = entries(&[]);
    assert_eq!(entries(&["--exclude-caches=false"]), without + 1);
    assert_eq!(entries(&["--exclude-caches=true"]), without);
    home.run(2, &["backup", "--exclude-caches=perhaps"]);
    home.run(2, &["backup", "--keep-last=false"]);
    let file = std::fs::read_to_string(home.path(FILE)).unwrap().replace("threads = 1", "threads = 1\nquiet = true");
    home.write(FILE, file);
    let shows = |arguments: &[&str]| home.run(0, &[&["profile", "show"], arguments].concat()).stdout.contains("quiet");
    assert_eq!((shows(&[]), shows(&["--quiet=false"])), (true, false));
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_profile() {
    let home = home();
    home.run(0, &["init", "--no-config", "-r", "r2", "--new-key-file", "k2"]);
    home.write("pass", "correct horse");
    home.run(0, &["init", "--no-config", "-r", "r3", "--password-file", "pass"]);
    let settings = |command: &mut std::process::Command| -> BTreeMap<String, (Value, Value)> {
        let lines = finish(0, command).json();
        let settings = lines.into_iter().filter(|line| line["message_type"] == "setting");
        settings.map(|line| (line["option"].as_str().unwrap().to_owned(), (line["values"][0].clone(), line["source"].clone()))).collect()
    };
    let show = ["profile", "show", "--json"];
    let (key, repository) = (home.path("k").canonicalize().unwrap(), home.path("r"));
    let found = settings(&mut home.command(&show));
    assert_eq!(found["repository"], (repository.to_str().unwrap().into(), "profile".into()));
    assert!(found["key-file"].0.as_str().unwrap().ends_with("/k") && key.exists(), "{found:?}");
    assert_eq!(
        (&found["threads"].1, &found["compression"].1, &found["keep-last"].1),
        (&"profile".into(), &"default".into(), &"profile".into())
    );
    let found = settings(home.command(&show).env("ICECORE_REPOSITORY", "r2"));
    assert_eq!(found["repository"], ("r2".into(), "environment".into()));
    assert!(!found.contains_key("key-file"), "a key is for the repository that it belongs to");
    let found = settings(home.command(&[&show[..], &["-r", "r3", "--threads", "2"]].concat()).env("ICECORE_REPOSITORY", "r2"));
    assert_eq!((&found["repository"].0, &found["repository"].1), (&"r3".into(), &"flag".into()));
    assert_eq!(found["threads"], ("2".into(), "flag".into()));

    home.run(0, &["snapshots", "-r", "r2", "--key-file", "k2"]);
    finish(0, home.command(&["snapshots", "-r", "r3"]).env("ICECORE_PASSWORD", "correct horse"));
    finish(12, home.command(&["snapshots"]).env("ICECORE_PASSWORD", "correct horse"));
    home.run(10, &["snapshots", "-P", "none"]);
    finish(10, home.command(&["snapshots"]).env("ICECORE_PROFILE", "none"));
    home.run(10, &["snapshots", "--no-config"]);
    home.write("elsewhere/c.toml", "[profiles.default]\nrepository = '../r'\nkey-file = '../k'\n");
    home.run(0, &["snapshots", "--config", "elsewhere/c.toml"]);
    assert!(home.run(0, &["snapshots", "-v"]).stderr.contains("profile main of"));
}

#[test]
fn mistakes_are_named_with_what_was_meant() {
    let home = home();
    let said = |text: &str| {
        home.write(FILE, text);
        let run = home.run(2, &["snapshots", "--json"]);
        assert_eq!(run.last("exit_error")["kind"], "usage");
        home.run(0, &["version"]);
        run.stderr
    };
    let wrong = [
        ("[profiles.a]\nrepositroy = 'r'", "no key `repositroy`; did you mean `repository`?"),
        ("[profiles.a.backup]\nexcludes = ['x']", "command `backup`: there is no key `excludes`; did you mean `exclude`?"),
        ("[profiles.a.backpu]\nexclude = ['x']", "no command `backpu`; did you mean `backup`?"),
        ("[profiles.a]\nexclude = ['x']", "belongs into [profiles.a.backup]"),
        ("[profile.a]\n", "no key `profile`; did you mean `profiles`?"),
        ("[profiles.a]\nthreads = true", "`threads` must be a text or a number"),
        ("[profiles.a]\nno-cache = 'yes'", "`no-cache` must be true or false"),
        ("[profiles.a]\nrepository = ", "icecore.toml: TOML parse error at line 2"),
        ("[profiles.default]\nthreads = 'many'", "profile `default` in"),
        ("default-profile = 'hom'\n[profiles.home]\n", "no profile `hom`; did you mean `home`?"),
    ];
    for (text, expected) in wrong {
        let said = said(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let doctor = home.run(2, &["doctor"]);
    assert!(doctor.stdout.contains("fail  config") && doctor.stdout.contains("did you mean `home`?"), "{}", doctor.stdout);
    assert!(!doctor.stdout.contains("no repository was named"), "{}", doctor.stdout);
    home.write(FILE, "[profiles.home]\n");
    assert!(home.run(2, &["snapshots", "-P", "hme"]).stderr.contains("did you mean `home`?"));
    assert!(home.run(2, &["backup"]).stderr.contains("<PATH>"), "what is missing without a profile is missing");
    home.run(2, &["snapshots", "--config", "nowhere.toml"]);
}
