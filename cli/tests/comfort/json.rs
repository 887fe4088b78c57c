//! Every command's JSON lines are as `docs/json` says.

use super::home::{Home, Run};
use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json");

/// A schema, and how often each type of line was compared with it.
struct Schema {
    value: Value,
    validator: Validator,
    compared: BTreeMap<String, u64>,
}

/// The schemas of all commands, and a home in which to run them.
struct Examiner {
    home: Home,
    schemas: BTreeMap<String, Schema>,
}

impl Examiner {
    fn new() -> Self {
        let read = |path: &Path| {
            let value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            let validator = jsonschema::draft202012::new(&value).unwrap();
            Schema { value, validator, compared: BTreeMap::new() }
        };
        let files = fs::read_dir(SCHEMAS).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let schemas = files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&path))).collect();
        Self { home: Home::new(), schemas }
    }

    /// Runs a command and compares what it prints.
    #[track_caller]
    fn run(&mut self, code: i32, arguments: &[&str]) -> Run {
        let run = self.home.with(code, &[arguments, &["--json"]].concat());
        self.compare(arguments, &run.stdout);
        run
    }

    #[track_caller]
    fn compare(&mut self, arguments: &[&str], lines: &str) {
        let one = arguments[0].to_owned();
        let two = arguments[..2.min(arguments.len())].join("-");
        let name = if self.schemas.contains_key(&two) { two } else { one };
        let schema = self.schemas.get_mut(&name).unwrap_or_else(|| panic!("docs/json/{name}.json is missing"));
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let found = schema.validator.iter_errors(&line).map(|error| error.to_string()).collect::<Vec<_>>();
            assert!(found.is_empty(), "docs/json/{name}.json: {line}\n{found:#?}");
            let kind = line["message_type"].as_str().unwrap();
            let variants = schema.value["oneOf"].as_array().unwrap();
            let variant = variants.iter().find(|variant| variant["title"] == kind).unwrap();
            let unknown = line.as_object().unwrap().keys().find(|key| variant["properties"].get(key).is_none());
            assert_eq!(unknown, None, "add the field to docs/json/{name}.json");
            *schema.compared.entry(kind.to_owned()).or_default() += 1;
        }
    }
}

