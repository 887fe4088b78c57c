"""The keys of all vectors (`context.json`) and the known answers (`known.json`)."""
from __future__ import annotations

from typing import Any, Dict, List

from blake3 import blake3

import names
import parity
import writer as w
from conventions import derive, hash32, hpke_open, keyed, u8, u32, xwing_public
from names import Name
from writer import Session

SESSIONS = [Session("one"), Session("two epochs", w.ALL, 1, 2, (1, 2)), Session("backup only", w.BACKUP),
            Session("collector", w.MAINTAIN, 3), Session("reader", w.RESTORE, 2), Session("other domain", w.OTHER)]
CUT_INPUT = "icecore vectors: input of the cutters"


def context() -> Dict[str, Any]:
    return {
        "repository": w.REPOSITORY.hex(),
        "admin": {"seed": w.ADMIN_SEED.hex(), "verifying_key": w.ADMIN.hex()},
        "structure_keys": [[epoch, key.hex()] for epoch, key in w.STRUCTURE_KEYS.items()],
        "token_key": w.TOKEN_KEY.hex(), "chunk_id_key": w.CHUNK_ID_KEY.hex(), "cutting_key": w.CUTTING_KEY.hex(),
        "restore_keys": [{"epoch": e, "seed": s.hex(), "public_key": w.RESTORE_KEYS[e].hex()} for e, s in w.RESTORE_SEEDS.items()],
        "passphrase": w.PASSPHRASE.decode(), "key_file": w.key_file(w.KEY_FILE_SEED).decode(), "key_file_seed": w.KEY_FILE_SEED.hex(),
        "credentials": [{"name": s.name, "roles": s.roles, "domain": s.domain.hex(), "credential": s.credential.hex(),
                         "signing_seed": s.seed.hex(), "verifying_key": s.key.hex(), "certificate": s.certificate.hex()}
                        for s in w.SIGNERS.values()],
        "sessions": [_session(s) for s in SESSIONS],
    }


def _session(session: Session) -> Dict[str, Any]:
    keys = [None if session.kind == 2 else session.frame_key(number).hex() for number in (0, 1)] + [session.frame_key(2).hex()]
    return {"name": session.name, "credential": session.signer.name, "kind": session.kind, "structure_epoch": session.structure_epoch,
            "restore_epochs": [] if session.kind == 2 else list(session.restore_epochs), "nonce": session.nonce.hex(),
            "secret": None if session.kind == 2 else session.secret.hex(), "id": session.id.hex(), "commitment": session.commitment.hex(),
            "frame_keys": keys, "record": session.record().hex()}


def answers() -> Dict[str, Any]:
    return {"hashes": _hashes(), "varints": _varints(), "zigzags": _zigzags(), "times": _times(), "names": _names(), "seals": _seals(), "signatures": _signatures(),
            "chunk_ids": _chunk_ids(), "sessions": _sessions(), "object_parts": _object_parts(), "tokens": _tokens(), "boundaries": _boundaries(),
            "key_files": _key_files(), "passphrases": _passphrases(), "xwing": _xwing(), "hpke": _hpke(), "gear": _gear(), "cuts": _cuts(),
            "sidecars": _sidecars(), "codewords": _codewords()}


