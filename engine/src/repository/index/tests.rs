use super::*;
use crate::format::FrameRecord;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicUsize;
use tempfile::TempDir;

const REPOSITORY: RepositoryId = RepositoryId([9; 16]);

/// An id spread over the whole range, as real ones are. Of the first ones, four at a time share the bits that runs hold.
fn chunk_id(n: u64) -> ChunkId {
    let mut id = ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    if n < CHUNKS {
        id.0[..6].copy_from_slice(&blake3::hash(&(n / 4).to_be_bytes()).as_bytes()[..6]);
    }
    id
}

fn session(n: u8) -> SessionId {
    SessionId([n; 16])
}

/// Sessions 0, 3, 6 ... are of domain 0, sessions 1, 4, 7 ... of domain 1 and so on.
fn domain_of(session: SessionId) -> DomainId {
    DomainId([session.0[0] % 3; 16])
}

fn frame(session_number: u8, number: u32, chunks: impl IntoIterator<Item = u64>) -> FrameRecord {
    let id = FrameId { session: session(session_number), number };
    FrameRecord {
        id,
        sealed_length: 1000 + number,
        plaintext_length: 2000 + number,
        hash: *blake3::hash(id.to_string().as_bytes()).as_bytes(),
        bases: Vec::new(),
        chunks: chunks.into_iter().map(chunk_id).collect(),
    }
}

fn pack_id(n: u8) -> PackId {
    PackId([n; 16])
}

const DATA: ObjectKind = ObjectKind::DataPack;

/// The obvious index: all tables of listed packs.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<(ObjectKind, PackId), ContentsTable>);

impl Model {
    /// Every place of a chunk as (frame, position, kind, pack), in order.
    fn places(&self, id: &ChunkId) -> Vec<(FrameId, u32, ObjectKind, PackId)> {
        let mut places = Vec::new();
        for (&(kind, pack), table) in &self.0 {
            for frame in &table.frames {
                let positions = (0..).zip(&frame.chunks).filter(|(_, chunk)| *chunk == id);
                places.extend(positions.map(|(position, _)| (frame.id, position, kind, pack)));
            }
        }
        places.sort_unstable();
        places
    }

    fn frames(&self) -> impl Iterator<Item = (ObjectKind, PackId, u64, &FrameRecord)> {
        self.0.iter().flat_map(|(&(kind, pack), table)| {
            table.frames.iter().scan(64, move |offset, frame| {
                let start = *offset;
                *offset += u64::from(frame.sealed_length);
                Some((kind, pack, start, frame))
            })
        })
    }

    /// Puts the tables where `index` fetches them.
    fn store(&self, index: &LookupIndex) {
        self.0.iter().for_each(|(&(kind, pack), table)| index.source.keep(kind, pack, table).unwrap());
    }

    /// Compares every answer of `index` for chunks `0..chunks`.
    fn check(&self, index: &LookupIndex, chunks: u64) {
        self.store(index);
        assert_eq!(index.packs(), self.0.keys().copied().collect::<Vec<_>>());
        let frames = self.frames().count() as u64;
        assert_eq!((index.size().packs, index.size().frames), (self.0.len(), frames));
        for id in (0..chunks).map(chunk_id) {
            let expected = self.places(&id);
            let places = index.places_of(&id).unwrap();
            assert!(places.unread.is_empty(), "{places:?}");
            let found: Vec<_> = places
                .found
                .into_iter()
                .map(|place| {
                    let frame = index.frame(place.ordinal).unwrap().unwrap();
                    assert_eq!((frame.id, frame.domain), (place.frame, place.domain));
                    (place.frame, place.position, frame.kind, frame.pack)
                })
                .collect();
            assert_eq!(found, expected);
            for domain in 0..3 {
                let domain = DomainId([domain; 16]);
                let found = index.lookup(&id, domain).unwrap().map(|place| {
                    let frame = index.frame(place.ordinal).unwrap().unwrap();
                    (place.frame, place.position, frame.kind, frame.pack)
                });
                assert_eq!(found, expected.iter().find(|place| domain_of(place.0.session) == domain).copied());
            }
        }
        for (_, _, _, record) in self.frames() {
            let place = index.frame(index.ordinal_of(record.id).unwrap().unwrap()).unwrap().unwrap();
            let copies = self.frames().filter(|copy| copy.3.id == record.id);
            // Copies of a frame have the same chunks; those of the model need not.
            let (kind, pack, offset, record) = copies.min_by_key(|copy| (copy.0, copy.1, copy.2)).unwrap();
            let expected = FramePlace {
                ordinal: place.ordinal,
                id: record.id,
                domain: domain_of(record.id.session),
                kind,
                pack,
                offset,
                sealed_length: record.sealed_length,
                plaintext_length: record.plaintext_length,
                chunk_count: record.chunks.len() as u32,
                has_bases: !record.bases.is_empty(),
            };
            assert_eq!(place, expected);
            assert_eq!(index.hash_of(&place).unwrap(), record.hash);
        }
        self.check_together(index);
    }

