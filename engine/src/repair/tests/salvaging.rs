//! What is left of snapshots that lost files.

use super::*;
use crate::gc::tests::fixture::client_with;

fn salvage(fixture: &Fixture) -> RepairSummary {
    fixture.repository.repair(&super::salvaging(), &Silent).unwrap()
}

#[test]
fn a_salvaged_snapshot_has_everything_but_what_is_lost() {
    let fixture = Fixture::with_snapshots();
    // Of more chunks than stand in an entry, in frames of its own.
    std::fs::write(fixture.folder.path().join("large"), noise(500, 300 << 10)).unwrap();
    std::fs::hard_link(fixture.folder.path().join("large"), fixture.folder.path().join("zlink")).unwrap();
    let newest = fixture.backup().snapshot.unwrap();
    let of_newest = fixture.repository.read_snapshot_header(newest).unwrap().record.id();
    let pack = fixture.listed(ObjectKind::DataPack).into_iter().find(|name| {
        let tail = fixture.repository.read_pack_tail(name, fixture.backend.size(name).unwrap()).unwrap();
        tail.tables.sessions[0].id() == of_newest
    });
    fixture.flip(&pack.unwrap(), 100);
    fixture.flip(&fixture.data_pack(), 100);
    let hurt = fixture.hurt();
    assert_eq!(hurt.len(), 3);

    let summary = salvage(&fixture);
    assert_eq!(summary.salvaged.len(), 3);
    let shown = fixture.repository.snapshots().unwrap();
    assert_eq!(shown.len(), 6, "the old ones are left alone");
    for saved in &summary.salvaged {
        let of = |id| shown.iter().find(|snapshot| snapshot.id == id).unwrap();
        let (old, new) = (of(saved.from), of(saved.to.unwrap()));
        assert!(old.body.whole && !new.body.whole && new.body.series == old.body.series && new.header.time == old.header.time);
        // The link goes with the file that it is another name of.
        let links = u64::from(saved.from == newest);
        assert_eq!(saved.entries_lost, hurt[&saved.from].len() as u64 + links, "{hurt:?}");
        assert_eq!((saved.entries, saved.entries), (new.header.entries, old.header.entries - saved.entries_lost));
        assert_eq!(fixture.restore(new.id), 0);
    }
    assert_eq!(fixture.hurt(), hurt, "and nothing is wrong with the new ones");
    // Again: they are there already.
    let again = salvage(&fixture);
    let targets = |summary: &RepairSummary| summary.salvaged.iter().map(|saved| saved.to).collect::<Vec<_>>();
    assert_eq!((targets(&again), fixture.repository.snapshots().unwrap().len()), (targets(&summary), 6));
    fixture.repository.forget(&hurt.keys().copied().collect::<Vec<_>>(), &Silent).unwrap();
    fixture.gc().unwrap();
    assert!(fixture.repository.scrub(&Silent).unwrap().findings.is_empty());
}

#[test]
fn what_was_stored_again_is_whole_again() {
    let fixture = Fixture::with_snapshots();
    let (first, pack) = (fixture.repository.snapshots().unwrap()[0].id, fixture.data_pack());
    fixture.flip(&pack, 100);
    fixture.repair();
    fixture.backup();
    let summary = salvage(&fixture);
    let saved = summary.salvaged.iter().find(|saved| saved.from == first).unwrap();
    assert_eq!(saved.entries_lost, 0);
    let healed = fixture.repository.snapshots().unwrap().into_iter().find(|snapshot| Some(snapshot.id) == saved.to).unwrap();
    assert!(healed.body.whole);
    assert_eq!(fixture.restore(healed.id), 0);
    let hurt: Vec<_> = fixture.hurt().into_keys().collect();
    fixture.repository.forget(&hurt, &Silent).unwrap();
    fixture.gc().unwrap();
    assert!(!fixture.listed(ObjectKind::DataPack).contains(&pack));
    assert!(fixture.repository.scrub(&Silent).unwrap().findings.is_empty());
}

#[test]
fn lost_trees_and_refs_take_what_is_below_them() {
    let fixture = Fixture::with_snapshots();
    let whole = fixture.objects();
    let first = fixture.repository.snapshots().unwrap()[0].id;
    for kind in [ObjectKind::MetaPack, ObjectKind::RefsPack] {
        for pack in fixture.listed(kind) {
            fixture.flip(&pack, 70);
            let summary = salvage(&fixture);
            assert!(!summary.salvaged.is_empty() || summary.plan.report.hurt.iter().all(|hurt| hurt.paths_total == 0), "{pack}");
            for saved in summary.salvaged.iter().filter(|saved| saved.to.is_some()) {
                assert_eq!(fixture.restore(saved.to.unwrap()), 0);
                // Refs are made anew; all content is there.
                assert!(kind != ObjectKind::RefsPack || saved.from != first || saved.entries_lost == 0, "{saved:?}");
            }
            fixture.reset(&whole);
        }
    }
}

#[test]
fn it_needs_the_roles() {
    let fixture = Fixture::with_snapshots();
    fixture.flip(&fixture.data_pack(), 100);
    let before = fixture.objects();
    let maintainer = client_with(&fixture.repository, Roles::MAINTAIN, 72);
    assert_eq!(maintainer.repair(&super::salvaging(), &Silent).unwrap_err().kind(), ErrorKind::Unauthorized);
    let other = client_with(&fixture.repository, Roles::BACKUP.and(Roles::RESTORE), 71);
    assert_eq!(other.repair(&RepairOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(fixture.objects(), before);
    let plan = other.repair_plan(&RepairOptions::default(), &Silent).unwrap();
    assert_eq!(plan.packs[0].frames_lost, 1);
    // Maintain mends without seeing content.
    let summary = maintainer.repair(&RepairOptions::default(), &Silent).unwrap();
    assert_eq!((summary.epoch, summary.frames_copied), (Some(1), plan.packs[0].frames_good));
}
