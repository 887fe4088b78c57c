//! Decoded values in the JSON that `format-spec/vectors/README.md` describes.

use icecore::crypto::Secret;
use icecore::entry::{ChunkList, ChunkRef, Entry, EntryKind};
use icecore::format::config::{Config, CutMethod};
use icecore::format::hold::HoldAction;
use icecore::format::parity::SidecarForm;
use icecore::format::placement::{PlacedPack, PlacementBody, ThawClass};
use icecore::format::relocations::RelocatedFrame;
use icecore::format::session::SessionRecord;
use icecore::format::slot::{Slot, SlotKind};
use icecore::format::snapshot::{SnapshotBody, SnapshotHeader};
use icecore::format::{BaseRange, Certificate, ContentsTable, FrameUse, Tables, Usage};
use icecore::id::{SessionId, to_hex};
use icecore::runtime::Timestamp;
use icecore::testing::{CredentialParts, Decoded, NodeValue, Reading};
use serde_json::{Value, json};

pub(crate) fn reading(reading: &Reading) -> Value {
    let body = decoded(&reading.value);
    match &reading.object {
        Some((epoch, certificate, hash)) => {
            json!({"structure_epoch": epoch, "certificate": certificate_told(certificate), "hash": to_hex(hash), "body": body})
        }
        None => body,
    }
}

fn decoded(value: &Decoded) -> Value {
    match value {
        Decoded::Config(config) => config_told(config),
        Decoded::Slot(slot, credential) => json!({"slot": slot_told(slot), "credential": credential.as_ref().map(credential_told)}),
        Decoded::Pack(tables) => tables_told(tables),
        Decoded::Index(body) => {
            let pack = |(kind, id, contents): &(icecore::backend::ObjectKind, icecore::id::PackId, ContentsTable)| json!({"kind": kind.number(), "id": to_hex(&id.0), "frames": frames(contents, &body.sessions)});
            json!({"sessions": records(&body.sessions), "packs": body.packs.iter().map(pack).collect::<Vec<_>>()})
        }
        Decoded::Snapshot(id, header, body) => json!({"id": to_hex(&id.0), "header": header_told(header), "body": body_told(body)}),
        Decoded::SnapshotHeader(header) => header_told(header),
        Decoded::SnapshotBody(body) => body_told(body),
        Decoded::Session(body) => {
            json!({"epoch": body.epoch, "started": time(body.started), "record": record(&body.record), "label": body.label})
        }
        Decoded::Beat(body) => json!({"now": time(body.now)}),
        Decoded::Closed(body) => {
            let snapshots: Vec<_> = body.snapshots.iter().map(|id| to_hex(&id.0)).collect();
            json!({"outcome": if body.finished { 1 } else { 2 }, "now": time(body.now), "snapshots": snapshots})
        }
        Decoded::Tombstone(body) => json!({"epoch": body.epoch, "now": time(body.now)}),
        Decoded::Withdrawn(body) => json!({"session": to_hex(&body.session.0), "reason": body.reason as u8, "now": time(body.now)}),
        Decoded::Epoch(body) => {
            let packs: Vec<_> = body.condemned.iter().map(|(kind, id)| json!([kind.number(), to_hex(&id.0)])).collect();
            let predecessor = to_hex(&body.predecessor);
            let snapshots: Vec<_> = body.withdrawn.iter().map(|id| to_hex(&id.0)).collect();
            json!({
                "predecessor": predecessor, "session": to_hex(&body.session.0), "now": time(body.now), "packs": packs, "snapshots": snapshots
            })
        }
        Decoded::Relocations(body) => {
            let frame = |frame: &RelocatedFrame| {
                let moved: Vec<_> = frame.moved.iter().map(|chunk| json!([chunk.position, chunk.counter, chunk.new_position])).collect();
                let (session, number) = (to_hex(&frame.frame.session.0), frame.frame.number);
                json!({"session": session, "number": number, "chunks": frame.chunks, "moved": moved})
            };
            let frames: Vec<_> = body.frames.iter().map(frame).collect();
            json!({"session": to_hex(&body.session.0), "now": time(body.now), "frames": frames})
        }
        Decoded::Placement(PlacementBody::Tier(tier)) => {
            let class = |class: &ThawClass| json!([class.name, class.seconds, class.bytes_price, class.requests_price]);
            let prices = tier.prices;
            json!({
                "form": 1, "rank": tier.rank, "frozen": tier.is_frozen, "removable": tier.is_removable, "retired": tier.is_retired,
                "tier": to_hex(&tier.tier.0), "revision": tier.revision, "minimum_days": tier.minimum_days, "latency": tier.latency_s,
                "prices": [prices.storage, prices.retrieval, prices.writes, prices.reads], "name": tier.name, "label": tier.label,
                "address": tier.address, "storage_class": tier.storage_class, "classes": tier.classes.iter().map(class).collect::<Vec<_>>(),
            })
        }
        Decoded::Placement(PlacementBody::Packs(placed)) => {
            let pack = |pack: &PlacedPack| json!({"pack": to_hex(&pack.pack.0), "size": pack.size, "hash": to_hex(&pack.hash), "since": pack.since, "until": pack.until});
            json!({"form": 2, "tier": to_hex(&placed.tier.0), "packs": placed.packs.iter().map(pack).collect::<Vec<_>>()})
        }
        Decoded::Hold(body) => {
            let zeros = (Timestamp::default(), to_hex(&[0; 16]));
            let (action, (until, released)) = match body.action {
                HoldAction::Legal => (1, zeros),
                HoldAction::Lock { until } => (2, (until, zeros.1)),
                HoldAction::Release { hold } => (3, (zeros.0, to_hex(&hold.0))),
            };
            let snapshots =
                body.snapshots.iter().map(|held| json!([to_hex(&held.snapshot.0), to_hex(&held.session.0), to_hex(&held.series)]));
            json!({
                "action": action, "now": time(body.now), "until": time(until), "released": released, "note": body.note,
                "snapshots": snapshots.collect::<Vec<_>>(),
            })
        }
        Decoded::Sidecar(head) => {
            let (form, block_size, recovery) = match head.form {
                SidecarForm::Copy => (1, 0, 0),
                SidecarForm::Code { block_size, recovery } => (2, block_size, recovery),
            };
            json!({
                "object": head.object.to_string(),
                "size": head.size,
                "hash": to_hex(&head.hash),
                "form": form,
                "block_size": block_size,
                "recovery": recovery,
            })
        }
        Decoded::Certificate(certificate) => certificate_told(certificate),
        Decoded::Record(session, secret) => json!({"record": record(session), "secret": secret.as_ref().map(hex)}),
        Decoded::Credential(credential) => credential_told(credential),
        Decoded::Chunks(chunks) => json!({"chunks": chunks.iter().map(|chunk| to_hex(chunk)).collect::<Vec<_>>()}),
        Decoded::Length(length) => json!({"length": length}),
        Decoded::Node(node) => node_told(node),
    }
}