    /// Frames that are looked for together are found as one by one: all of them, each third, and with frames between them that are nowhere.
    fn check_together(&self, index: &LookupIndex) {
        let mut frames: Vec<_> = self.frames().map(|(_, _, _, frame)| frame.id).collect();
        frames.sort_unstable();
        let thirds = frames.iter().step_by(3).copied().collect();
        let nowhere = frames.iter().flat_map(|id| [*id, FrameId { number: id.number ^ 1 << 20, ..*id }]).collect();
        let mut ordinals = Vec::new();
        for frames in [thirds, nowhere, frames.iter().rev().copied().collect(), frames] {
            index.ordinals_of(&frames, &mut ordinals).unwrap();
            let one_by_one: Vec<_> = frames.iter().map(|id| index.ordinal_of(*id).unwrap()).collect();
            assert_eq!(ordinals, one_by_one);
        }
    }

    /// Makes the index agree with the model and saves it; how many packs were added and taken out.
    fn sync(&self, index: &LookupIndex) -> (usize, usize) {
        let known: HashSet<_> = index.packs().into_iter().collect();
        let gone: HashSet<_> = known.iter().filter(|pack| !self.0.contains_key(pack)).copied().collect();
        index.remove_packs(&gone);
        let fresh: Vec<_> = self.0.iter().filter(|(pack, _)| !known.contains(pack)).collect();
        fresh.iter().for_each(|(pack, table)| index.add_pack(pack.0, pack.1, table, domain_of).unwrap());
        index.save().unwrap();
        (fresh.len(), gone.len())
    }
}

fn spool() -> Arc<Spool> {
    Arc::new(Spool::new().unwrap())
}

fn open(folder: &TempDir, young_chunks_max: usize) -> LookupIndex {
    LookupIndex::open(Some(folder.path()), REPOSITORY, spool()).unwrap().with_young_chunks_max(young_chunks_max)
}

#[derive(Debug, Clone)]
enum Step {
    Add(ObjectKind, PackId, ContentsTable),
    Remove(Vec<PackId>),
    /// Lists only packs whose number is not divisible by this, and the new ones.
    Sync(u8, Vec<(PackId, ContentsTable)>),
    Save,
    Reopen,
}

const CHUNKS: u64 = 40;

fn table() -> impl Strategy<Value = ContentsTable> {
    let frame = (0u8..6, 0u32..4, proptest::collection::vec(0..CHUNKS, 1..6)).prop_map(|(session, number, chunks)| {
        // Few identities, so that copies of frames come up often.
        frame(session, number, chunks)
    });
    proptest::collection::vec(frame, 0..5).prop_map(|mut frames| {
        frames.sort_by_key(|frame| frame.id);
        frames.dedup_by_key(|frame| frame.id);
        ContentsTable { frames }
    })
}

