//! Who uses what is stored: every byte once.

use super::*;
use crate::check::{Shares, TierShare};

fn total(fixture: &Fixture) -> u64 {
    let kinds = ObjectKind::ALL.into_iter().flat_map(|kind| fixture.backend.list_sorted(kind).unwrap());
    kinds.map(|object| object.size).sum()
}

fn stream(fixture: &Fixture, series: &str, content: Vec<u8>) -> SnapshotId {
    let stream = Box::new(std::io::Cursor::new(content));
    fixture.repository.backup_stream("name", stream, &BackupOptions::new(series), &Silent).unwrap().snapshot.unwrap()
}

/// The one tier, whose bytes are all that are there.
#[track_caller]
fn tier(fixture: &Fixture, shares: &Shares) -> TierShare {
    let [(0, tier)] = shares.tiers.iter().collect::<Vec<_>>()[..] else { panic!("{shares:?}") };
    assert_eq!(tier.total(), total(fixture));
    tier.clone()
}

#[test]
fn every_byte_falls_to_one_series_or_to_nobody() {
    let fixture = Fixture::with_all_kinds();
    let shares = fixture.repository.shares(&|_| 0, &Silent).unwrap();
    assert!(shares.series.iter().any(|series| series.name.as_deref() == Some("tests")));
    assert!(shares.series.iter().all(|series| series.newest_bytes() > 0 && series.newest[&0].packs > 0));
    let tier = tier(&fixture, &shares);
    assert!(tier.series[0] > 0 && tier.others > 0 && tier.rest > 0);
}

#[test]
fn what_series_share_is_split_evenly_and_what_nobody_needs_falls_to_nobody() {
    let fixture = Fixture::empty();
    let (common, own) = (noise(1, 300_000), noise(2, 200_000));
    stream(&fixture, "a", common.clone());
    let alone = tier(&fixture, &fixture.repository.shares(&|_| 0, &Silent).unwrap()).series[0];
    stream(&fixture, "b", common.clone());
    stream(&fixture, "c", common);
    let snapshot = stream(&fixture, "own", own);
    let shares = fixture.repository.shares(&|_| 0, &Silent).unwrap();
    let of = |name: &str| {
        let at = shares.series.iter().position(|series| series.name.as_deref() == Some(name)).unwrap();
        tier(&fixture, &shares).series[at]
    };
    // Content is shared; each has a tree and refs of its own, which are small.
    for name in ["a", "b", "c"] {
        assert!(of(name).abs_diff(alone / 3) < 3_000, "{name}: {} of {alone}", of(name));
    }
    assert!(of("own") >= 200_000);
    let rest = tier(&fixture, &shares).rest + of("own");
    fixture.repository.forget(&[snapshot], &Silent).unwrap();
    let after = fixture.repository.shares(&|_| 0, &Silent).unwrap();
    assert_eq!(after.series.len(), 3);
    assert_eq!(tier(&fixture, &after).rest, rest);
}

#[test]
fn tiers_are_told_apart() {
    let fixture = Fixture::with_snapshots();
    let in_two = fixture.repository.shares(&|name| usize::from(name.kind() == ObjectKind::DataPack), &Silent).unwrap();
    let data: u64 = fixture.backend.list_sorted(ObjectKind::DataPack).unwrap().iter().map(|object| object.size).sum();
    assert_eq!((in_two.tiers[&1].total(), in_two.tiers[&0].total()), (data, total(&fixture) - data));
    assert_eq!(in_two.tiers[&1].others, 0);
}
