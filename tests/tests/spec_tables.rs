//! The tables of the specification against themselves and against the code.

use icecore::backend::{ObjectKind, ObjectName};
use icecore::format::object::{HEADER_LENGTH, Header, MAGIC, TRAILER_LENGTH, VERSION};
use icecore::format::pack::{FOOTER_LENGTH, Footer};
use icecore::format::{Certificate, Roles};
use icecore::id::RepositoryId;
use icecore::limits;
use icecore_tests::{items, json, specification, text};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Limits of the pages, and what the code has for them.
const LIMITS: [(&str, &str, u64); 59] = [
    ("chunking", "average size min", 256),
    ("chunking", "chunk size max", limits::CHUNK_SIZE_MAX as u64),
    ("chunking", "min size min", 64),
    ("config", "cutters max", limits::CUTTERS_MAX as u64),
    ("config", "frame size max", limits::FRAME_SIZE_MAX as u64),
    ("config", "frame size min", limits::FRAME_SIZE_MIN as u64),
    ("config", "pack size max", limits::PACK_SIZE_MAX as u64),
    ("config", "pack size min", limits::PACK_SIZE_MIN as u64),
    ("config", "restore keys max", limits::RESTORE_KEYS_MAX as u64),
    ("config", "revoked max", limits::REVOKED_MAX as u64),
    ("epoch", "epoch packs max", limits::EPOCH_PACKS_MAX as u64),
    ("epoch", "epoch snapshots max", limits::EPOCH_SNAPSHOTS_MAX as u64),
    ("frame", "frame chunks max", limits::FRAME_CHUNKS_MAX as u64),
    ("frame", "frame plaintext max", limits::FRAME_PLAINTEXT_MAX as u64),
    ("frame", "frame sealed max", limits::FRAME_SEALED_MAX as u64),
    ("frame", "zstd window log max", limits::ZSTD_WINDOW_LOG_MAX as u64),
    ("holds", "held snapshots max", limits::HELD_SNAPSHOTS_MAX as u64),
    ("holds", "lock end max", limits::LOCK_END_MAX as u64),
    ("holds", "note max", limits::NOTE_MAX as u64),
    ("index", "index packs max", limits::INDEX_PACKS_MAX as u64),
    ("keys", "lanes max", limits::ARGON2_LANES_MAX as u64),
    ("keys", "memory max", limits::ARGON2_MEMORY_KIB_MAX as u64),
    ("keys", "passes max", limits::ARGON2_PASSES_MAX as u64),
    ("keys", "sealed length max", limits::SLOT_SEALED_MAX as u64),
    ("pack", "bases length max", limits::BASES_LENGTH_MAX as u64),
    ("pack", "bases max", limits::BASES_MAX as u64),
    ("pack", "frames length max", limits::FRAMES_LENGTH_MAX as u64),
    ("pack", "group size", limits::GROUP_SIZE as u64),
    ("pack", "pack frames max", limits::PACK_FRAMES_MAX as u64),
    ("pack", "pack sessions max", limits::PACK_SESSIONS_MAX as u64),
    ("pack", "tables length max", limits::TABLES_LENGTH_MAX as u64),
    ("parity", "block size max", limits::PARITY_BLOCK_MAX as u64),
    ("parity", "block size min", limits::PARITY_BLOCK_MIN as u64),
    ("parity", "data blocks max", limits::PARITY_DATA_BLOCKS_MAX as u64),
    ("parity", "recovery blocks max", limits::PARITY_RECOVERY_MAX as u64),
    ("parity", "recovery length max", limits::PARITY_RECOVERY_LENGTH_MAX as u64),
    ("placement", "address max", limits::TIER_ADDRESS_MAX as u64),
    ("placement", "placed packs max", limits::PLACED_PACKS_MAX as u64),
    ("placement", "thaw classes max", limits::THAW_CLASSES_MAX as u64),
    ("placement", "tier label max", limits::TIER_LABEL_MAX as u64),
    ("placement", "tier name max", limits::TIER_NAME_MAX as u64),
    ("recipe", "recipe items max", limits::NODE_ITEMS_MAX as u64),
    ("refs", "refs items max", limits::NODE_ITEMS_MAX as u64),
    ("relocations", "relocated frames max", limits::RELOCATED_FRAMES_MAX as u64),
    ("relocations", "steps max", limits::RELOCATION_STEPS_MAX as u64),
    ("session", "label max", limits::LABEL_MAX as u64),
    ("session", "snapshots max", limits::CLOSED_SNAPSHOTS_MAX as u64),
    ("session", "wraps max", limits::WRAPS_MAX as u64),
    ("snapshot", "path max", limits::KEY_MAX as u64),
    ("snapshot", "paths max", limits::PATHS_MAX as u64),
    ("snapshot", "tags max", limits::TAGS_MAX as u64),
    ("snapshot", "text max", limits::TEXT_MAX as u64),
    ("tree", "attributes max", limits::ATTRIBUTES_MAX as u64),
    ("tree", "inline chunks max", limits::INLINE_CHUNKS_MAX as u64),
    ("tree", "key max", limits::KEY_MAX as u64),
    ("tree", "level max", limits::NODE_LEVEL_MAX as u64),
    ("tree", "node items max", limits::NODE_ITEMS_MAX as u64),
    ("tree", "node max", limits::NODE_SIZE_MAX as u64),
    ("tree", "target max", limits::TARGET_MAX as u64),
];