def _hashes() -> List[Dict[str, Any]]:
    data, key = b"icecore", bytes(range(32))
    rows = [{"use": "hash", "context": None, "key": None, "input": data.hex(), "output": hash32(data).hex()},
            {"use": "keyed", "context": None, "key": key.hex(), "input": data.hex(), "output": keyed(key, data).hex()}]
    one = SESSIONS[0]
    snapshot = w.fixed("known snapshot", 16)
    uses = [("icecore 1 chunk id", w.CHUNK_ID_KEY + u8(kind)) for kind in (1, 2, 3)]
    uses += [("icecore 1 refs id", w.TOKEN_KEY), ("icecore 1 series token", w.TOKEN_KEY), ("icecore 1 tag token", w.TOKEN_KEY),
             ("icecore 1 refs boundary", w.TOKEN_KEY), ("icecore 1 tree boundary", w.CHUNK_ID_KEY), ("icecore 1 gear table", w.CUTTING_KEY),
             ("icecore 1 key file", w.KEY_FILE_SEED), ("icecore 1 slot pin", w.KEY_FILE_SEED), ("icecore 1 recipient seed", w.KEY_FILE_SEED),
             ("icecore 1 session id", one.signer.key + one.nonce),
             ("icecore 1 session commitment", one.secret + one.id), ("icecore 1 frame", one.secret + one.id + u8(1) + u8(0)),
             ("icecore 1 frame", one.secret + one.id + u8(1) + u8(1)), ("icecore 1 refs frame", w.STRUCTURE_KEYS[1] + one.id + u8(1)),
             ("icecore 1 snapshot body", one.secret + one.id + snapshot),
             ("icecore 1 parity id", u8(names.BEAT) + u32(7) + one.id)]
    return rows + [{"use": "derive", "context": text, "key": None, "input": data.hex(), "output": derive(text, data).hex()}
                   for text, data in uses]


def _varints() -> List[Dict[str, Any]]:
    values = [0, 1, 127, 128, 300, 16_383, 16_384, (1 << 32) - 1, (1 << 63), (1 << 64) - 1]
    rows = [{"bytes": w.varint(v).hex(), "value": v, "rule": None} for v in values]
    wrong = [("8000", "CONV-1"), ("ff00", "CONV-1"), ("ffffffffffffffffff02", "CONV-1"), ("ffffffffffffffffff81", "CONV-1"),
             ("80808080808080808000", "CONV-1"), ("", "CONV-2"), ("80", "CONV-2"), ("ffffffffff", "CONV-2")]
    return rows + [{"bytes": data, "value": None, "rule": rule} for data, rule in wrong]


def _zigzags() -> List[Dict[str, Any]]:
    values = [0, -1, 1, -2, 63, -64, 64, 1_790_000_000, -(1 << 63), (1 << 63) - 1]
    return [{"bytes": w.zigzag(value).hex(), "value": value} for value in values]


def _times() -> List[Dict[str, Any]]:
    values = [(0, 0), w.NOW, (-1, 999_999_999), (-(1 << 63), 0), ((1 << 63) - 1, 1)]
    rows = [{"bytes": w.time(value).hex(), "value": list(value), "rule": None} for value in values]
    return rows + [{"bytes": w.time((0, 1_000_000_000)).hex(), "value": None, "rule": "CONV-5"}]


def _names() -> List[Dict[str, Any]]:
    ident = w.fixed("known name", 16)
    one, hexed = SESSIONS[0].id, ident.hex()
    found = [Name(kind, bytes(16), 4_294_967_295 if kind == 1 else 1) for kind in (1, 13)]
    found += [Name(kind, one, 7) for kind in (2, 9)] + [Name(kind, ident, 0) for kind in range(3, 21) if kind not in (9, 13)]
    strangers = ["", "config", "config/", "config/1", "config/0000000000", "config/4294967296", "config/00000000001", "config/0000000001/x",
                 f"config/{hexed}", f"keys/{hexed}", f"keys/{hexed}/1", f"keys/{hexed.upper()}/0000000001", f"packs/{hexed}", f"packs/00/{hexed}",
                 f"packs/{hexed[:2]}/{hexed}/", f"packs/{hexed[:2]}/{hexed[2:]}", f"index/{hexed[:31]}", f"index/{hexed}0", f"other/{hexed}",
                 f"/index/{hexed}", f"index/{hexed}\n", f"beats/{hexed}/0000000000", "config/000000000\u0661"]
    rows = [{"path": str(n), "kind": n.kind, "id": n.id.hex(), "number": n.number} for n in found]
    return rows + [{"path": path, "kind": None, "id": None, "number": None} for path in strangers]


