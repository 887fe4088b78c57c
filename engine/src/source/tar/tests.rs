//! Archives made here, block by block; what real programs write is tested with the command line.

use super::*;
use crate::runtime::Timestamp;
use proptest::prelude::*;

/// A member with these fields, its checksum put right, and its content.
fn member(kind: u8, name: &str, content: &[u8], change: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    for (at, value) in [(100, 0o644_u64), (108, 1000), (116, 1001), (136, 1_700_000_000)] {
        let width = if at == 136 { 11 } else { 7 };
        put(&mut block, at, &format!("{value:0width$o}"));
    }
    put(&mut block, 124, &format!("{:011o}", content.len()));
    block[156] = kind;
    put(&mut block, 257, "ustar\0");
    put(&mut block, 263, "00");
    put(&mut block, 265, "ann");
    put(&mut block, 297, "staff");
    change(&mut block);
    seal(&mut block);
    let mut bytes = [block.as_slice(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn plain(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    member(kind, name, content, |_| {})
}

fn linked(kind: u8, name: &str, target: &str) -> Vec<u8> {
    member(kind, name, b"", |block| put(block, 157, target))
}

fn put(block: &mut [u8; BLOCK], at: usize, text: &str) {
    block[at..at + text.len()].copy_from_slice(text.as_bytes());
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(block, 148, &format!("{sum:06o}\0 "));
}

fn records(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length - length.to_string().len() == rest).unwrap();
        bytes.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
    }
    bytes
}

fn pax(kind: u8, of: &[(&str, &str)]) -> Vec<u8> {
    plain(kind, "pax", &records(of))
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

/// Everything in an archive, with its content.
fn read(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>> {
    let mut reader = TarReader::new(bytes);
    let mut found = Vec::new();
    while let Some(member) = reader.next()? {
        let mut content = Vec::new();
        if let Member::Entry(TarEntry { kind: TarKind::File { data, .. }, .. }) = &member {
            for range in data {
                let start = content.len();
                content.resize(start + (range.end - range.start) as usize, 0);
                assert_eq!(reader.read_data(&mut content[start..])?, content.len() - start);
            }
        }
        found.push((member, content));
    }
    Ok(found)
}

#[track_caller]
fn entries(members: &[Vec<u8>]) -> Vec<(TarEntry, Vec<u8>)> {
    let found = read(&archive(members)).unwrap().into_iter();
    let entry = |(member, content)| match member {
        Member::Entry(entry) => (entry, content),
        Member::Failed { .. } => panic!("{member:?}"),
    };
    found.map(entry).collect()
}

#[track_caller]
fn only(members: &[Vec<u8>]) -> (TarEntry, Vec<u8>) {
    let mut entries = entries(members);
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn key(path: &str) -> Key {
    path.replace('/', "\0").into_bytes()
}

#[test]
fn all_kinds_come_with_their_metadata() {
    let found = entries(&[
        plain(b'5', "./", b""),
        plain(b'0', "./a//b", b"content"),
        plain(0, "old/folder/", b""),
        plain(b'7', "contiguous", &[7; 1000]),
        linked(b'2', "symlink", "/any/where/.."),
        linked(b'1', "hard", "./a/b"),
        member(b'3', "char", b"", |block| put(block, 329, "0000001\x000000003")),
        member(b'4', "block", b"", |block| put(block, 329, "0000010\x000000020")),
        plain(b'6', "fifo", b""),
    ]);
    let kinds: Vec<_> = found.iter().map(|(entry, _)| (String::from_utf8(entry.key.clone()).unwrap(), entry.kind.clone())).collect();
    let file = |size: u64| TarKind::File { size, data: std::iter::once(0..size).collect() };
    let expected = [
        ("", TarKind::Folder),
        ("a\0b", file(7)),
        ("old\0folder", TarKind::Folder),
        ("contiguous", file(1000)),
        ("symlink", TarKind::Symlink(b"/any/where/..".to_vec())),
        ("hard", TarKind::HardLink(key("a/b"))),
        ("char", TarKind::CharDevice(1, 3)),
        ("block", TarKind::BlockDevice(8, 16)),
        ("fifo", TarKind::Fifo),
    ];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!((found[1].1.as_slice(), found[3].1.len()), (&b"content"[..], 1000));
    let metadata = &found[1].0.metadata;
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o644, 1000, 1001));
    assert_eq!((metadata.user.as_slice(), metadata.group.as_slice()), (&b"ann"[..], &b"staff"[..]));
    assert_eq!(metadata.modified, Timestamp { seconds: 1_700_000_000, nanoseconds: 0 });
}

#[test]
fn long_names_and_large_numbers_are_read_in_every_form() {
    let long = format!("{}/{}", "d".repeat(150), "n".repeat(250));
    let gnu = only(&[plain(b'L', "././@LongLink", format!("{long}\0").as_bytes()), plain(b'0', "cut", b"")]).0;
    let posix = only(&[pax(b'x', &[("path", &long)]), plain(b'0', "cut", b"")]).0;
    assert_eq!((gnu.key, posix.key), (key(&long), key(&long)));
    let target = only(&[plain(b'K', "././@LongLink", long.as_bytes()), plain(b'2', "link", b"")]).0;
    assert_eq!(target.kind, TarKind::Symlink(long.clone().into_bytes()));
    let target = only(&[pax(b'x', &[("linkpath", &long)]), plain(b'1', "link", b"")]).0;
    assert_eq!(target.kind, TarKind::HardLink(key(&long)));
    let prefixed = only(&[member(b'0', "name", b"", |block| put(block, 345, "some/prefix"))]).0;
    assert_eq!(prefixed.key, key("some/prefix/name"));
    let of_gnu = |block: &mut [u8; BLOCK]| {
        put(block, 257, "ustar  \0");
        put(block, 345, "12345670123");
    };
    assert_eq!(only(&[member(b'0', "name", b"", of_gnu)]).0.key, b"name", "GNU has times in the place of the prefix");

    let base_256 = |block: &mut [u8; BLOCK]| {
        block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xfe, 0xdc, 0xba, 0x98]);
        block[136..148].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
    };
    let large = only(&[member(b'0', "n", b"", base_256)]).0.metadata;
    assert_eq!((large.uid, large.modified.seconds), (0xfedc_ba98, -2));
    let records = [("uid", "4294967295"), ("gid", "3000000"), ("uname", "Jos\u{e9}"), ("gname", "g"), ("size", "3")];
    let (entry, content) = only(&[pax(b'x', &records), member(b'0', "n", b"abc", |block| put(block, 124, "00000000000"))]);
    assert_eq!((entry.metadata.uid, entry.metadata.gid, content.as_slice()), (u32::MAX, 3_000_000, &b"abc"[..]));
    assert_eq!((entry.metadata.user.as_slice(), entry.metadata.group.as_slice()), ("Jos\u{e9}".as_bytes(), &b"g"[..]));
}

