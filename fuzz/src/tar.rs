//! Tar streams: read, and backed up into a repository.
//!
//! A checksum stands in each header, which changed bytes would hardly ever have; so all checksums are put right first.

use icecore::ErrorKind;
use icecore::backend::MemoryBackend;
use icecore::backup::BackupOptions;
use icecore::crypto::Secret;
use icecore::format::config::CutMethod;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use icecore::testing::read_tar;
use std::io::{Cursor, Write};
use std::sync::Arc;

const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Puts the checksum right of every block that looks like a header.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK) {
        let looks_like_header = block[257..262] == *b"ustar" || block[CHECKSUM.end - 1] == b' ';
        if looks_like_header {
            seal(block);
        }
    }
    bytes
}

fn seal(block: &mut [u8]) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(crate) fn read(data: &[u8]) {
    for bytes in [data.to_vec(), sealed(data)] {
        let Ok((files, _)) = read_tar(bytes.as_slice()) else { continue };
        for file in files {
            for name in [Some(&file.key), file.link.as_ref()].into_iter().flatten() {
                let is_inside = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&b'/');
                assert!(name.is_empty() || name.split(|byte| *byte == 0).all(is_inside), "{name:?}");
            }
            let apart = |pair: &[std::ops::Range<u64>]| pair[0].end < pair[1].start;
            assert!(file.data.windows(2).all(apart) && file.data.iter().all(|range| range.start < range.end && range.end <= file.size));
        }
    }
}

/// What is stored is whole, and comes back.
pub(crate) fn backup(data: &[u8]) {
    let mut options = CreateOptions::default();
    options.pack_size = 65_536;
    options.data_frame_size = 4_096;
    options.meta_frame_size = 4_096;
    options.cut = CutMethod::Content { min: 64, average: 256, max: 1_024 };
    let runtime = Runtime::seeded(1, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 1);
    let key = Key::KeyFile(Secret::new([5; 32]));
    let made = Repository::create(Arc::new(MemoryBackend::new()), runtime, &key, &options, Settings::default());
    let repository = made.expect("a repository is made");
    match repository.backup_tar("archive", Box::new(Cursor::new(sealed(data))), &BackupOptions::new("tar"), &Silent) {
        Ok(_) => {
            let report = repository.scrub(&Silent).expect("it can be read");
            assert!(report.findings.is_empty() && report.snapshots == 1, "{report:?}");
            let snapshot = repository.find_snapshot("latest", None, None).expect("it is there");
            repository.for_each_entry(&snapshot, None, &mut |_| Ok(())).expect("its entries can be read");
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Invalid), "{error:?}");
            assert!(repository.snapshots().expect("it can be read").is_empty());
        }
    }
}

/// A member as a header and its content.
fn member(kind: u8, name: &[u8], target: &[u8], content: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    for (at, text) in [(100, "0000644\0"), (108, "0001750\0"), (116, "0001751\0"), (136, "14524617200\0"), (257, "ustar\x0000")] {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    write!(&mut block[124..136], "{:011o}", content.len()).expect("it fits");
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target);
    change(&mut block);
    seal(&mut block);
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(BLOCK), 0);
    block
}

fn plain(kind: u8, name: &[u8], target: &[u8], content: &[u8]) -> Vec<u8> {
    member(kind, name, target, content, |_| {})
}

fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length - length.to_string().len() == rest).expect("there is one");
        bytes.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
    }
    plain(kind, b"pax", b"", &bytes)
}

/// Archives with every kind of member and every form of extension.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let end = vec![0; 2 * BLOCK];
    let kinds = [
        plain(b'5', b"folder/", b"", b""),
        plain(b'0', b"folder/file", b"", b"content"),
        plain(b'0', b"folder/file", b"", b"its later content"),
        plain(b'1', b"other name", b"folder/file", b""),
        plain(b'2', b"link", b"folder", b""),
        plain(b'0', b"link/below", b"", b"x"),
        plain(b'6', b"fifo", b"", b""),
        plain(b'3', b"device", b"", b""),
        plain(b'0', b"../outside", b"", b"x"),
        plain(b'0', b"/absolute", b"", b"x"),
        plain(b'V', b"label", b"", b""),
    ];
    let names = [
        plain(b'L', b"././@LongLink", b"", &[b"n".repeat(150), vec![0]].concat()),
        plain(b'K', b"././@LongLink", b"", &[b"t".repeat(150), vec![0]].concat()),
        plain(b'2', b"short", b"short", b""),
        pax(b'g', &[("uid", "7"), ("comment", "all")]),
        pax(b'x', &[("path", "a/b"), ("mtime", "-1.5"), ("SCHILY.xattr.user.a", "v"), ("size", "3"), ("uname", "ann")]),
        plain(b'0', b"b", b"", b"abc"),
    ];
    let old = member(b'S', b"sparse", b"", &[1; 512], |block| {
        for (at, text) in [(386, "00000001000"), (398, "00000001000"), (483, "00000004000")] {
            block[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
    });
    let map = [&b"2\n0\n512\n4096\n512\n"[..], &[0; 492], &[3; 1024]].concat();
    let sparse = [
        old,
        pax(b'x', &[("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.offset", "2"), ("GNU.sparse.numbytes", "3")]),
        plain(b'0', b"v00", b"", b"abc"),
        pax(b'x', &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "2,3,7,1"), ("GNU.sparse.name", "v01")]),
        plain(b'0', b"x", b"", b"abcd"),
        pax(b'x', &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "8192"), ("GNU.sparse.name", "v10")]),
        plain(b'0', b"x", b"", &map),
    ];
    let large = member(b'0', b"large", b"", b"", |block| block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0]));
    let negative = member(b'0', b"negative", b"", b"", |block| block[136..148].fill(0xff));
    vec![
        [kinds.concat(), end.clone()].concat(),
        [names.concat(), end.clone()].concat(),
        [sparse.concat(), end.clone()].concat(),
        [negative, large].concat(),
        kinds[1].clone(),
        end,
    ]
}