fn pack() -> impl Strategy<Value = PackId> {
    (0u8..12).prop_map(pack_id)
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(DATA), Just(ObjectKind::MetaPack)];
    prop_oneof![
        4 => (kind, pack(), table()).prop_map(|(kind, pack, table)| Step::Add(kind, pack, table)),
        1 => proptest::collection::vec(pack(), 1..4).prop_map(Step::Remove),
        2 => (2u8..6, proptest::collection::vec((pack(), table()), 0..4)).prop_map(|(divisor, new)| Step::Sync(divisor, new)),
        1 => Just(Step::Save),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_answers_as_the_model_does(steps in proptest::collection::vec(step(), 1..25), young_chunks_max in 1usize..30, tables_bytes_max in 0usize..4000) {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let index = open(&folder, young_chunks_max);
            index.set_tables_bytes_max(tables_bytes_max);
            index
        };
        let mut index = open();
        let mut model = Model::default();
        let mut saved = Model::default();
        for step in steps {
            match step {
                Step::Add(kind, pack, table) => {
                    index.add_pack(kind, pack, &table, domain_of).unwrap();
                    model.0.entry((kind, pack)).or_insert(table);
                }
                Step::Remove(packs) => {
                    let packs: HashSet<_> = packs.into_iter().map(|pack| (DATA, pack)).collect();
                    index.remove_packs(&packs);
                    model.0.retain(|pack, _| !packs.contains(pack));
                }
                Step::Sync(divisor, new) => {
                    let before = model.0.len();
                    model.0.retain(|(_, pack), _| pack.0[0] % divisor != 0);
                    let packs_removed = before - model.0.len();
                    let before = model.0.len();
                    for (pack, table) in new {
                        if pack.0[0] % divisor != 0 {
                            model.0.entry((DATA, pack)).or_insert(table);
                        }
                    }
                    prop_assert_eq!(model.sync(&index), (model.0.len() - before, packs_removed));
                    saved = model.clone();
                }
                Step::Save => {
                    index.save().unwrap();
                    saved = model.clone();
                }
                Step::Reopen => {
                    drop(index);
                    index = open();
                    model = saved.clone();
                }
            }
            model.check(&index, CHUNKS);
        }
    }
}

/// Packs of the given numbers, with 20 frames of 10 chunks each; chunks `200 * number ..`.
fn model_of(packs: impl IntoIterator<Item = u8>) -> Model {
    let table = |pack: u8| {
        let frames = (0..20).map(|n| {
            let first = u64::from(pack) * 200 + u64::from(n) * 10;
            frame(pack, n, first..first + 10)
        });
        ContentsTable { frames: frames.collect() }
    };
    Model(packs.into_iter().map(|pack| ((DATA, pack_id(pack)), table(pack))).collect())
}

fn file_names(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_next_opening_finds_everything_without_fetching() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_of(0..20);
    model.sync(&open(&folder, 300));
    let index = open(&folder, 300);
    model.check(&index, 4000);
    assert_eq!(model.sync(&index), (0, 0));
}

#[test]
fn files_stay_few_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder, 100);
    for pack in 0..100 {
        for (&(kind, id), table) in &model_of([pack]).0 {
            index.add_pack(kind, id, table, domain_of).unwrap();
        }
    }
    index.save().unwrap();
    let files = index.size().files;
    assert!(files <= 4 * 7, "{files}");
    assert_eq!(file_names(&folder).iter().filter(|name| name.starts_with("records-")).count(), files);
}

#[test]
fn what_is_no_longer_listed_does_not_stay_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder, 500);
    model_of(0..20).sync(&index);
    for first in 1..40 {
        let model = model_of(first..first + 20);
        model.sync(&index);
        let size = index.size();
        assert_eq!(size.frames, 400);
        assert!(size.chunks <= 2 * 4000, "{size:?}");
    }
    model_of(39..59).check(&index, 59 * 200);
    model_of([]).sync(&index);
    assert_eq!(index.size().files, 0);
}