#[test]
fn times_and_attributes_are_exact() {
    for (text, seconds, nanoseconds) in [
        ("1700000000.123456789", 1_700_000_000, 123_456_789),
        ("5", 5, 0),
        ("5.5", 5, 500_000_000),
        ("-1.25", -2, 750_000_000),
        ("-3", -3, 0),
        ("99999999999.9999999999999", 99_999_999_999, 999_999_999),
    ] {
        let entry = only(&[pax(b'x', &[("mtime", text)]), plain(b'0', "n", b"")]).0;
        assert_eq!(entry.metadata.modified, Timestamp { seconds, nanoseconds }, "{text}");
    }
    let of =
        [("SCHILY.xattr.user.z", "a=b\n"), ("SCHILY.xattr.user.a", ""), ("comment", "x"), ("SCHILY.xattr.security.capability", "\0\x01")];
    let xattrs = only(&[pax(b'x', &of), plain(b'0', "n", b"")]).0.metadata.xattrs;
    let expected = [("security.capability", "\0\x01"), ("user.a", ""), ("user.z", "a=b\n")];
    assert_eq!(xattrs, expected.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
    let found = read(&archive(&[pax(b'x', &[("SCHILY.acl.access", "user::rwx")]), plain(b'0', "n", b"")])).unwrap();
    assert!(matches!(&found[1].0, Member::Failed { path, message } if path == b"n" && message.contains("access list")), "{found:?}");
}

#[test]
fn global_headers_count_until_they_are_taken_back() {
    let found = entries(&[
        pax(b'g', &[("gname", "all"), ("mtime", "7")]),
        plain(b'0', "a", b""),
        pax(b'x', &[("gname", "one")]),
        plain(b'0', "b", b""),
        pax(b'g', &[("gname", "")]),
        plain(b'0', "c", b""),
    ]);
    let groups: Vec<_> = found.iter().map(|(entry, _)| (entry.metadata.group.as_slice(), entry.metadata.modified.seconds)).collect();
    assert_eq!(groups, [(&b"all"[..], 7), (b"one", 7), (b"staff", 7)]);
}

#[test]
fn sparse_files_keep_their_holes_in_every_form() {
    let content = [[1; 512], [2; 512]].concat();
    let sparse = TarKind::File { size: 100_000, data: vec![1024..1536, 4096..4608] };
    let check = |what: &str, members: &[Vec<u8>]| {
        let (entry, found) = only(members);
        assert_eq!((entry.key.as_slice(), &entry.kind), (&b"f"[..], &sparse), "{what}");
        assert!(found == content, "{what}");
    };
    let old = member(b'S', "f", &content, |block| {
        put(block, 257, "ustar  \0");
        put(block, 386, "00000002000\x0000000001000\x0000000010000\x0000000001000\x0000000303240\x0000000000000\0");
        put(block, 483, "00000303240\0");
    });
    check("old GNU", &[old]);
    let head = ("GNU.sparse.numblocks", "2");
    let offsets =
        [("GNU.sparse.offset", "1024"), ("GNU.sparse.numbytes", "512"), ("GNU.sparse.offset", "4096"), ("GNU.sparse.numbytes", "512")];
    let zero_0 = [&[("GNU.sparse.size", "100000"), head][..], &offsets].concat();
    check("PAX 0.0", &[pax(b'x', &zero_0), plain(b'0', "f", &content)]);
    let zero_1 = [
        ("GNU.sparse.size", "100000"),
        head,
        ("GNU.sparse.name", "f"),
        ("path", "GNUSparseFile.1/f"),
        ("GNU.sparse.map", "1024,512,4096,512"),
    ];
    check("PAX 0.1", &[pax(b'x', &zero_1), plain(b'0', "GNUSparseFile.1/f", &content)]);
    let one_0 = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "f"), ("GNU.sparse.realsize", "100000")];
    let mut stored = b"3\n1024\n512\n4096\n512\n100000\n0\n".to_vec();
    stored.resize(512, 0);
    stored.extend_from_slice(&content);
    check("PAX 1.0", &[pax(b'x', &one_0), plain(b'0', "GNUSparseFile.1/f", &stored)]);

    // More pieces than a header has room for.
    let mut more = [0; BLOCK];
    put(&mut more, 0, "00000060000\x0000000001000\x00");
    let mut old = member(b'S', "f", &[content.as_slice(), &[3; 512]].concat(), |block| {
        put(block, 386, "00000002000\x0000000001000\x0000000010000\x0000000001000\x00");
        put(block, 482, "1");
        put(block, 483, "00000303240\0");
    });
    old.splice(BLOCK..BLOCK, more);
    assert_eq!(only(&[old]).0.kind, TarKind::File { size: 100_000, data: vec![1024..1536, 4096..4608, 24_576..25_088] });
}

