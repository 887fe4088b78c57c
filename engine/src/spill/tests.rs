use super::*;
use std::collections::BTreeMap;

fn random(seed: u64, step: u64) -> u64 {
    let hash = blake3::hash(&[seed.to_le_bytes(), step.to_le_bytes()].concat());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[test]
fn records_come_in_order_whatever_is_kept_in_memory() {
    for (seed, bytes_max) in [(1, 0), (2, 100), (3, 1000), (4, 1 << 20)] {
        let mut records = SortedRecords::<12>::new(SpillFolder::default(), bytes_max);
        let mut expected = BTreeSet::new();
        for step in 0..700 {
            let mut record = [0; 12];
            // Some of them twice.
            record[..8].copy_from_slice(&((random(seed, step) % 500) << 40).to_be_bytes());
            records.push(record).unwrap();
            expected.insert(record);
        }
        assert!(records.iter().unwrap().map(Result::unwrap).eq(expected.iter().copied()), "with {bytes_max} bytes");
        assert!(records.runs.len() <= 11, "{} runs", records.runs.len());
        assert_eq!(records.runs.is_empty(), bytes_max == 1 << 20, "files only where they are needed");
        for number in 0..500_u64 {
            let key = (number << 40).to_be_bytes();
            let known = expected.iter().find(|record| record.starts_with(&key)).copied();
            assert_eq!(records.find(&key).unwrap(), known);
        }
    }
}

#[test]
fn byte_strings_come_back_by_number() {
    let mut list = SpilledList::new(SpillFolder::default());
    let string = |number: u64| vec![number as u8; (random(7, number) % 3000) as usize];
    for number in 0..300 {
        assert_eq!(list.push(&string(number)).unwrap(), number);
        let before = random(8, number) % (number + 1);
        assert_eq!(list.get(before).unwrap(), string(before));
    }
    assert!(list.bytes.file.is_some() && list.offsets.file.is_none());
    assert!((0..300).all(|number| list.get(number).unwrap() == string(number)));
}

#[test]
fn a_map_keeps_the_first_value_of_a_key() {
    let mut map = SpilledMap::new(SpillFolder::default(), 300);
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for step in 0..1000 {
        let (key, value) = ((random(9, step) % 300).to_string(), step.to_string());
        let is_new = !expected.contains_key(&key);
        assert_eq!(map.insert(key.as_bytes(), value.as_bytes()).unwrap(), is_new);
        expected.entry(key).or_insert(value);
    }
    assert!(!map.places.runs.is_empty());
    for number in 0..400 {
        let key = number.to_string();
        assert_eq!(map.get(key.as_bytes()).unwrap(), expected.get(&key).map(|value| value.clone().into_bytes()));
    }
}

#[test]
fn a_folder_without_room_is_named() {
    let folder = SpillFolder(Some(PathBuf::from("/proc/self")));
    let mut records = SortedRecords::<8>::new(folder, 0);
    let error = records.push([1; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("/proc/self"), "{error}");
}
