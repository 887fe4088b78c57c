//! What others did is durable before a collection goes on from it: their writers may have died, or heard of a failure, before it was (`OthersDurable`).

use super::fixture::{Fixture, NOW, backup_state};
use super::{gc, gc_all};
use crate::backend::testing::{HookedBackend, Operation, Order};
use crate::backend::{Backend, ObjectKind, ObjectName};
use crate::format::session::{SessionKind, TombstoneBody};
use crate::repository::{Repository, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

impl Fixture {
    /// A collector whose changes are noted.
    fn watched(&self, seed: u64) -> (Repository, Arc<Order>) {
        let (backend, order) = Order::of(Arc::new(self.backend.clone()));
        (self.handle_through(backend, seed), order)
    }
}

#[test]
fn suspects_and_packs_before_they_count() {
    let fixture = Fixture::with_states(0..2);
    let suspect = fixture.kept[1].id;
    let closed = ObjectName::closed(fixture.repository.read_snapshot_header(suspect).unwrap().record.id());
    fixture.backend.delete(&closed).unwrap();
    let (collector, order) = fixture.watched(30);
    assert_eq!(gc(&collector).snapshots_settled, [suspect]);
    let counts = order.at(Operation::Finish, closed);
    assert!(order.at(Operation::MakeDurable, ObjectName::snapshot(suspect)) < counts);
    assert!(fixture.packs().into_iter().all(|pack| order.at(Operation::MakeDurable, pack) < counts));
}

#[test]
fn withdrawals_before_anything_goes() {
    let mut fixture = Fixture::with_states(0..3);
    let forgotten = fixture.kept[0].id;
    fixture.forget(0);
    let (collector, order) = fixture.watched(30);
    assert!(gc_all(&collector).deleted.packs > 0);
    let durable = order.at(Operation::MakeDurable, ObjectName::withdrawn(forgotten));
    assert!(durable < order.at(Operation::Finish, ObjectName::epoch(1)));
    assert!(durable < order.first(Operation::Delete, |name| name.kind().is_pack()).unwrap());
    assert!(durable < order.at(Operation::Delete, ObjectName::snapshot(forgotten)));
}

/// What nothing but a withdrawn snapshot needs goes in the first run, whether an epoch names the withdrawal or not.
#[test]
fn withdrawals_that_an_epoch_names_already_too() {
    let mut fixture = Fixture::with_states(0..3);
    let forgotten = fixture.kept[0].id;
    fixture.forget(0);
    // Somebody who was not there when the run before was stopped.
    let other = fixture.other_handle(31);
    let session = Session::begin(&other, SessionKind::Writer).unwrap();
    gc_all(&fixture.repository);
    session.close(true, Vec::new()).unwrap();
    let (collector, order) = fixture.watched(32);
    assert!(gc_all(&collector).deleted.packs > 0);
    let durable = order.at(Operation::MakeDurable, ObjectName::withdrawn(forgotten));
    assert!(durable < order.first(Operation::Delete, |name| name.kind().is_pack()).unwrap());
}

#[test]
fn tombstones_and_the_epoch_before_the_sweep() {
    let mut fixture = Fixture::with_states(0..3);
    let other = fixture.other_handle(31);
    let session = Session::begin(&other, SessionKind::Writer).unwrap();
    fixture.forget(0);
    // Publishes the epoch and waits.
    assert_eq!(gc_all(&fixture.repository).waits_for.len(), 1);
    let tombstone = ObjectName::tombstone(session.id());
    fixture.repository.write_sealed(tombstone, TombstoneBody { epoch: 1, now: NOW }.encode()).unwrap();
    let (collector, order) = fixture.watched(30);
    assert!(gc_all(&collector).deleted.packs > 0);
    let swept = order.first(Operation::Delete, |name| name.kind().is_pack()).unwrap();
    assert!(order.at(Operation::MakeDurable, tombstone) < swept);
    assert!(order.at(Operation::MakeDurable, ObjectName::epoch(1)) < swept);
}

#[test]
fn that_a_snapshot_is_gone_before_its_marker_goes() {
    let mut fixture = Fixture::with_states(0..3);
    let forgotten = fixture.kept[0].id;
    let session = fixture.repository.read_snapshot_header(forgotten).unwrap().record.id();
    fixture.forget(0);
    gc_all(&fixture.repository);
    let (collector, order) = fixture.watched(30);
    gc_all(&collector);
    let marker_goes = order.at(Operation::Delete, ObjectName::withdrawn(forgotten));
    for gone in [ObjectName::snapshot(forgotten), ObjectName::closed(session)] {
        assert!(order.at(Operation::MakeDurable, gone) < marker_goes, "{gone}");
    }
}

#[test]
fn packs_that_were_stored_while_snapshots_were_listed() {
    let fixture = Fixture::with_states(0..2);
    let (backend, order) = Order::of(Arc::new(fixture.backend.clone()));
    let other = fixture.other_handle(31);
    let before = fixture.packs();
    let is_done = AtomicBool::new(false);
    // The first list of snapshots is that of markers.
    let lists = AtomicBool::new(false);
    let hooked = HookedBackend::new(backend, move |call| {
        let lists_snapshots = call.operation == Operation::List && call.kind == ObjectKind::Snapshot && !call.is_done;
        if lists_snapshots && lists.swap(true, Ordering::SeqCst) && !is_done.swap(true, Ordering::SeqCst) {
            backup_state(&other, "other", 7)?;
        }
        Ok(())
    });
    gc(&fixture.handle_through(Arc::new(hooked), 30));
    let mut late = fixture.packs();
    late.retain(|pack| !before.contains(pack));
    assert!(!late.is_empty());
    for pack in late {
        order.at(Operation::MakeDurable, pack);
    }
}

/// Without them what was made anew is dead weight, and another copy of it is not.
#[test]
fn relocations_before_anything_is_condemned() {
    let mut fixture = Fixture::scattered();
    fixture.backup_stream(b"something else", 3000);
    assert!(gc(&fixture.repository).frames_remade > 0);
    let [relocations] = fixture.relocations()[..] else { panic!("one") };
    fixture.forget(2);
    let (collector, order) = fixture.watched(30);
    let summary = gc_all(&collector);
    assert!(summary.epoch.is_some() && summary.condemned.packs > 0, "{summary:?}");
    let durable = order.at(Operation::MakeDurable, relocations);
    assert!(durable < order.first(Operation::Finish, |name| name.kind() == ObjectKind::Epoch).unwrap());
    assert!(durable < order.first(Operation::Delete, |name| name.kind().is_pack()).unwrap());
}