#[test]
fn maps_that_lie_are_refused() {
    for map in ["4096,512,1024,512", "1024,512,1024,512", "1024,511", "1024,512,99999,512", "1024", "a,b", "18446744073709551615,512"] {
        let of = [("GNU.sparse.size", "100000"), ("GNU.sparse.map", map)];
        let error = read(&archive(&[pax(b'x', &of), plain(b'0', "f", &[1; 1024])])).unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("`f`"), "{map}: {error}");
    }
}

#[test]
fn names_that_lead_astray_are_told_and_skipped() {
    let lost = [
        plain(b'0', "/etc/passwd", b"x"),
        plain(b'0', "../up", b"x"),
        plain(b'0', "a/../../b", b"x"),
        linked(b'1', "link", "/etc/passwd"),
        linked(b'1', "link", "../x"),
        plain(b'0', "", b""),
        plain(b'M', "volume", b"x"),
        plain(b'?', "unknown", b"x"),
        [pax(b'x', &[("uid", "4294967296")]), plain(b'0', "large", b"")].concat(),
        [pax(b'x', &[("mtime", "soon")]), plain(b'0', "timeless", b"")].concat(),
    ];
    let found = read(&archive(&[lost.concat(), plain(b'0', "kept", b"y")])).unwrap();
    assert_eq!(found.len(), lost.len() + 1, "{found:?}");
    assert!(found[..lost.len()].iter().all(|(member, _)| matches!(member, Member::Failed { .. })), "{found:?}");
    assert!(matches!(&found[lost.len()], (Member::Entry(_), content) if content == b"y"));
}