/// Rules that no error of the engine names, and why.
const NAMED_NOWHERE: [(&str, &str); 10] = [
    ("CLOSED-3", "a snapshot that is gone is told of as missing, not as bytes that break a rule"),
    ("INDEX-3", "points to PACK-5, which is named"),
    ("INDEX-5", "points to rules of packs, which are named"),
    ("INDEX-6", "concerns a whole repository"),
    ("OBJ-12", "no damage: the credential is too old, and the error says so"),
    ("OBJ-14", "points to the rules of the pages, which are named"),
    ("REFS-6", "what is missing is told of as missing, not as bytes that break a rule"),
    ("SLOT-10", "points to the rules of objects, which are named"),
    ("SLOT-6", "no damage: the passphrase or key file is the wrong one, and the error says so"),
    ("SNAP-12", "concerns a whole snapshot"),
];

/// A table and the nearest line of text before it.
#[derive(Debug)]
struct Table {
    page: String,
    before: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn cell<'a>(&self, row: &'a [String], column: &str) -> &'a str {
        let index = self.columns.iter().position(|name| name == column);
        row.get(index.unwrap_or_else(|| panic!("{}: a table without the column {column}", self.page))).map_or("", |cell| cell)
    }

    fn is_of(&self, columns: &[&str]) -> bool {
        columns.iter().all(|column| self.columns.iter().any(|name| name == column))
    }
}

fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for file in std::fs::read_dir(specification()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap());
        }
    }
    assert!(pages.len() > 15, "{} pages", pages.len());
    pages
}

fn tables() -> Vec<Table> {
    let mut tables = Vec::new();
    for (page, content) in pages() {
        let (mut before, mut open) = (String::new(), None::<Table>);
        for line in content.lines().chain([""]) {
            let cells = || line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
            match (line.starts_with('|'), &mut open) {
                (true, Some(_)) if line.starts_with("|---") => {}
                (true, Some(table)) => table.rows.push(cells()),
                (true, None) => open = Some(Table { page: page.clone(), before: before.clone(), columns: cells(), rows: Vec::new() }),
                (false, _) => {
                    tables.extend(open.take());
                    if !line.trim().is_empty() {
                        before = line.to_owned();
                    }
                }
            }
        }
    }
    assert!(tables.len() > 40, "{} tables", tables.len());
    tables
}

/// A number as people write it, with commas.
fn number(text: &str) -> Option<u64> {
    text.replace(',', "").parse().ok()
}

