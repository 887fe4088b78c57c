use super::*;
use crate::chunker::tests::{content, cut_all, noise, stream};
use proptest::prelude::*;

fn name(bytes: &[u8]) -> Result<ChunkId> {
    Ok(ChunkId(*blake3::hash(bytes).as_bytes()))
}

/// What a cutter makes of `data`, as a hint.
fn hint_of(cutter: &Cutter, mut data: &[u8]) -> Vec<ChunkRef> {
    let mut chunks = Vec::new();
    for length in cut_all(cutter, data) {
        chunks.push(ChunkRef { id: name(&data[..length]).unwrap(), length: length as u32 });
        data = &data[length..];
    }
    chunks
}

/// The lengths with a guide, and how many bytes the rolling hash decided; `data` arrives in pieces.
fn cut_guided(cutter: &Cutter, mut guide: Guide, data: &[u8], piece: usize) -> (Vec<usize>, usize) {
    let (mut lengths, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        while let Some((length, id)) = guide.next_cut(cutter, &data[start..end], end == data.len(), name).unwrap() {
            assert_eq!(id, name(&data[start..start + length]).unwrap());
            lengths.push(length);
            start += length;
        }
        if end == data.len() {
            return (lengths, guide.rolled);
        }
        end = data.len().min(end + piece);
    }
}

#[test]
fn what_a_changed_chunk_was_before_is_known() {
    let cutter = content(1024, 4096, 16_384);
    let before = noise(3, 400_000);
    let hint = hint_of(&cutter, &before);
    let middle = hint.len() / 2;
    let at: usize = hint[..middle].iter().map(|chunk| chunk.length as usize).sum();
    // Something is inserted at the beginning, a chunk in the middle is changed, and something appended.
    let mut now = [&[7; 100], &before[..]].concat();
    now[at + 100 + 10] ^= 1;
    now.extend(noise(4, 100));
    let mut guide = Guide::new(hint.clone(), 0);
    let (mut start, mut earlier) = (0, Vec::new());
    while let Some((length, id)) = guide.next_cut(&cutter, &now[start..], true, name).unwrap() {
        assert_eq!(guide.earlier().is_empty(), hint.iter().any(|chunk| chunk.id == id));
        earlier.extend(guide.earlier().iter().map(|chunk| hint.iter().position(|other| other == chunk).unwrap()));
        start += length;
    }
    assert!([0, middle, hint.len() - 1].iter().all(|chunk| earlier.contains(chunk)), "{earlier:?}");
    assert!(earlier.len() < 9, "{earlier:?}");
    assert!(Guide::new(Vec::new(), 0).stood(100).is_empty());
}

#[derive(Debug, Clone)]
enum Edit {
    Insert(u64, usize),
    Delete(usize),
    Overwrite(u64, usize),
    Truncate,
    Append(u64, usize),
    Swap(usize),
    Duplicate(usize),
}

/// Edits, each with the place as a part of 2^16 of what is there.
fn edits() -> impl Strategy<Value = Vec<(u16, Edit)>> {
    let length = || prop_oneof![1usize..20, 1usize..5000];
    let edit = prop_oneof![
        (any::<u64>(), length()).prop_map(|(seed, length)| Edit::Insert(seed, length)),
        length().prop_map(Edit::Delete),
        (any::<u64>(), length()).prop_map(|(seed, length)| Edit::Overwrite(seed, length)),
        Just(Edit::Truncate),
        (any::<u64>(), length()).prop_map(|(seed, length)| Edit::Append(seed, length)),
        length().prop_map(Edit::Swap),
        length().prop_map(Edit::Duplicate),
    ];
    proptest::collection::vec((any::<u16>(), edit), 0..5)
}

fn apply(data: &mut Vec<u8>, edits: &[(u16, Edit)]) {
    for (place, edit) in edits {
        let at = data.len() * usize::from(*place) / (1 << 16);
        let within = |length: usize| at..data.len().min(at + length);
        match edit {
            Edit::Insert(seed, length) => drop(data.splice(at..at, noise(*seed, *length))),
            Edit::Delete(length) => drop(data.drain(within(*length))),
            Edit::Overwrite(seed, length) => {
                let range = within(*length);
                let bytes = noise(*seed, range.len());
                data[range].copy_from_slice(&bytes);
            }
            Edit::Truncate => data.truncate(at),
            Edit::Append(seed, length) => data.extend(noise(*seed, *length)),
            Edit::Swap(length) => {
                let moved: Vec<u8> = data.drain(within(*length)).collect();
                let to = data.len() / 2;
                drop(data.splice(to..to, moved));
            }
            Edit::Duplicate(length) => {
                let copy = data[within(*length)].to_vec();
                drop(data.splice(at..at, copy));
            }
        }
    }
}