#[test]
fn streams_that_are_none_or_end_early_are_errors() {
    let whole = archive(&[plain(b'0', "a", &[1; 700]), pax(b'x', &[("path", "b")]), plain(b'0', "b", b"x")]);
    for length in 0..whole.len() {
        let found = read(&whole[..length]);
        // Between two members, where only the end mark is missing, it is told; with half of an end mark all is there.
        match length {
            1536 | 3584 => {
                let found = found.unwrap();
                assert!(matches!(&found.last().unwrap().0, Member::Failed { message, .. } if message.contains("no end mark")), "{length}");
            }
            4096.. if length % BLOCK == 0 || length > 4096 => assert_eq!(found.unwrap().len(), 2, "{length}"),
            _ => assert_eq!(found.unwrap_err().kind(), ErrorKind::Unavailable, "{length}"),
        }
    }
    for (bytes, hint) in [(&b"\x1f\x8b\x08"[..], "gzip -dc"), (b"\x28\xb5\x2f\xfd", "zstd -dc"), (b"PGDMP", "checksum")] {
        let mut block = bytes.to_vec();
        block.resize(BLOCK, 1);
        let error = read(&block).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    let mut huge = plain(b'x', "pax", b"");
    put(huge.first_chunk_mut().unwrap(), 124, "77777777777");
    seal(huge.first_chunk_mut().unwrap());
    assert!(read(&huge).unwrap_err().to_string().contains("at most"));
    let followed = [whole.clone(), vec![0; 4096], plain(b'0', "c", b"")].concat();
    let found = read(&followed).unwrap();
    assert!(matches!(&found[2].0, Member::Failed { message, .. } if message.contains("follows")), "{found:?}");
}

proptest! {
    #[test]
    fn damaged_archives_never_panic_and_never_give_a_bad_name(
        changes in proptest::collection::vec((0_usize..5120, any::<u8>()), 0..6),
        length in 0_usize..5120,
    ) {
        let sparse = [("GNU.sparse.size", "9999"), ("GNU.sparse.map", "0,512,1024,88")];
        let mut bytes = archive(&[
            pax(b'g', &[("mtime", "5.5")]),
            [pax(b'x', &sparse), plain(b'0', "d/f", &[1; 600])].concat(),
            linked(b'1', "l", "d/f"),
        ]);
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        // Damage that a checksum would have shown is not all that there is.
        for block in bytes.chunks_exact_mut(BLOCK) {
            let block: &mut [u8; BLOCK] = block.try_into().unwrap();
            if block[257..262] == *b"ustar" {
                seal(block);
            }
        }
        bytes.truncate(length.max(1));
        for (member, _) in read(&bytes).unwrap_or_default() {
            if let Member::Entry(entry) = member {
                prop_assert!(is_path_key(&entry.key));
            }
        }
    }
}