/// The number before the word `bytes`.
fn bytes_said(text: &str) -> Option<u64> {
    let words: Vec<_> = text.split_whitespace().collect();
    words.windows(2).find(|pair| pair[1].trim_end_matches([':', ',']) == "bytes").and_then(|pair| number(pair[0]))
}

fn size_of_type(name: &str) -> Option<u64> {
    Some(match name {
        "u8" => 1,
        "u16" => 2,
        "u32" => 4,
        "u64" => 8,
        "time" => 12,
        "id16" => 16,
        "id32" => 32,
        _ => return None,
    })
}

#[test]
fn fields_follow_one_another_and_add_up() {
    let (mut checked, mut sums) = (0, 0);
    for table in tables().iter().filter(|table| table.is_of(&["offset", "size", "type"])) {
        let about = format!("{}, {}", table.page, table.before);
        let mut end = Some(0);
        for row in &table.rows {
            let cell = |column| table.cell(row, column);
            let (offset, size) = (number(cell("offset")), number(cell("size")));
            if offset.is_some() {
                assert_eq!(offset, end, "{about}: {row:?}");
            }
            if let (Some(size), Some(expected)) = (size, size_of_type(cell("type"))) {
                assert_eq!(size, expected, "{about}: {row:?}");
            }
            // Behind what has no fixed size there are no offsets.
            end = end.zip(size).map(|(end, size)| end + size);
            checked += 1;
        }
        if let (Some(end), Some(said)) = (end, bytes_said(&table.before)) {
            assert_eq!(end, said, "{about}");
            sums += 1;
        }
    }
    assert!(checked > 90 && sums >= 6, "only {checked} fields and {sums} sums were found");
}

#[test]
fn lengths_are_those_of_the_code() {
    let length = |page: &str, before: &str| {
        let tables = tables();
        let table = tables.iter().find(|table| table.page == page && table.before.contains(before) && table.is_of(&["offset"]));
        bytes_said(&table.unwrap_or_else(|| panic!("{page}: no table after `{before}`")).before).unwrap()
    };
    assert_eq!(length("object", "Header"), HEADER_LENGTH as u64);
    assert_eq!(length("object", "Trailer"), TRAILER_LENGTH as u64);
    assert_eq!(length("object", "Certificate"), Certificate::LENGTH as u64);
    assert_eq!(length("pack", "Footer"), FOOTER_LENGTH as u64);
}

/// The bytes of a field, where the table says that it is.
fn field<'a>(table: &Table, name: &str, bytes: &'a [u8]) -> &'a [u8] {
    let row = table.rows.iter().find(|row| table.cell(row, "name") == name).unwrap_or_else(|| panic!("no field {name}"));
    let at = |column| number(table.cell(row, column)).unwrap() as usize;
    &bytes[at("offset")..at("offset") + at("size")]
}

#[test]
fn headers_and_footers_are_written_where_the_page_says() {
    let tables = tables();
    let table = |page: &str, before: &str| tables.iter().find(|table| table.page == page && table.before.contains(before)).unwrap();
    let name = ObjectName::parse("beats/000102030405060708090a0b0c0d0e0f/0000000777").unwrap();
    let bytes = Header { name, repository: RepositoryId([7; 16]), structure_epoch: 0x0102_0304 }.encode();
    let header = table("object", "Header");
    assert_eq!(field(header, "magic", &bytes), MAGIC);
    assert_eq!(field(header, "kind", &bytes), [9]);
    assert_eq!(field(header, "version", &bytes), VERSION.to_le_bytes());
    assert_eq!(field(header, "number", &bytes), 777_u32.to_le_bytes());
    assert_eq!(field(header, "id", &bytes), name.id());
    assert_eq!(field(header, "repository", &bytes), [7; 16]);
    assert_eq!(field(header, "structure epoch", &bytes), 0x0102_0304_u32.to_le_bytes());
    let rule = header.rows.iter().find(|row| header.cell(row, "name") == "magic").map(|row| header.cell(row, "rule"));
    assert_eq!(rule, Some(format!("`{}`", MAGIC.escape_ascii()).as_str()));

    let bytes = Footer { frames_length: 3_000_000, tables_length: 5 }.encode();
    let footer = table("pack", "Footer");
    assert_eq!(field(footer, "frames length", &bytes), 3_000_000_u32.to_le_bytes());
    assert_eq!(field(footer, "tables length", &bytes), 5_u32.to_le_bytes());
    assert_eq!(field(footer, "group count", &bytes), 3_u32.to_le_bytes());
}