/// Ways in which a hint may lie.
fn lies() -> impl Strategy<Value = Vec<(u16, u8, u32)>> {
    proptest::collection::vec((any::<u16>(), 0u8..6, prop_oneof![0u32..5, 0u32..2000, any::<u32>()]), 0..6)
}

fn lie(hint: &mut Vec<ChunkRef>, lies: &[(u16, u8, u32)]) {
    for (place, kind, value) in lies {
        let Some(last) = hint.len().checked_sub(1) else { return };
        let at = usize::from(*place) % hint.len();
        match kind {
            0 => hint[at].length = *value,
            1 => hint[at].length = hint[at].length.wrapping_add(*value),
            2 => hint[at].id.0[0] ^= 1,
            3 => hint.swap(at, last),
            4 => drop(hint.remove(at)),
            _ => hint.insert(at, hint[last]),
        }
    }
}

const SIZES: [(u32, u32, u32); 4] = [(64, 256, 258), (64, 256, 1024), (254, 256, 2048), (128, 512, 4096)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn cuts_are_the_same_with_and_without_a_hint(
        before in stream(),
        edits in edits(),
        lies in lies(),
        piece in 1usize..6000,
        next in prop_oneof![Just(0usize), 0usize..40],
        (min, average, max) in proptest::sample::select(SIZES.as_slice()),
    ) {
        let cutter = content(min, average, max);
        let mut hint = hint_of(&cutter, &before);
        lie(&mut hint, &lies);
        let mut now = before;
        apply(&mut now, &edits);
        let (lengths, _) = cut_guided(&cutter, Guide::new(hint, next), &now, piece);
        prop_assert_eq!(lengths, cut_all(&cutter, &now));
    }

    /// A chunk of which the hint knows but the name, and lies about the length, is still cut where it must be.
    #[test]
    fn the_cuts_of_other_data_are_no_hint(before in stream(), now in stream()) {
        let cutter = content(64, 256, 1024);
        let (lengths, _) = cut_guided(&cutter, Guide::new(hint_of(&cutter, &before), 0), &now, now.len().max(1));
        prop_assert_eq!(lengths, cut_all(&cutter, &now));
    }
}

#[test]
fn nothing_is_rolled_where_nothing_changed() {
    let cutter = content(256, 1024, 4096);
    for data in [noise(1, 1 << 18), vec![0; 1 << 18], Vec::new(), noise(2, 100)] {
        let (lengths, rolled) = cut_guided(&cutter, Guide::new(hint_of(&cutter, &data), 0), &data, 10_000);
        assert_eq!((lengths, rolled), (cut_all(&cutter, &data), 0));
    }
}

#[test]
fn only_what_is_near_an_edit_is_rolled() {
    let cutter = content(256, 1024, 4096);
    let before = noise(3, 1 << 20);
    let hint = hint_of(&cutter, &before);
    type Edit = fn(&mut Vec<u8>);
    let edits: [(&str, Edit); 6] = [
        ("overwritten", |data| data[400_000..400_100].fill(1)),
        ("inserted", |data| drop(data.splice(400_000..400_000, [7; 10]))),
        ("much inserted", |data| drop(data.splice(400_000..400_000, noise(4, 8_000)))),
        ("removed", |data| drop(data.drain(400_000..400_010))),
        ("much removed", |data| drop(data.drain(400_000..700_000))),
        ("the first half moved behind the second", |data| data.rotate_left(1 << 19)),
    ];
    for (what, edit) in edits {
        let mut now = before.clone();
        edit(&mut now);
        let (lengths, rolled) = cut_guided(&cutter, Guide::new(hint.clone(), 0), &now, 100_000);
        assert_eq!(lengths, cut_all(&cutter, &now), "{what}");
        assert!((1..=25_000).contains(&rolled), "{what}: {rolled}");
    }
}
