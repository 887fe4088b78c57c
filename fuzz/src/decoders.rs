//! Every decoder: no input may panic it, and what it accepts must be the only encoding of its value.

use icecore::backend::{ObjectKind, ObjectName};
use icecore::crypto::Secret;
use icecore::entry::KeyKind;
use icecore::format::Roles;
use icecore::format::parity::sidecar_of;
use icecore::id::{ChunkId, CredentialId, FrameClass, RepositoryId, SnapshotId};
use icecore::repository::Key;
use icecore::testing::{Decoded, Keys, NodeValue, Piece};
use std::sync::LazyLock;

/// The keys of the vectors, which are the seeds.
pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let header = include_bytes!("../../format-spec/vectors/valid/beat.bin");
    let repository = RepositoryId(*header[32..].first_chunk().expect("a header has 64 bytes"));
    Keys::new(repository, include_bytes!("../../format-spec/vectors/valid/credential-all.bin")).expect("the credential is right")
});

/// The object that all beats among the vectors are.
pub(crate) const BEAT: &str = "beats/b45c0b77847ce098d43f5161bf4a335b/0000000005";
/// The pack whose body the target `pack` changes.
pub(crate) const PACK: &str = "packs/31/31b354e3d2425b2276fedbd9146a7396";

/// The pack that sidecars in the target `sidecar` are of.
pub(crate) const PROTECTED: &str = "packs/53/531f4e8c2fdeb37c523c131830542d08";

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("the name is right")
}

/// Decodes and looks whether the bytes are the only ones for that value.
fn check(piece: &Piece, data: &[u8]) {
    if let Ok(reading) = KEYS.decode(piece, data) {
        assert_ne!(reading.is_canonical, Some(false), "written again it has other bytes: {:?}", reading.value);
    }
}

/// Seals `plaintext` as the object with this name, and decodes that.
fn check_sealed(name: ObjectName, plaintext: &[u8]) {
    let bytes = KEYS.seal(name, plaintext.to_vec()).expect("all keys are there");
    check(&Piece::Object { name, before: None, seed: None }, &bytes);
}

pub(crate) fn object(data: &[u8]) {
    let piece = Piece::Object { name: name(BEAT), before: None, seed: None };
    check(&piece, data);
    check(&piece, &KEYS.sign(ObjectKind::Beat, data));
}

pub(crate) fn certificate(data: &[u8]) {
    check(&Piece::Certificate, data);
    if let Some(bytes) = data.first_chunk() {
        check(&Piece::Certificate, &KEYS.sign_certificate(*bytes).expect("admin's key is there"));
    }
}

pub(crate) fn config(data: &[u8]) {
    check_sealed(ObjectName::config(1), data);
    check_sealed(ObjectName::config(2), data);
}

pub(crate) fn slot(data: &[u8]) {
    check_sealed(name("keys/b45c0b77847ce098d43f5161bf4a335b/0000000001"), data);
}

pub(crate) fn credential(data: &[u8]) {
    let roles = Roles::ALL.and(Roles::ADMIN);
    let credential = KEYS.own_certificate()[40..].first_chunk().copied().map(CredentialId).expect("a certificate has 152 bytes");
    check(&Piece::Credential { roles, credential }, data);
}

pub(crate) fn session_record(data: &[u8]) {
    check(&Piece::SessionRecord, data);
    check(&Piece::SessionRecord, &KEYS.sign_record(data.to_vec()));
}

/// The first byte says which one.
pub(crate) fn companions(data: &[u8]) {
    let Some((kind, plaintext)) = data.split_first() else { return };
    let id = name(BEAT).id();
    let name = match kind % 6 {
        0 => ObjectName::session(icecore::id::SessionId(id)),
        1 => name(BEAT),
        2 => ObjectName::closed(icecore::id::SessionId(id)),
        3 => ObjectName::tombstone(icecore::id::SessionId(id)),
        4 => ObjectName::withdrawn(SnapshotId(id)),
        _ => ObjectName::hold(icecore::id::HoldId(id)),
    };
    check_sealed(name, plaintext);
}