#[test]
fn limits_are_those_of_the_code() {
    let mut found = Vec::new();
    for table in tables().iter().filter(|table| table.columns == ["limit", "value"]) {
        for row in &table.rows {
            found.push((table.page.clone(), row[0].clone(), number(&row[1]).unwrap_or_else(|| panic!("{row:?}"))));
        }
    }
    found.sort();
    let expected: Vec<_> = LIMITS.iter().map(|(page, name, value)| ((*page).to_owned(), (*name).to_owned(), *value)).collect();
    assert_eq!(found, expected);
}

#[test]
fn kinds_and_names_are_those_of_the_code() {
    let tables = tables();
    let table = tables.iter().find(|table| table.is_of(&["kind", "folder", "rest of the name"])).unwrap();
    let id = "ab0102030405060708090a0b0c0d0e0f";
    let mut kinds = Vec::new();
    for row in &table.rows {
        let kind = ObjectKind::from_number(number(table.cell(row, "kind")).unwrap() as u8).unwrap();
        assert_eq!(table.cell(row, "folder"), format!("`{}`", kind.folder()));
        let rest = match table.cell(row, "rest of the name") {
            "number" => "0000000009".to_owned(),
            "id" => id.to_owned(),
            "id/number" => format!("{id}/0000000009"),
            "spread" => format!("ab/{id}"),
            other => panic!("{other} is no form of names"),
        };
        let path = format!("{}/{rest}", kind.folder());
        assert_eq!(ObjectName::parse(&path).map(|name| (name.kind(), name.to_string())).unwrap(), (kind, path));
        kinds.push(kind);
    }
    assert_eq!(kinds, ObjectKind::ALL);
}

#[test]
fn who_may_write_what_and_how_large_is_that_of_the_code() {
    let tables = tables();
    let table = tables.iter().find(|table| table.is_of(&["kind", "must be written by", "largest size in bytes"])).unwrap();
    let mut kinds = BTreeSet::new();
    for row in &table.rows {
        let writers = table.cell(row, "must be written by");
        for folder in table.cell(row, "kind").split(", ") {
            let kind = ObjectKind::ALL.into_iter().find(|kind| kind.folder() == folder).unwrap_or_else(|| panic!("no kind {folder}"));
            assert_eq!(Some(kind.size_max()), number(table.cell(row, "largest size in bytes")), "{folder}");
            if writers != "reserved" {
                assert_eq!(kind.writers(), roles(writers), "{folder}");
            }
            kinds.insert(kind);
        }
    }
    assert_eq!(kinds.len(), ObjectKind::ALL.len());
}

fn roles(text: &str) -> Roles {
    let all = [("backup", Roles::BACKUP), ("maintain", Roles::MAINTAIN), ("restore", Roles::RESTORE), ("admin", Roles::ADMIN)];
    let named = |word: &str| all.iter().find(|(name, _)| *name == word).unwrap_or_else(|| panic!("no role {word}")).1;
    text.split([',', ' ']).filter(|word| !matches!(*word, "" | "or")).map(named).reduce(Roles::and).unwrap()
}