def _seals() -> List[Dict[str, Any]]:
    rows = []
    for plain in (b"x", b"icecore seal", w.fixed("plaintext", 100)):
        key, nonce = w.fixed("seal key"), u32(7) + bytes(8)
        rows.append({"key": key.hex(), "nonce": nonce.hex(), "plaintext": plain.hex(), "sealed": w.seal(key, nonce, plain).hex()})
    return rows


def _signatures() -> List[Dict[str, Any]]:
    rows = []
    for text in ("icecore 1 object", "icecore 1 certificate", "icecore 1 session record"):
        data = w.fixed(text, 40)
        rows.append({"seed": w.ADMIN_SEED.hex(), "context": text, "data": data.hex(), "signature": w.sign(w.ADMIN_SEED, text, data).hex()})
    return rows


def _chunk_ids() -> List[Dict[str, Any]]:
    chunks = [b"\0", b"icecore", w.fixed("chunk", 3000)]
    return [{"kind": kind, "data": data.hex(), "id": w.chunk_id(kind, data).hex()} for kind in (1, 2, 3, 4) for data in chunks]


def _sessions() -> List[Dict[str, Any]]:
    snapshot = w.fixed("known snapshot", 16)
    return [{"session": s.name, "id": s.id.hex(), "commitment": s.commitment.hex(), "data_key": s.frame_key(0).hex(),
             "meta_key": s.frame_key(1).hex(), "refs_key": s.frame_key(2).hex(), "snapshot": snapshot.hex(),
             "snapshot_body_key": s.body_key(snapshot).hex()} for s in SESSIONS if s.kind != 2]


def _object_parts() -> List[Dict[str, Any]]:
    rows = []
    for epoch, number in ((1, 0), (2, 0), (1, 1)):
        head = w.header(Name(9, SESSIONS[0].id, 5), epoch)
        key = derive("icecore 1 object part", w.STRUCTURE_KEYS[epoch] + head + u32(number))
        rows.append({"structure_epoch": epoch, "header": head.hex(), "part": number, "key": key.hex(),
                     "plaintext": b"plain".hex(), "sealed": w.part(head, number, b"plain").hex()})
    return rows


def _tokens() -> List[Dict[str, Any]]:
    return [{"kind": kind, "text": text, "token": w.token(kind, text).hex()}
            for kind in ("series", "tag") for text in ("daily", "host /home", "t\u00e4g")]


def _boundaries() -> List[Dict[str, Any]]:
    key = keyed(derive("icecore 1 tree boundary", w.CHUNK_ID_KEY), u8(0) + b"dir\0file")
    frame = keyed(derive("icecore 1 refs boundary", w.TOKEN_KEY), u8(1) + SESSIONS[0].id + u32(1 << 30 | 5))
    return [{"kind": "tree", "level": 0, "key": b"dir\0file".hex(), "session": None, "number": None, "first_8": key[:8].hex()},
            {"kind": "refs", "level": 1, "key": None, "session": SESSIONS[0].id.hex(), "number": 1 << 30 | 5, "first_8": frame[:8].hex()}]


def _key_files() -> List[Dict[str, Any]]:
    text = w.key_file(w.KEY_FILE_SEED).decode()
    good = [text, text.strip(), " \t" + text.strip() + " \r\n\n"]
    bare = text.strip()
    digit = "0" if bare[20] != "0" else "1"
    bad = [bare[:20] + digit + bare[21:], bare.upper(), bare[:-1], bare + "0", "icecore-key-2" + bare[13:], bare.replace(":", " "), ""]
    return [{"text": t, "seed": w.KEY_FILE_SEED.hex()} for t in good] + [{"text": t, "seed": None} for t in bad]


def _passphrases() -> List[Dict[str, Any]]:
    from argon2.low_level import Type, hash_secret_raw
    rows = []
    for memory, passes, lanes in ((64, 1, 1), (256, 2, 4), (1024, 3, 2)):
        for file in (w.PASSPHRASE, w.PASSPHRASE + b"\n", w.PASSPHRASE + b"\r\n", w.PASSPHRASE + b"\n\n"):
            secret = file if file == w.PASSPHRASE else file[:-2] if file.endswith(b"\r\n") else file[:-1]
            seed = hash_secret_raw(secret, w.SLOT_SALT, passes, memory, lanes, 32, Type.ID, 0x13)
            rows.append({"file": file.hex(), "salt": w.SLOT_SALT.hex(), "memory": memory, "passes": passes, "lanes": lanes, "seed": seed.hex()})
    return rows


