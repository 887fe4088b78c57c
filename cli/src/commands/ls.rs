//! `ls`: lists what is in a snapshot.

use super::selection::Selection;
use crate::context::Context;
use crate::exit::Outcome;
use crate::names::{path_of, put_path, shown};
use crate::{size, time};
use icecore::Error;
use icecore::entry::{Entry, EntryKind};
use icecore::id::to_hex;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Lists a folder of a snapshot
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore ls latest\n  \
    icecore ls 3f2a9c1d home/ann -l\n  \
    icecore ls latest --recursive | grep letter")]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// The folder, or a file; without it what stands at the top of the snapshot
    path: Option<OsString>,
    /// Lists everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Says mode, owner, size and time too
    #[arg(short, long)]
    long: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let snapshot = args.selection.find(&repository)?;
    let output = &context.output;
    let mut entries = 0_u64;
    let path = args.path.as_ref().map(|path| path.as_bytes());
    let mut print = |entry: Entry| {
        entries += 1;
        let written = match output.is_json() {
            true => output.json("entry", as_json(&entry)),
            false if args.long => output.line(long_line(&entry)),
            false => output.line(short_line(&entry)),
        };
        written.map_err(|error| Error::io("listing", error))
    };
    match args.recursive {
        true => repository.for_each_entry(&snapshot, path, &mut print)?,
        false => repository.for_each_child(&snapshot, path, &mut print)?,
    }
    output.json("summary", json!({"snapshot_id": snapshot.id.to_string(), "entries": entries}))?;
    Ok(Outcome::Done)
}

/// The path, with a slash behind a folder.
pub(super) fn short_line(entry: &Entry) -> String {
    let slash = if entry.kind == EntryKind::Folder { "/" } else { "" };
    format!("{}{slash}", shown(&path_of(&entry.key)))
}

fn long_line(entry: &Entry) -> String {
    let line = short_line(entry);
    if let EntryKind::HardLink(first) = &entry.kind {
        return format!("{:10}  {:<17}  {:>10}  {:19}  {line} = {}", "hard link", "", "", "", shown(&path_of(first)));
    }
    let metadata = &entry.metadata;
    let name = |name: &[u8], id: u32| if name.is_empty() { id.to_string() } else { shown(name) };
    let owner = format!("{} {}", name(&metadata.user, metadata.uid), name(&metadata.group, metadata.gid));
    let (size, target) = match &entry.kind {
        EntryKind::File(content) => (size::bytes(content.size), String::new()),
        EntryKind::Symlink(target) => (String::new(), format!(" -> {}", shown(target))),
        EntryKind::BlockDevice(major, minor) | EntryKind::CharDevice(major, minor) => (format!("{major}, {minor}"), String::new()),
        _ => (String::new(), String::new()),
    };
    format!("{}  {owner:<17}  {size:>10}  {}  {line}{target}", mode_text(entry), time::local(metadata.modified))
}

/// Kind and mode as `ls -l` shows them.
fn mode_text(entry: &Entry) -> String {
    let mode = entry.metadata.mode;
    let mut text = String::from(kind_of(&entry.kind).0);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The letter of `ls -l`, and the name in JSON.
pub(super) fn kind_of(kind: &EntryKind) -> (&'static str, &'static str) {
    match kind {
        EntryKind::File(_) => ("-", "file"),
        EntryKind::Folder => ("d", "folder"),
        EntryKind::Symlink(_) => ("l", "symlink"),
        EntryKind::Fifo => ("p", "fifo"),
        EntryKind::Socket => ("s", "socket"),
        EntryKind::BlockDevice(..) => ("b", "block_device"),
        EntryKind::CharDevice(..) => ("c", "char_device"),
        EntryKind::HardLink(_) => ("h", "hard_link"),
    }
}

/// An entry as every command shows it in JSON.
pub(super) fn as_json(entry: &Entry) -> Value {
    let mut line = json!({"kind": kind_of(&entry.kind).1});
    put_path(&mut line, &path_of(&entry.key));
    match &entry.kind {
        EntryKind::File(content) => line["size"] = content.size.into(),
        EntryKind::Symlink(target) => put_bytes(&mut line, "target", target),
        EntryKind::BlockDevice(major, minor) | EntryKind::CharDevice(major, minor) => line["device"] = json!([major, minor]),
        EntryKind::HardLink(first) => {
            put_bytes(&mut line, "first_path", &path_of(first));
            return line;
        }
        EntryKind::Folder | EntryKind::Fifo | EntryKind::Socket => {}
    }
    let metadata = &entry.metadata;
    line["mode"] = format!("{:04o}", metadata.mode).into();
    line["uid"] = metadata.uid.into();
    line["gid"] = metadata.gid.into();
    line["user"] = String::from_utf8_lossy(&metadata.user).into();
    line["group"] = String::from_utf8_lossy(&metadata.group).into();
    line["modified"] = time::rfc3339(metadata.modified).into();
    line["xattrs"] = metadata.xattrs.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect::<Vec<_>>().into();
    line
}

/// Adds bytes that are text nearly always; as hex too where they are not.
fn put_bytes(line: &mut Value, name: &str, bytes: &[u8]) {
    line[name] = String::from_utf8_lossy(bytes).into();
    if std::str::from_utf8(bytes).is_err() {
        line[format!("{name}_hex")] = to_hex(bytes).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icecore::entry::{FileContent, Metadata};

    #[test]
    fn modes_are_shown_as_ls_does() {
        let text = |kind, mode| mode_text(&Entry { key: Vec::new(), kind, metadata: Metadata { mode, ..Metadata::default() } });
        assert_eq!(text(EntryKind::File(FileContent::default()), 0o4755), "-rwsr-xr-x");
        assert_eq!(text(EntryKind::Folder, 0o1777), "drwxrwxrwt");
        assert_eq!(text(EntryKind::Fifo, 0o7640), "prwSr-S--T");
    }
}