fn hex(secret: &Secret) -> String {
    to_hex(secret.bytes())
}

fn time(time: Timestamp) -> Value {
    json!([time.seconds, time.nanoseconds])
}

fn certificate_told(certificate: &Certificate) -> Value {
    let bytes = certificate.bytes();
    json!({
        "roles": certificate.roles().bits(),
        "generation": u32_at(bytes, 4),
        "repository": to_hex(&bytes[8..24]),
        "domain": to_hex(&certificate.domain().0),
        "credential": to_hex(&certificate.credential().0),
        "verifying_key": to_hex(certificate.verifying_key()),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

fn config_told(config: &Config) -> Value {
    let cutters = config.cutters.iter().map(|cutter| match cutter.method {
        CutMethod::Content { min, average, max } => json!({"id": cutter.id, "kind": 1, "min": min, "average": average, "max": max}),
        CutMethod::Fixed(size) => json!({"id": cutter.id, "kind": 2, "min": size, "average": size, "max": size}),
    });
    let restore_keys = config.restore_keys.iter().map(|key| json!({"epoch": key.epoch, "public_key": to_hex(&key.public_key[..])}));
    json!({
        "optional_flags": config.optional_flags,
        "write_flags": config.write_flags,
        "created": time(config.created),
        "predecessor": to_hex(&config.predecessor),
        "second_predecessor": to_hex(&config.second_predecessor),
        "admin": to_hex(&config.admin_key),
        "structure_epoch": config.structure_epoch,
        "restore_epoch": config.restore_epoch,
        "pack_size": config.pack_size,
        "data_frame_size": config.data_frame_size,
        "meta_frame_size": config.meta_frame_size,
        "cutters": cutters.collect::<Vec<_>>(),
        "restore_keys": restore_keys.collect::<Vec<_>>(),
        "revoked": config.revoked.iter().map(|(id, epoch)| json!([to_hex(&id.0), epoch])).collect::<Vec<_>>(),
    })
}

fn slot_told(slot: &Slot) -> Value {
    let (kind, salt, cost) = match slot.kind {
        SlotKind::Passphrase { salt, cost } => (1, salt, Some(cost)),
        SlotKind::KeyFile => (2, [0; 32], None),
        SlotKind::Recipient => (3, [0; 32], None),
        SlotKind::Command => (4, [0; 32], None),
    };
    let sealed = slot.sealed.as_ref().map_or(&[][..], |(_, sealed)| &sealed[..]);
    let encapsulated = slot.sealed.as_ref().map_or([0; 1120], |(encapsulated, _)| **encapsulated);
    json!({
        "kind": kind,
        "state": if slot.sealed.is_some() { 1 } else { 2 },
        "roles": slot.roles.bits(),
        "memory": cost.map_or(0, |cost| cost.memory_kib),
        "passes": cost.map_or(0, |cost| cost.passes),
        "lanes": cost.map_or(0, |cost| cost.lanes),
        "salt": to_hex(&salt),
        "credential": to_hex(&slot.credential.0),
        "pin": to_hex(&slot.pin),
        "public_key": to_hex(&slot.public_key[..]),
        "encapsulated": to_hex(&encapsulated),
        "sealed": to_hex(sealed),
    })
}

fn credential_told(credential: &CredentialParts) -> Value {
    let by_epoch = |keys: &[(u32, Secret)]| keys.iter().map(|(epoch, key)| json!([epoch, hex(key)])).collect::<Vec<_>>();
    json!({
        "admin": to_hex(&credential.admin_key),
        "structure_keys": by_epoch(&credential.structure_keys),
        "token_key": hex(&credential.token_key),
        "certificate": certificate_told(&credential.certificate),
        "signing_seed": hex(&credential.signing_seed),
        "chunk_id_key": credential.chunk_id_key.as_ref().map(hex),
        "cutting_key": credential.cutting_key.as_ref().map(hex),
        "restore_seeds": by_epoch(&credential.restore_keys),
        "admin_seed": credential.admin_seed.as_ref().map(hex),
    })
}

/// What the engine keeps of a record, and the rest from the bytes where the page has it.
fn record(record: &SessionRecord) -> Value {
    let bytes = record.bytes();
    let wraps = bytes[232..bytes.len() - 64]
        .chunks(1176)
        .map(|wrap| json!({"restore_epoch": u32_at(wrap, 0), "encapsulated": to_hex(&wrap[8..1128]), "sealed": to_hex(&wrap[1128..])}));
    json!({
        "session": to_hex(&record.id().0),
        "suite": bytes[4],
        "kind": record.kind() as u8,
        "structure_epoch": record.structure_epoch(),
        "nonce": to_hex(&bytes[16..48]),
        "commitment": to_hex(&bytes[48..80]),
        "certificate": certificate_told(record.certificate()),
        "wraps": wraps.collect::<Vec<_>>(),
    })
}

fn records(sessions: &[SessionRecord]) -> Vec<Value> {
    sessions.iter().map(record).collect()
}

fn tables_told(tables: &Tables) -> Value {
    json!({"sessions": records(&tables.sessions), "frames": frames(&tables.contents, &tables.sessions)})
}

fn frames(contents: &ContentsTable, sessions: &[SessionRecord]) -> Vec<Value> {
    let position = |session: SessionId| sessions.iter().position(|record| record.id() == session);
    let frame = |frame: &icecore::format::FrameRecord| {
        json!({
            "session": position(frame.id.session),
            "number": frame.id.number,
            "sealed_length": frame.sealed_length,
            "plaintext_length": frame.plaintext_length,
            "hash": to_hex(&frame.hash),
            "chunks": frame.chunks.iter().map(|id| to_hex(&id.0)).collect::<Vec<_>>(),
            "bases": frame.bases.iter().map(base).collect::<Vec<_>>(),
        })
    };
    contents.frames.iter().map(frame).collect()
}

fn base(base: &BaseRange) -> Value {
    let (session, number) = (to_hex(&base.frame.session.0), base.frame.number);
    json!({"session": session, "number": number, "chunk": base.chunk, "offset": base.offset, "length": base.length})
}

fn header_told(header: &SnapshotHeader) -> Value {
    json!({
        "series_token": to_hex(&header.series),
        "sequence": header.sequence,
        "previous": to_hex(&header.previous.map_or([0; 16], |id| id.0)),
        "time": time(header.time),
        "source_kind": header.source_kind as u8,
        "retention_class": header.retention_class,
        "epoch": header.epoch,
        "refs_root": to_hex(&header.refs_root.0),
        "entries": header.entries,
        "file_bytes": header.file_bytes,
        "frames": header.frames,
        "new_bytes": header.new_bytes,
        "tag_tokens": header.tags.iter().map(|tag| to_hex(tag)).collect::<Vec<_>>(),
        "record": record(&header.record),
    })
}

fn body_told(body: &SnapshotBody) -> Value {
    json!({
        "tree_root": to_hex(&body.tree_root.0),
        "key_kind": if body.keys_are_paths { 1 } else { 2 },
        "whole": u8::from(body.whole),
        "started": time(body.started),
        "ended": time(body.ended),
        "series": body.series,
        "host": body.host,
        "program": body.program,
        "paths": body.paths.iter().map(|path| to_hex(path)).collect::<Vec<_>>(),
        "tags": body.tags,
    })
}

fn node_told(node: &NodeValue) -> Value {
    let entries = |entries: &Option<Vec<Entry>>| entries.iter().flatten().map(entry).collect::<Vec<_>>();
    match node {
        NodeValue::Entries(found, None) => json!({"entries": entries(found)}),
        NodeValue::Entries(found, Some(file_bytes)) => json!({"entries": entries(found), "file_bytes": file_bytes}),
        NodeValue::TreeChildren(level, children) => {
            let child = children.iter().map(|(last_key, id, entries, file_bytes)| {
                json!({"last_key": to_hex(last_key), "id": to_hex(&id.0), "entries": entries, "file_bytes": file_bytes})
            });
            json!({"level": level, "children": child.collect::<Vec<_>>()})
        }
        NodeValue::Chunks(chunks) => json!({"chunks": chunk_list(chunks)}),
        NodeValue::RecipeChildren(level, children) => {
            let child = children.iter().map(|(id, chunks, bytes)| json!({"id": to_hex(&id.0), "chunks": chunks, "bytes": bytes}));
            json!({"level": level, "children": child.collect::<Vec<_>>()})
        }
        NodeValue::Frames(frames) => json!({"frames": frames.iter().map(frame_use).collect::<Vec<_>>()}),
        NodeValue::RefsChildren(level, children) => {
            let child = children.iter().map(|(last, id, frames)| {
                json!({"session": to_hex(&last.session.0), "number": last.number, "id": to_hex(&id.0), "frames": frames})
            });
            json!({"level": level, "children": child.collect::<Vec<_>>()})
        }
    }
}

fn frame_use(used: &FrameUse) -> Value {
    let bits = match &used.usage {
        Usage::Whole | Usage::Base => None,
        Usage::Part { chunks, bitmap } => {
            Some((0..usize::from(*chunks)).map(|chunk| bitmap[chunk / 8] >> (chunk % 8) & 1 == 1).collect::<Vec<_>>())
        }
    };
    json!({"session": to_hex(&used.frame.session.0), "number": used.frame.number, "used": bits, "is_base": used.usage == Usage::Base})
}

fn chunk_list(chunks: &[ChunkRef]) -> Vec<Value> {
    chunks.iter().map(|chunk| json!([to_hex(&chunk.id.0), chunk.length])).collect()
}

fn entry(entry: &Entry) -> Value {
    let kind = match &entry.kind {
        EntryKind::File(_) => 1,
        EntryKind::Folder => 2,
        EntryKind::Symlink(_) => 3,
        EntryKind::Fifo => 4,
        EntryKind::Socket => 5,
        EntryKind::BlockDevice(..) => 6,
        EntryKind::CharDevice(..) => 7,
        EntryKind::HardLink(_) => 8,
    };
    let mut told = json!({
        "key": to_hex(&entry.key), "kind": kind, "mode": null, "owner": null, "group": null, "owner_name": null, "group_name": null,
        "time": null, "flags": null, "attributes": null, "size": null, "holes": null, "cutter": null, "recipe": null, "chunks": null,
        "target": null, "device": null, "link": null,
    });
    let mut set = |name: &str, value: Value| told[name] = value;
    let metadata = &entry.metadata;
    if kind != 8 {
        let attributes = metadata.xattrs.iter().map(|(name, value)| json!([to_hex(name), to_hex(value)]));
        set("mode", metadata.mode.into());
        set("owner", metadata.uid.into());
        set("group", metadata.gid.into());
        set("owner_name", to_hex(&metadata.user).into());
        set("group_name", to_hex(&metadata.group).into());
        set("time", time(metadata.modified));
        set("flags", metadata.inode_flags.into());
        set("attributes", attributes.collect());
    }
    match &entry.kind {
        EntryKind::File(file) => {
            set("size", file.size.into());
            set("holes", file.holes.iter().map(|(offset, length)| json!([offset, length])).collect());
            set("cutter", file.cutter.into());
            match &file.chunks {
                ChunkList::Inline(chunks) => set("chunks", chunk_list(chunks).into()),
                ChunkList::Recipe(id) => set("recipe", to_hex(&id.0).into()),
            }
        }
        EntryKind::Symlink(target) => set("target", to_hex(target).into()),
        EntryKind::BlockDevice(major, minor) | EntryKind::CharDevice(major, minor) => set("device", json!([major, minor])),
        EntryKind::HardLink(link) => set("link", to_hex(link).into()),
        EntryKind::Folder | EntryKind::Fifo | EntryKind::Socket => {}
    }
    told
}