def _xwing() -> List[Dict[str, Any]]:
    seeds = [*w.RESTORE_SEEDS.values(), w.KEY_FILE_SEED, w.slot_seed()]
    return [{"seed": seed.hex(), "public_key": xwing_public(seed).hex()} for seed in seeds]


def _hpke() -> List[Dict[str, Any]]:
    rows = []
    for info, plain in ((b"icecore 1 wrap" + SESSIONS[0].id + u32(1), SESSIONS[0].secret), (b"icecore 1 slot", b"a longer plaintext " * 20)):
        encapsulated, ciphertext = w.HPKE.seal(w.RESTORE_KEYS[1], info, plain)
        assert hpke_open(w.RESTORE_SEEDS[1], info, encapsulated, ciphertext) == plain
        rows.append({"seed": w.RESTORE_SEEDS[1].hex(), "info": info.hex(), "encapsulated": encapsulated.hex(),
                     "ciphertext": ciphertext.hex(), "plaintext": plain.hex()})
    return rows


def _gear() -> Dict[str, Any]:
    table = w.gear_table(w.CUTTING_KEY)
    return {"cutting_key": w.CUTTING_KEY.hex(), "first": table[0], "second": table[1], "last": table[255],
            "hash_of_table": hash32(derive("icecore 1 gear table", w.CUTTING_KEY, 2048)).hex()}


def _cuts() -> List[Dict[str, Any]]:
    data, gear = blake3(CUT_INPUT.encode()).digest(length=1 << 20), w.gear_table(w.CUTTING_KEY)
    rows = []
    for low, average, high in ((16_384, 32_768, 131_072), (64, 256, 1024), (4096, 16_384, 49_154)):
        for size in (1 << 20, 100_001, 16_384, 1):
            rows.append(_cut_row(1, low, average, high, size, w.cut(data[:size], gear, low, average, high)))
    zeros = w.cut(bytes(300_000), gear, 16_384, 32_768, 131_072)
    rows.append({**_cut_row(1, 16_384, 32_768, 131_072, 300_000, zeros), "input": "zeros"})
    return rows + [_cut_row(2, size, size, size, 1 << 20, w.cut_fixed(size, 1 << 20)) for size in (65_536, 131_072 - 512)]


def _cut_row(kind: int, low: int, average: int, high: int, size: int, lengths: List[int]) -> Dict[str, Any]:
    assert sum(lengths) == size
    return {"kind": kind, "min": low, "average": average, "max": high, "input": f"first bytes of BLAKE3 XOF of '{CUT_INPUT}'", "size": size,
            "lengths": lengths}


def _sidecars() -> List[Dict[str, Any]]:
    ident = w.fixed("known name", 16)
    found = [Name(names.CONFIG, bytes(16), 1), Name(names.BEAT, ident, 7), Name(names.DATA_PACK, ident, 0), Name(names.META_PACK, ident, 0)]
    return [{"object": str(name), "sidecar": str(parity.sidecar_of(name))} for name in found]


def _codewords() -> List[Dict[str, Any]]:
    rows = []
    for blocks, recovery, size in ((1, 1, 3), (1, 3, 2), (3, 2, 4), (20, 6, 2), (220, 35, 1)):
        data = w.fixed(f"codeword {blocks}", blocks * size)
        own = [data[at:at + size] for at in range(0, len(data), size)]
        columns = [w.remainder(column, recovery) for column in zip(*own)]
        made = [bytes(column[number] for column in columns) for number in range(recovery)]
        rows.append({"data": [block.hex() for block in own], "recovery": [block.hex() for block in made]})
    return rows