#[test]
fn what_is_printed_is_what_the_schemas_say() {
    let mut examiner = Examiner::new();
    let home = |name: &str, content: &[u8], examiner: &Examiner| examiner.home.write(name, content);
    home("data/a", b"one", &examiner);
    home("data/folder/b", &vec![7; 300_000], &examiner);
    symlink("a", examiner.home.path("data/link")).unwrap();
    fs::hard_link(examiner.home.path("data/a"), examiner.home.path("data/name")).unwrap();
    fs::write(examiner.home.path("data").join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();

    examiner.home.run(0, &["init", "-r", "r2", "--new-key-file", "k2", "--json"]);
    let made = examiner.home.run(0, &["init", "-r", "r3", "--new-key-file", "k3", "--json"]);
    examiner.compare(&["init"], &made.stdout);
    let id = |run: &Run| run.last("summary")["snapshot_id"].as_str().unwrap().to_owned();
    let first = id(&examiner.run(0, &["backup", "data", "--tag", "t", "--series", "s"]));
    examiner.run(1, &["backup", "missing"]);
    home("data/a", b"another", &examiner);
    home("data/c", b"new", &examiner);
    fs::remove_file(examiner.home.path("data/folder/b")).unwrap();
    let second = id(&examiner.run(0, &["backup", "data", "--series", "s"]));
    let stream = examiner.home.run(0, &["backup", "data", "--json", "--no-config"]);
    examiner.compare(&["backup"], &stream.stdout);

    home("prices.toml", b"currency = 'EUR'\n[[tier]]\nname = 'warm'\nstorage = 0.02\n[[tier]]\nname = 'cold'\nstorage = 0.001", &examiner);
    let held = examiner.run(0, &["hold", "add", &first, "--note", "case"]);
    let hold = held.last("summary")["hold"].as_str().unwrap().to_owned();
    examiner.run(13, &["forget", &first]);
    for arguments in [
        &["snapshots"][..],
        &["snapshots", "--series", "x"],
        &["ls", "latest", "-R"],
        &["ls", &first, "data"],
        &["diff", &first, &second],
        &["find", "*"],
        &["find", "a", "--series", "none"],
        &["stats"],
        &["stats", "latest"],
        &["stats", "--by", "series"],
        &["stats", "--by", "snapshot"],
        &["stats", "--if-forgotten", &first],
        &["cost", "--prices", "prices.toml", "--what-if", "--keep-last", "1", "--cold-after", "1d"],
        &["restore", "latest", "--target", "back", "--dry-run"],
        &["restore", "latest", "--target", "back"],
        &["check"],
        &["scrub"],
        &["tag", &second, "--add", "u"],
        &["lock", &first, "--for", "1h", "--dry-run"],
        &["lock", "latest", "--for", "1h", "--note", "a while"],
        &["lock"],
        &["hold", "list", "--all"],
        &["hold", "release", &hold, "--dry-run"],
        &["hold", "release", &hold],
        &["snapshots"],
        &["forget", "--keep-last", "1", "--dry-run"],
        &["forget", &first],
        &["gc", "--dry-run"],
        &["gc"],
        &["tier", "add", "cold", "shelf", "--frozen", "--thaw-class", "bulk:48:2.5:25"],
        &["tier", "list"],
        &["tier", "plan", "cold"],
        &["tier", "apply", "cold", "--dry-run"],
        &["tier", "apply", "cold"],
        &["restore", "latest", "--plan"],
        &["thaw", "latest", "--dry-run"],
        &["thaw", "latest"],
        &["thaw", "latest", "--batch", "1M", "--wait"],
        &["tier", "remove", "cold", "--dry-run"],
        &["tier", "remove", "cold"],
        &["replicate", "--to", "second"],
        &["backup", "data", "--series", "s", "--also", "second"],
        &["replicate", "--to", "second", "--dry-run", "--series", "s"],
        &["config"],
        &["config", "--parity", "3"],
        &["stats"],
        // Damage would be healed.
        &["config", "--parity", "0"],
        &["key", "add", "--role", "backup", "--new-key-file", "b"],
        &["key", "list"],
        &["key", "rotate", "--dry-run"],
        &["key", "rotate"],
        &["profile", "show"],
        &["doctor"],
        &["completions", "zsh"],
        &["man", "--out", "pages"],
        &["version"],
    ] {
        examiner.run(0, arguments);
    }
    let recipient = examiner.home.run(0, &["key", "new-recipient", "ann", "--json"]);
    examiner.compare(&["key", "new-recipient"], &recipient.stdout);
    examiner.run(1, &["cat", "latest", "nothing"]);
    let piped = examiner.home.with(0, &["cat", "latest", "data/c", "--json"]);
    examiner.compare(&["cat"], &piped.stderr);
    let slots = examiner.home.with(0, &["key", "list", "--json"]).json();
    let backup = slots.iter().find(|line| line["roles"] == serde_json::json!(["backup"])).unwrap()["id"].as_str().unwrap().to_owned();
    examiner.run(0, &["key", "remove", &backup]);

    for pack in walk(&examiner.home.path("r/packs")) {
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&pack).unwrap();
        bytes[100] ^= 1;
        fs::write(&pack, bytes).unwrap();
    }
    examiner.run(14, &["scrub"]);
    examiner.run(14, &["restore", "latest", "--target", "back2"]);

    for arguments in [&["repair"][..], &["repair", "--from", "second"], &["repair", "--apply", "--salvage"]] {
        // What is left to mend decides the exit code; here only the lines count.
        let output = examiner.home.command(&[arguments, &["--json", "-r", "r", "--key-file", "k"]].concat()).output().unwrap();
        examiner.compare(arguments, &String::from_utf8(output.stdout).unwrap());
    }

    let commands = commands(&examiner.home);
    for command in &commands {
        let schema = examiner.schemas.get(command).unwrap_or_else(|| panic!("docs/json/{command}.json is missing"));
        let compared = &schema.compared;
        assert!(compared.contains_key("summary"), "{command} was not compared with its schema: {compared:?}");
    }
    let lacks =
        [("ls", "entry"), ("find", "match"), ("diff", "difference"), ("doctor", "examination"), ("scrub", "finding"), ("tag", "snapshot")];
    for (command, kind) in lacks {
        assert!(examiner.schemas[command].compared.contains_key(kind), "{command} {kind}");
    }
}

/// All commands as their schemas are called.
pub(crate) fn commands(home: &Home) -> Vec<String> {
    let listed = |arguments: &[&str]| {
        let help = home.run(0, &[arguments, &["--help"]].concat()).stdout;
        let lines = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1).take_while(|line| line.starts_with("  "));
        let names = lines.filter(|line| !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap().to_owned());
        names.filter(|name| name != "help").collect::<Vec<_>>()
    };
    let one = listed(&[]);
    assert!(one.len() > 15, "{one:?}");
    one.into_iter()
        .flat_map(|name| match listed(&[&name]) {
            none if none.is_empty() => vec![name],
            below => below.into_iter().map(|below| format!("{name}-{below}")).collect(),
        })
        .collect()
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
