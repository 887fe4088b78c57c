//! What only a store can keep: clients that reach it through a door that lets them add, or through one that lets nobody delete.

use super::fixture::{Fixture, NOW, client_with};
use super::*;
use crate::backend::ObjectName;
use crate::backend::testing::{HookedBackend, Operation};
use crate::backup::BackupOptions;
use crate::format::Roles;
use crate::repository::Settings;
use crate::runtime::Runtime;
use std::sync::Arc;

/// The client behind a door that refuses to delete.
fn behind_the_door(client: Repository) -> Repository {
    let adding = HookedBackend::new(Arc::clone(&client.backend), |call| match call.operation {
        Operation::Delete => Err(Error::new(ErrorKind::Unavailable, "this store lets nobody delete")),
        _ => Ok(()),
    });
    let (credential, config, id) = ((*client.credential).clone(), client.config.clone(), client.id);
    Repository::assemble(Arc::new(adding), Runtime::seeded(77, NOW, 1), credential, config, id, 1, Settings::default())
}

#[test]
fn a_client_that_may_only_add_backs_up_and_takes_nothing_away() {
    let mut fixture = Fixture::with_states(0..3);
    let before = fixture.objects();
    let client = behind_the_door(client_with(&fixture.repository, Roles::BACKUP, 70));
    for name in before.keys() {
        assert_eq!(client.backend.delete(name).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(client.backend.put(name, b"something else").unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    let source = Box::new(&b"of the client"[..]);
    client.backup_stream("state", source, &BackupOptions::new("daily"), &Silent).unwrap();
    let after = fixture.objects();
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    fixture.assert_whole();
    // What it has added it can leave behind and no more: the owner, who may delete, collects all the same.
    fixture.forget(0);
    assert!(gc_all(&fixture.repository).deleted.packs > 0);
    fixture.assert_whole();
}

/// Without such a door whoever has the store's own password deletes with any credential or none; it is noticed (`sightings.rs`), and no more.
#[test]
fn without_the_door_a_client_deletes_and_check_names_what_is_lost() {
    let fixture = Fixture::with_states(0..2);
    let client = client_with(&fixture.repository, Roles::BACKUP, 70);
    let pack = fixture.packs().into_iter().find(|name| name.kind() == ObjectKind::DataPack).unwrap();
    client.backend.delete(&pack).unwrap();
    assert!(!fixture.repository.check(&Silent).unwrap().hurt.is_empty());
}

#[test]
fn what_a_stolen_maintain_credential_forgets_a_locking_store_still_has() {
    let fixture = Fixture::with_states(0..3);
    let before = fixture.objects();
    let thief = behind_the_door(client_with(&fixture.repository, Roles::MAINTAIN, 71));
    let all: Vec<_> = fixture.kept.iter().map(|kept| kept.id).collect();
    thief.forget(&all, &Silent).unwrap();
    // It condemns everything, and gets rid of nothing.
    assert_eq!(thief.gc(&super::all(), &Silent).unwrap_err().kind(), ErrorKind::Unavailable);
    let after = fixture.objects();
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    assert!(fixture.repository.snapshots().unwrap().is_empty());
    // Whoever holds the store takes away what came since, and all of it is there again.
    let added: Vec<ObjectName> = after.into_keys().filter(|name| !before.contains_key(name)).collect();
    added.iter().for_each(|name| fixture.backend.delete(name).unwrap());
    fixture.assert_whole();
}