pub(crate) fn epoch(data: &[u8]) {
    check_sealed(ObjectName::epoch(1), data);
    check_sealed(ObjectName::epoch(2), data);
}

pub(crate) fn relocations(data: &[u8]) {
    check_sealed(name("relocations/b45c0b77847ce098d43f5161bf4a335b"), data);
}

pub(crate) fn placement(data: &[u8]) {
    check_sealed(name("placement/b45c0b77847ce098d43f5161bf4a335b"), data);
}

/// The body of a sidecar of a pack of which bytes are lost: how many the first byte says, from where the next two.
pub(crate) fn sidecar(data: &[u8]) {
    let Some(([lost, high, low], body)) = data.split_first_chunk::<3>() else { return };
    let (name, whole) = (name(PROTECTED), include_bytes!("../../format-spec/vectors/valid/parity-pack.bin"));
    let header = &include_bytes!("../../format-spec/vectors/valid/parity-code.bin")[..64];
    let piece = Piece::Object { name: sidecar_of(&name), before: None, seed: None };
    check(&piece, &KEYS.sign(ObjectKind::Parity, &[header, body].concat()));
    let mut damaged = whole.to_vec();
    let at = usize::from(*high) << 8 | usize::from(*low);
    damaged.iter_mut().skip(at).take(1 + 40 * usize::from(*lost)).for_each(|byte| *byte ^= 0x55);
    if let Ok(healed) = KEYS.heal(&name, &damaged, body) {
        assert!(healed == whole, "healed to something else");
    }
}

/// All of a pack but its trailer.
pub(crate) fn pack(data: &[u8]) {
    let piece = Piece::Object { name: name(PACK), before: None, seed: None };
    check(&piece, data);
    check(&piece, &KEYS.sign(ObjectKind::DataPack, data));
}

/// The first byte gives the kind of pack, the next four the length of its frames region.
pub(crate) fn tables(data: &[u8]) {
    let Some((head, plaintext)) = data.split_first_chunk::<5>() else { return };
    let kind = [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack][usize::from(head[0] % 3)];
    let frames_length = u64::from(u32::from_le_bytes([head[1], head[2], head[3], head[4]]));
    check(&Piece::Tables { kind, frames_length, certificate: KEYS.own_certificate() }, plaintext);
}

pub(crate) fn index_part(data: &[u8]) {
    check(&Piece::Index(KEYS.own_certificate()), data);
}

pub(crate) fn snapshot_header(data: &[u8]) {
    check(&Piece::SnapshotHeader(KEYS.own_certificate()), data);
}

/// With the tokens of the seeds.
pub(crate) fn snapshot_body(data: &[u8]) {
    let ([series, _], mut tags) = (KEYS.tokens("host /home"), ["daily", "t\u{e4}g"].map(|tag| KEYS.tokens(tag)[1]).to_vec());
    tags.sort_unstable();
    check(&Piece::SnapshotBody { series, tags }, data);
}

/// A frame's payload after a byte with the number of chunks and four with the length of the plaintext; sealed here.
pub(crate) fn frame(data: &[u8]) {
    let Some((head, payload)) = data.split_first_chunk::<5>() else { return };
    let key = Secret::new([1; 32]);
    let (sealed, hash) = KEYS.seal_frame(&key, 7, payload.to_vec());
    // Memory is taken only after the length was held against its limit, which contents tables do.
    let plaintext_length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]).min(icecore::limits::FRAME_PLAINTEXT_MAX as u32);
    let chunks = vec![ChunkId([0; 32]); usize::from(head[0])];
    check(&Piece::Frame { key, number: 7, plaintext_length, hash, bases: None, chunks }, &sealed);
}