#[test]
fn roles_have_the_bits_of_the_code() {
    let tables = tables();
    let certificate = tables.iter().find(|table| table.page == "object" && table.before.contains("Certificate")).unwrap();
    let rule = certificate.cell(&certificate.rows[0], "rule").strip_prefix("bits: ").unwrap();
    for pair in rule.split(", ") {
        let (bits, name) = pair.split_once(' ').unwrap();
        assert_eq!(u64::from(roles(name).bits()), number(bits).unwrap(), "{pair}");
    }
}

/// The rules of all pages with the page of each.
fn rules() -> BTreeMap<String, String> {
    let mut rules = BTreeMap::new();
    for table in tables().iter().filter(|table| table.columns.first().is_some_and(|column| column == "rule")) {
        let mut before: Option<(&str, u64)> = None;
        for row in &table.rows {
            let twice = rules.insert(row[0].clone(), table.page.clone());
            assert_eq!(twice, None, "{} stands twice", row[0]);
            let (prefix, number) = row[0].split_once('-').map(|(prefix, rest)| (prefix, number(rest).unwrap())).unwrap();
            if let Some((before_prefix, before_number)) = before.filter(|(before, _)| *before == prefix) {
                assert!(number > before_number, "{}: {before_prefix}-{before_number} stands before {}", table.page, row[0]);
            }
            before = Some((prefix, number));
        }
    }
    assert!(rules.len() > 120, "{} rules", rules.len());
    rules
}

#[test]
fn the_code_names_the_rules_of_the_pages_and_no_others() {
    let pages: BTreeSet<String> = rules().into_keys().collect();
    let mut code = BTreeSet::new();
    read_code(&specification().join("../engine/src"), &mut code);
    let unknown: Vec<_> = code.difference(&pages).collect();
    assert!(unknown.is_empty(), "no page has {unknown:?}");
    let listed: BTreeSet<String> = NAMED_NOWHERE.iter().map(|(rule, _)| (*rule).to_owned()).collect();
    let missing: BTreeSet<String> = pages.difference(&code).cloned().collect();
    assert_eq!(missing, listed, "rules that the code does not name (left), and those that it need not name (right)");
}

/// Collects what looks like a rule in strings of code that is no test.
fn read_code(folder: &Path, rules: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if matches!(name, "tests" | "testing" | "tests.rs" | "testing.rs") {
            continue;
        }
        if path.is_dir() {
            read_code(&path, rules);
            continue;
        }
        let content = std::fs::read_to_string(&path).unwrap();
        let code = content.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        rules.extend(code.split('"').skip(1).step_by(2).filter(|text| is_rule(text)).map(str::to_owned));
    }
}

fn is_rule(text: &str) -> bool {
    text.split_once('-').is_some_and(|(prefix, number)| {
        prefix.len() > 2
            && prefix.bytes().all(|c| c.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|c| c.is_ascii_digit())
    })
}

#[test]
fn every_rule_has_a_vector_or_the_readme_says_why_not() {
    let index = json("index.json");
    let broken: BTreeSet<String> = items(&index).iter().filter_map(|entry| entry["expect"]["rule"].as_str().map(str::to_owned)).collect();
    let readme = std::fs::read_to_string(specification().join("vectors/README.md")).unwrap();
    let (_, excused) = readme.split_once("## Rules without a vector").expect("the heading is there");
    let excused: BTreeSet<String> =
        excused.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '/').flat_map(expand).filter(|word| is_rule(word)).collect();
    let rules: BTreeSet<String> = rules().into_keys().collect();
    let without: BTreeSet<String> = rules.difference(&broken).cloned().collect();
    assert_eq!(without, excused);
    assert_eq!(broken.difference(&rules).next(), None);
    assert!(text(&index[0]["file"]).starts_with("valid/"));
}

/// `REFS-6/7` stands for both.
fn expand(word: &str) -> Vec<String> {
    let mut parts = word.split('/');
    let first = parts.next().unwrap_or_default();
    let prefix = first.split('-').next().unwrap_or_default();
    [first.to_owned()].into_iter().chain(parts.map(|number| format!("{prefix}-{number}"))).collect()
}