#[test]
fn a_cache_of_another_repository_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    model_of(0..3).sync(&open(&folder, 100));
    let other = LookupIndex::open(Some(folder.path()), RepositoryId([8; 16]), spool()).unwrap();
    model_of([]).check(&other, 600);
    assert_eq!(file_names(&folder), ["lock"].map(str::to_owned).into_iter().chain(["manifest".to_owned()]).collect::<Vec<_>>());
}

#[test]
fn every_kind_of_damage_is_noticed_and_mended() {
    let model = model_of(0..6);
    let pristine = tempfile::tempdir().unwrap();
    model.sync(&open(&pristine, 500));
    let names: Vec<_> = file_names(&pristine).into_iter().filter(|name| name != "lock").collect();
    assert!(names.len() >= 4);
    for name in &names {
        let bytes = fs::read(pristine.path().join(name)).unwrap();
        let length = bytes.len();
        let flips = (0..length).step_by(length / 11 + 1).chain([length - 1]).map(|at| {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            flipped
        });
        let zeroed = [&bytes[..length / 2], &vec![0; length - length / 2]].concat();
        let others = [bytes[..length - 1].to_vec(), Vec::new(), [&bytes[..], &[0]].concat(), zeroed];
        for damaged in flips.chain(others) {
            let folder = tempfile::tempdir().unwrap();
            for name in &names {
                fs::copy(pristine.path().join(name), folder.path().join(name)).unwrap();
            }
            fs::write(folder.path().join(name), damaged).unwrap();
            check_damaged(&folder, &model);
        }
        let folder = tempfile::tempdir().unwrap();
        for other in names.iter().filter(|other| *other != name) {
            fs::copy(pristine.path().join(other), folder.path().join(other)).unwrap();
        }
        check_damaged(&folder, &model);
    }
}

/// A damaged cache is empty, or right, or says that it is damaged and is empty the next time; then it is filled again.
fn check_damaged(folder: &TempDir, model: &Model) {
    let index = open(folder, 500);
    model.store(&index);
    let was_empty = index.packs().is_empty();
    let mut was_refused = false;
    for id in (0..1200).map(chunk_id) {
        for domain in [0, 1, 2].map(|n| DomainId([n; 16])) {
            match index.lookup(&id, domain) {
                Ok(found) if was_empty => assert_eq!(found, None),
                Ok(found) => {
                    let expected = model.places(&id).into_iter().find(|place| domain_of(place.0.session) == domain);
                    assert_eq!(found.map(|place| (place.frame, place.position)), expected.map(|place| (place.0, place.1)));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable);
                    was_refused = true;
                }
            }
        }
    }
    for (_, _, _, record) in model.frames() {
        let place = index.ordinal_of(record.id).and_then(|ordinal| ordinal.map(|ordinal| index.frame(ordinal)).transpose());
        was_refused |= place.is_err();
    }
    assert!(was_empty || was_refused, "damage went unnoticed");
    // Even a save after that must not bring the damage back.
    index.remove_packs(&HashSet::from([(DATA, pack_id(0))]));
    index.save().unwrap();
    drop(index);
    let index = open(folder, 500);
    assert_eq!(index.packs(), []);
    model.sync(&index);
    drop(index);
    model.check(&open(folder, 500), 1200);
}

#[test]
fn a_second_user_of_the_folder_gets_an_index_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&folder, 100);
    let model = model_of(0..3);
    model.sync(&first);
    let second = open(&folder, 100);
    assert!(second.is_temporary() && !first.is_temporary());
    model_of([]).check(&second, 600);
    model_of(1..5).sync(&second);
    model_of(1..5).check(&second, 1000);
    model.check(&first, 1000);
    drop(second);
    assert!(!file_names(&folder).iter().any(|name| name.starts_with("private-")));
    drop(first);
    model.check(&open(&folder, 100), 1000);
}