/// With the ids that the chunks have.
pub(crate) fn frame_plaintext(data: &[u8]) {
    let Ok(chunks) = KEYS.split(data) else { return };
    for (class, kind) in [(FrameClass::Data, 1), (FrameClass::Meta, 3), (FrameClass::Refs, 4)] {
        let ids = chunks.iter().map(|chunk| KEYS.chunk_id(kind, chunk).expect("all keys are there")).collect();
        let reading = KEYS.decode(&Piece::FramePlaintext { class, chunks: ids }, data);
        assert_ne!(reading.expect("the ids are right").is_canonical, Some(false));
    }
}

pub(crate) fn tree_node(data: &[u8]) {
    for key_kind in [KeyKind::Paths, KeyKind::Objects] {
        check(&Piece::TreeNode { key_kind, level: None }, data);
    }
}

pub(crate) fn recipe_node(data: &[u8]) {
    check(&Piece::RecipeNode(None), data);
}

pub(crate) fn refs_node(data: &[u8]) {
    check(&Piece::RefsNode(None), data);
}

/// Several nodes in the form of a frame's plaintext; the last one is the root. Where a node names another one, 32 times the byte stands
/// that is [`MARKER`] and the other's number; its id is put there, so that changed nodes still find one another.
pub(crate) fn walks(data: &[u8]) {
    let Ok(nodes) = KEYS.split(data) else { return };
    for kind in [2_u8, 3, 4] {
        let nodes = link(nodes.clone(), kind);
        let Some(root) = nodes.last().map(|node| KEYS.chunk_id(kind, node).expect("all keys are there")) else { return };
        let piece = match kind {
            2 => Piece::TreeWalk { key_kind: KeyKind::Paths, root },
            3 => Piece::RecipeWalk { root, data_bytes: recipe_bytes(nodes.last()) },
            _ => Piece::RefsWalk(root),
        };
        let mut plaintext = varint(nodes.len());
        nodes.iter().for_each(|node| plaintext.extend(varint(node.len())));
        nodes.iter().for_each(|node| plaintext.extend_from_slice(node));
        check(&piece, &plaintext);
    }
}

/// What the root of a recipe says of the whole, so that the walk goes on below it.
fn recipe_bytes(root: Option<&Vec<u8>>) -> u64 {
    let reading = root.and_then(|root| KEYS.decode(&Piece::RecipeNode(None), root).ok());
    match reading.map(|reading| reading.value) {
        Some(Decoded::Node(NodeValue::Chunks(chunks))) => chunks.iter().map(|chunk| u64::from(chunk.length)).sum(),
        Some(Decoded::Node(NodeValue::RecipeChildren(_, children))) => children.iter().fold(0, |sum, child| child.2.wrapping_add(sum)),
        _ => 0,
    }
}

/// Stands for the first node among those of a walk. Rare in nodes, other than zero.
pub(crate) const MARKER: u8 = 0xa0;

/// Puts the ids of nodes where their markers stand in nodes after them.
fn link(mut nodes: Vec<Vec<u8>>, kind: u8) -> Vec<Vec<u8>> {
    let mut ids: Vec<ChunkId> = Vec::new();
    for node in &mut nodes {
        let mut at = 0;
        while let Some(window) = node.get_mut(at..at + ChunkId::LENGTH) {
            let first = window[0];
            match first
                .checked_sub(MARKER)
                .and_then(|number| ids.get(usize::from(number)))
                .filter(|_| window.iter().all(|byte| *byte == first))
            {
                Some(id) => {
                    window.copy_from_slice(&id.0);
                    at += ChunkId::LENGTH;
                }
                None => at += 1,
            }
        }
        ids.push(KEYS.chunk_id(kind, node).expect("all keys are there"));
    }
    nodes
}

pub(crate) fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

pub(crate) fn key_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = Key::from_key_file(text) {
        assert_eq!(key.to_key_file().expect("it is a key file").trim(), text.trim());
    }
    let _ = Key::passphrase_from_file(data);
}

pub(crate) fn object_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = ObjectName::parse(text) {
        assert_eq!(name.to_string(), text);
    }
}