#[test]
fn leftovers_go_and_strangers_stay() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_of(0..3);
    model.sync(&open(&folder, 100));
    let before = file_names(&folder);
    fs::write(folder.path().join("records-4711"), "half").unwrap();
    fs::create_dir(folder.path().join("private-killed")).unwrap();
    fs::write(folder.path().join("private-killed/lock"), "").unwrap();
    fs::create_dir(folder.path().join("private-notes")).unwrap();
    fs::write(folder.path().join("records-of-mine"), "stay").unwrap();
    let index = open(&folder, 100);
    let after: Vec<_> = file_names(&folder).into_iter().filter(|name| name != "private-notes" && name != "records-of-mine").collect();
    assert_eq!(after, before);
    assert_eq!(file_names(&folder).len(), before.len() + 2);
    model.check(&index, 600);
}

#[test]
fn without_a_folder_it_lives_in_a_temporary_one() {
    let index = LookupIndex::open(None, REPOSITORY, spool()).unwrap().with_young_chunks_max(100);
    let model = model_of(0..5);
    model.sync(&index);
    model.check(&index, 1000);
    let path = index.folder.path().to_owned();
    assert!(path.exists());
    drop(index);
    assert!(!path.exists());
}

#[test]
fn look_ups_go_on_while_packs_are_added() {
    let index = LookupIndex::open(None, REPOSITORY, spool()).unwrap().with_young_chunks_max(700);
    let model = model_of(0..50);
    let added = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for reader in 0..3u64 {
            let (index, added) = (&index, &added);
            scope.spawn(move || {
                loop {
                    let packs = added.load(Ordering::Acquire) as u64;
                    for n in (reader..packs * 200).step_by(7) {
                        let domain = DomainId([(n / 200 % 3) as u8; 16]);
                        let place = index.lookup(&chunk_id(n), domain).unwrap().expect("it was added");
                        assert_eq!((place.frame.session, u64::from(place.position)), (session((n / 200) as u8), n % 10));
                    }
                    if packs == 50 {
                        break;
                    }
                }
            });
        }
        for (&(kind, pack), table) in &model.0 {
            index.add_pack(kind, pack, table, domain_of).unwrap();
            added.fetch_add(1, Ordering::Release);
        }
    });
    model.check(&index, 10_000);
}

#[test]
fn ids_that_are_not_uniform_are_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder, 1);
    // All in one corner, with equal first eight bytes, and the two ends of the range.
    let mut ids: Vec<_> =
        (0..3000u32).map(|n| ChunkId(std::array::from_fn(|at| if at < 28 { 0xab } else { n.to_be_bytes()[at - 28] }))).collect();
    ids.extend([ChunkId([0; 32]), ChunkId([0xff; 32])]);
    let mut record = frame(0, 0, []);
    record.chunks.clone_from(&ids);
    index.add_pack(DATA, pack_id(0), &ContentsTable { frames: vec![record] }, domain_of).unwrap();
    assert_eq!(index.size().chunks_young, 0);
    for (position, id) in (0..).zip(&ids) {
        assert_eq!(index.lookup(id, domain_of(session(0))).unwrap().unwrap().position, position);
    }
    for absent in [ChunkId([0xab; 32]), ChunkId([0xac; 32]), ChunkId([1; 32]), ChunkId([0xfe; 32])] {
        assert_eq!(index.lookup(&absent, domain_of(session(0))).unwrap(), None);
    }
}

/// Counts what is fetched.
#[derive(Debug)]
struct Counted {
    spool: Spool,
    fetched: AtomicUsize,
    /// What fetching says instead.
    refusal: Mutex<Option<ErrorKind>>,
}

impl ContentsSource for Counted {
    fn contents(&self, kind: ObjectKind, pack: PackId) -> Result<ContentsTable> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        match *self.refusal.lock() {
            Some(refusal) => Err(Error::new(refusal, "refused")),
            None => self.spool.contents(kind, pack),
        }
    }

    fn keep(&self, kind: ObjectKind, pack: PackId, table: &ContentsTable) -> Result<()> {
        self.spool.keep(kind, pack, table)
    }
}

fn counted() -> Arc<Counted> {
    Arc::new(Counted { spool: Spool::new().unwrap(), fetched: AtomicUsize::new(0), refusal: Mutex::default() })
}

#[test]
fn a_table_is_fetched_once_for_chunks_in_the_order_in_which_they_were_stored() {
    let source = counted();
    let index = LookupIndex::open(None, REPOSITORY, Arc::clone(&source) as _).unwrap();
    index.set_tables_bytes_max(30_000);
    model_of(0..50).sync(&index);
    let lookups = |range: std::ops::Range<u64>| {
        source.fetched.store(0, Ordering::Relaxed);
        let found = range.clone().filter(|&n| index.lookup(&chunk_id(n), DomainId([(n / 200 % 3) as u8; 16])).unwrap().is_some()).count();
        (found, source.fetched.load(Ordering::Relaxed))
    };
    assert_eq!(lookups(0..8_000), (8_000, 40));
    // What is not there costs no table.
    assert_eq!(lookups(1_000_000..1_010_000), (0, 0));
}

#[test]
fn a_pack_that_cannot_be_asked_counts_as_not_listed_and_is_named() {
    let model = model_of(0..3);
    let (id, domain) = (chunk_id(50), domain_of(session(0)));
    let index_and_source = |refusal| {
        let source = counted();
        let index = LookupIndex::open(None, REPOSITORY, Arc::clone(&source) as _).unwrap();
        index.set_tables_bytes_max(0);
        model.sync(&index);
        *source.refusal.lock() = refusal;
        (index, source)
    };
    for refusal in [ErrorKind::NotFound, ErrorKind::Damaged] {
        let (index, source) = index_and_source(Some(refusal));
        for _ in 0..3 {
            let places = index.places_of(&id).unwrap();
            let (ordinal, error) = &places.unread[0];
            assert_eq!((error.kind(), index.frame(*ordinal).unwrap().unwrap().pack), (refusal, pack_id(0)));
            assert!(places.found.is_empty());
            assert_eq!(index.lookup(&id, domain).unwrap(), None);
        }
        // That is remembered.
        assert_eq!(source.fetched.load(Ordering::Relaxed), 1);
    }
    let (index, source) = index_and_source(Some(ErrorKind::Unavailable));
    assert_eq!(index.lookup(&id, domain).unwrap_err().kind(), ErrorKind::Unavailable);
    *source.refusal.lock() = None;
    assert!(index.lookup(&id, domain).unwrap().is_some());
    // Another table under the same name is not believed.
    let (index, source) = index_and_source(None);
    source.keep(DATA, pack_id(0), &model.0[&(DATA, pack_id(1))]).unwrap();
    assert_eq!(index.places_of(&id).unwrap().unread[0].1.kind(), ErrorKind::Damaged);
}

#[test]
fn files_that_cannot_be_written_leave_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder, 300);
    let model = model_of(0..30);
    let mut refusals = 0;
    for (at, (&(kind, pack), table)) in model.0.iter().enumerate() {
        // In the way of one of the files that come next: of a flush, or of the merge after it.
        let next = index.writer.lock().number_next() + at as u64 % 9;
        let _ = fs::write(folder.path().join(format!("records-{next}")), "in the way");
        match index.add_pack(kind, pack, table, domain_of) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                refusals += 1;
            }
        }
        let known = Model(model.0.iter().take(at + 1).map(|(pack, table)| (*pack, table.clone())).collect());
        known.check(&index, 200 * (at as u64 + 2));
    }
    assert!(refusals > 5, "{refusals}");
    // A save that is refused does no harm, and one that is not keeps everything.
    while index.save().is_err() {}
    drop(index);
    model.check(&open(&folder, 300), 6_000);
}
