"""Vectors of whole objects."""
from __future__ import annotations

from typing import Any, List

import writer as w
import names
import parity
from conventions import u8, u16, u32
from known import SESSIONS
from names import Name
from writer import ADMIN_SIGNER, ALL, BACKUP, MAINTAIN, OTHER, RESTORE, Frame, Session

ONE, TWO_EPOCHS, BACKUP_ONLY, COLLECTOR, READER, OTHER_DOMAIN = SESSIONS
TEXT = w.SnapshotText()


def ident(text: str) -> bytes:
    return w.fixed(f"vector {text}", 16)


def named(kind: int, text: str) -> Name:
    return Name(kind, ident(text), 0)


def flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + u8(data[at] ^ 1) + data[at + 1:]


def make(c: Any) -> None:
    for part in (headers, certificates, writers, parts, config, slots, sessions, companions, packs, indexes, snapshots, epochs,
                 relocations, placement, holds, sidecars):
        part(c)


# What every object begins and ends with: shown with beats

BEAT = Name(names.BEAT, ONE.id, 5)
NOW = w.time(w.NOW)


def beat(head: bytes = b"", plain: bytes = NOW, signer: w.Signer = ALL, **how: Any) -> bytes:
    return w.one_part(BEAT, plain, signer, head or w.header(BEAT), **how)


def headers(c: Any) -> None:
    c.valid("beat", "beat", beat(), BEAT)
    c.valid("beat-epoch-2", "beat", beat(w.header(BEAT, 2)), BEAT)
    c.valid("beat-before-1970", "beat", beat(plain=w.time((-1, 999_999_999))), BEAT)

    def wrong(rule: str, what: str, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, what, "beat", beat(w.header(BEAT, **over)), BEAT, unsupported)
    c.invalid("OBJ-1", "too-short", "beat", beat()[:311], BEAT)
    wrong("OBJ-2", "magic", magic=b"icecorf")
    wrong("OBJ-3", "kind", kind=names.CLOSED)
    wrong("OBJ-4", "version", True, version=2)
    other = w.header(BEAT, version=2)
    c.invalid("OBJ-4", "version-not-signed", "beat", beat(other, signature=w.sign(BACKUP.seed, "icecore 1 object", b"x" * 32)), BEAT)
    wrong("OBJ-5", "reserved-10", reserved=256)
    wrong("OBJ-5", "reserved-52", tail=bytes(11) + b"\1")
    wrong("OBJ-6", "id", ident=TWO_EPOCHS.id)
    wrong("OBJ-6", "number", number=6)
    wrong("OBJ-7", "repository", repository=ident("other repository"))
    c.invalid("OBJ-8", "last-byte", "beat", flipped(beat(), -1), BEAT)
    c.invalid("OBJ-8", "body", "beat", flipped(beat(), 70), BEAT)
    c.invalid("OBJ-10", "other-key", "beat", beat(signature=w.sign(BACKUP.seed, "icecore 1 object", b"x" * 32)), BEAT)
    c.invalid("OBJ-10", "context", "beat", beat(signature=w.sign(ALL.seed, "icecore 1 certificate", w.hash32(b""))), BEAT)
    head = w.header(BEAT, 0)
    c.invalid("OBJ-11", "beat-epoch-0", "beat", w.finish(head + bytes(28), ALL), BEAT)


def certificates(c: Any) -> None:
    for signer in (ALL, BACKUP, OTHER, ADMIN_SIGNER):
        c.valid(f"certificate-{signer.name.replace(' ', '-')}", "certificate", signer.certificate)
    key, cred = ALL.key, ALL.credential
    admin = dict(roles=8, key=w.ADMIN, credential=bytes(16))

    def wrong(rule: str, what: str, data: bytes) -> None:
        c.invalid(rule, what, "certificate", data)
        c.invalid(rule, f"{what}-in-beat", "beat", beat(certificate_bytes=data), BEAT)
    wrong("CERT-1", "no-role", w.certificate(0, key, cred))
    wrong("CERT-1", "bit-16", w.certificate(17, key, cred))
    wrong("CERT-1", "admin-not-alone", w.certificate(9, key, cred))
    wrong("CERT-2", "reserved", w.certificate(7, key, cred, reserved=b"\0\0\1"))
    wrong("CERT-3", "repository", w.certificate(7, key, cred, repository=ident("other repository")))
    wrong("CERT-4", "key", w.certificate(**{**admin, "key": key}))
    wrong("CERT-4", "domain", w.certificate(**admin, domain=OTHER.domain))
    wrong("CERT-4", "credential", w.certificate(**{**admin, "credential": cred}))
    wrong("CERT-5", "signed-by-another", w.certificate(7, key, cred, admin_seed=ALL.seed))
    c.invalid("CONV-2", "certificate-short", "certificate", ALL.certificate[:151])
    c.invalid("CONV-3", "certificate-long", "certificate", ALL.certificate + b"\0")
    revoked = [[ALL.credential.hex(), 2], [BACKUP.credential.hex(), 1]]
    c.valid("beat-revoked-later", "beat", beat(), BEAT, revoked=revoked)
    c.valid("record-revoked-later", "session record", ONE.record(), restore_epochs=[], revoked=revoked)
    c.invalid("CERT-6", "beat-revoked", "beat", beat(w.header(BEAT, 2)), BEAT, revoked=revoked)
    c.invalid("CERT-6", "record-revoked", "session record", BACKUP_ONLY.record(), restore_epochs=[], revoked=revoked)


def writers(c: Any) -> None:
    c.invalid("OBJ-9", "beat-by-admin", "beat", beat(signer=ADMIN_SIGNER), BEAT)
    name = Name(names.CONFIG, bytes(16), 1)
    c.invalid("OBJ-9", "config-by-all", "config", w.finish(w.header(name, 0) + w.config_body(), ALL), name, before=None)
    name = Name(names.TOMBSTONE, ONE.id, 0)
    c.invalid("OBJ-9", "tombstone-by-backup", "tombstone", w.one_part(name, w.tombstone_plain(), BACKUP), name)
    name = named(names.DATA_PACK, "restore")
    c.invalid("OBJ-9", "pack-by-restore", "data pack", w.pack(name, [Frame(ONE, 0, 0, [b"data"])], RESTORE), name)
    name = Name(names.EPOCH, bytes(16), 1)
    c.invalid("OBJ-9", "epoch-by-backup", "epoch", w.one_part(name, w.epoch_plain(ONE.id, []), BACKUP), name, before=None)


def parts(c: Any) -> None:
    c.invalid("OBJ-12", "no-key-of-epoch-2", "beat", beat(w.header(BEAT, 2)), BEAT, structure_epochs=[1])
    sealed = w.part(w.header(BEAT), 0, NOW)
    for what, data in (("flipped", flipped(sealed, 0)), ("empty", b""), ("part-1", w.part(w.header(BEAT), 1, NOW))):
        c.invalid("OBJ-13", what, "beat", w.finish(w.header(BEAT) + data, ALL), BEAT)
    c.invalid("CONV-2", "beat-short", "beat", beat(plain=NOW[:11]), BEAT)
    c.invalid("CONV-3", "beat-long", "beat", beat(plain=NOW + b"\0"), BEAT)
    c.invalid("CONV-5", "beat-nanoseconds", "beat", beat(plain=w.time((0, 1_000_000_000))), BEAT)


def config(c: Any) -> None:
    first, second = Name(names.CONFIG, bytes(16), 1), Name(names.CONFIG, bytes(16), 2)
    before = w.fixed("trailer hash of generation 1")

    def make_one(body: bytes, name: Name = first, epoch: int = 0) -> bytes:
        return w.finish(w.header(name, epoch) + body, ADMIN_SIGNER)

    def wrong(rule: str, what: str, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, f"config-{what}", "config", make_one(w.config_body(**over)), first, unsupported, before=None)
    revoked = list(zip(sorted([ident("revoked 1"), ident("revoked 2")]), (7, 1)))
    keys = [w.restore_key(1), w.restore_key(2)]
    c.valid("config-first", "config", make_one(w.config_body()), first, before=None)
    body = w.config_body(1 << 63, 5, 0, (-1, 5), before, w.fixed("trailer hash of a fork"), structure_epoch=2, restore_epoch=2, pack=65_536,
                         data_frame=4096, meta_frame=4_194_304, cutters=[w.cutter(3, 1, 64, 256, 4_194_304), w.cutter(9, 2, 512, 512, 512)],
                         restore_keys=keys, revoked=revoked)
    c.valid("config-second", "config", make_one(body, second), second, before=before.hex())
    joins = w.config_body(predecessor=w.fixed("trailer hash of a fork"), second=before)
    c.valid("config-joins-fork", "config", make_one(joins, second), second, before=before.hex())
    wrong("CFG-1", "flags-3-and-9", True, required=(1 << 3) + (1 << 9))
    wrong("CFG-2", "first-with-predecessor", predecessor=before)
    wrong("CFG-2", "first-with-second-predecessor", second=before)
    c.invalid("CFG-2", "config-wrong-predecessor", "config", make_one(w.config_body(predecessor=before), second), second,
              before=w.fixed("another hash").hex())
    wrong("CFG-3", "admin-key", admin=ALL.key)
    wrong("CFG-4", "pack-too-small", pack=65_535)
    wrong("CFG-4", "pack-too-large", pack=134_217_729)
    wrong("CFG-4", "data-frame", data_frame=4_194_305)
    wrong("CFG-4", "meta-frame", meta_frame=4095)
    good = w.CUTTERS[0]
    cutters: List[Any] = [
        ("no-cutter", []), ("cutters-65", [w.cutter(n, 2, 512, 512, 512) for n in range(65)]), ("cutters-equal-ids", [good, good]),
        ("cutter-kind-3", [w.cutter(1, 3, 512, 512, 512)]), ("cutter-reserved", [w.cutter(1, 2, 512, 512, 512, b"\1\0\0")]),
        ("cutter-average", [w.cutter(1, 1, 64, 300, 1024)]), ("cutter-odd-min", [w.cutter(1, 1, 65, 256, 1024)]),
        ("cutter-max", [w.cutter(1, 1, 64, 256, 4_194_306)]), ("cutter-min-average", [w.cutter(1, 1, 256, 256, 1024)]),
        ("cutter-size-500", [w.cutter(1, 2, 500, 500, 500)]), ("cutter-size-0", [w.cutter(1, 2, 0, 0, 0)]),
        ("cutter-sizes-differ", [w.cutter(1, 2, 512, 512, 1024)])]
    for what, value in cutters:
        wrong("CFG-5", what, cutters=value)
    for what, value in (("no-restore-key", []), ("restore-keys-order", keys[::-1]), ("restore-epoch-0", [w.restore_key(0, key=bytes(1216)), keys[0]]),
                        ("restore-kem", [w.restore_key(1, kem=0x647B)]), ("restore-reserved", [w.restore_key(1, reserved=1)]),
                        ("restore-epoch-without-key", [keys[1]])):
        wrong("CFG-6", what, restore_keys=value)
    wrong("CFG-7", "structure-epoch-0", structure_epoch=0)
    wrong("CFG-8", "revoked-order", revoked=revoked[::-1])
    wrong("CFG-8", "revoked-twice", revoked=[revoked[0], (revoked[0][0], 9)])
    wrong("CFG-8", "revoked-from-epoch-0", revoked=[(revoked[0][0], 0)])
    wrong("CONV-4", "reserved", reserved=1)
    wrong("CONV-5", "created", created=(0, 1_000_000_000))
    c.invalid("CONV-2", "config-short", "config", make_one(w.config_body(revoked=revoked)[:-1]), first, before=None)
    c.invalid("CONV-3", "config-long", "config", make_one(w.config_body() + b"\0"), first, before=None)
    c.invalid("OBJ-11", "config-epoch-1", "config", make_one(w.config_body(), epoch=1), first, before=None)


def slots(c: Any) -> None:
    name, seed = Name(names.SLOT, ident("slot"), 3), w.KEY_FILE_SEED
    phrase = dict(kind=1, costs=(64, 1, 1), salt=w.SLOT_SALT)
    c.valid("slot-key-file", "slot", w.slot(name, seed), name, seed=seed.hex())
    c.valid("slot-passphrase", "slot", w.slot(name, w.slot_seed(), **phrase), name, seed=w.slot_seed().hex())
    for signer in (BACKUP, MAINTAIN, RESTORE):
        c.valid(f"slot-{signer.name}", "slot", w.slot(name, seed, roles=signer.roles, signer=signer), name, seed=seed.hex())
    c.valid("slot-kind-4-not-opened", "slot", w.slot(name, seed, kind=4), name, seed=None)
    c.valid("slot-removed", "slot", w.slot(name, seed, state=2), name, seed=None)

    def wrong(rule: str, what: str, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, f"slot-{what}", "slot", w.slot(name, seed, **over), name, unsupported, seed=seed.hex())
    wrong("SLOT-1", "kind-5", True, kind=5)
    wrong("SLOT-2", "state-3", state=3, sealed=(bytes(1120), bytes(40)))
    wrong("SLOT-3", "no-role", roles=0, plain=b"")
    wrong("SLOT-3", "role-16", roles=31)
    wrong("SLOT-3", "reserved", reserved=1)
    for what, costs in (("memory-too-small", (15, 1, 2)), ("memory-too-large", (65_537, 1, 1)), ("no-pass", (64, 0, 1)), ("passes", (64, 17, 1)),
                        ("no-lane", (64, 1, 0)), ("lanes", (1024, 1, 17))):
        wrong("SLOT-4", what, **{**phrase, "costs": costs})
    wrong("SLOT-4", "key-file-with-salt", salt=w.SLOT_SALT)
    wrong("SLOT-4", "key-file-with-passes", costs=(0, 1, 0))
    wrong("SLOT-5", "length", sealed_length=7)
    wrong("SLOT-5", "removed-with-credential", state=2, sealed=(bytes(1120), bytes(40)))
    wrong("SLOT-5", "active-without-credential", sealed=(bytes(1120), b""))
    wrong("SLOT-5", "removed-with-encapsulated-key", state=2, sealed=(b"\1" * 1120, b""))
    c.invalid("SLOT-6", "slot-other-seed", "slot", w.slot(name, seed), name, seed=w.fixed("no seed").hex())
    body = w.slot(name, seed)[64:-248]
    c.invalid("SLOT-7", "slot-flipped", "slot", w.finish(w.header(name, 0) + flipped(body, -1), ADMIN_SIGNER), name, seed=seed.hex())
    c.invalid("SLOT-7", "slot-of-another-name", "slot", w.finish(w.header(Name(2, ident("slot"), 4), 0) + body, ADMIN_SIGNER),
              Name(2, ident("slot"), 4), seed=seed.hex())
    wrong("SLOT-11", "pin-of-another-seed", pin=w.slot_pin(w.slot_seed()))
    wrong("SLOT-11", "pin-of-another-admin", pin=w.slot_pin(seed, admin=ALL.key))
    wrong("SLOT-11", "pin-of-another-repository", pin=w.slot_pin(seed, repository=ident("other repository")))
    wrong("SLOT-11", "no-pin", pin=bytes(32))
    recipient = w.RECIPIENT_SEED
    c.invalid("SLOT-11", "slot-pin-of-a-recipient", "slot", w.slot(name, recipient, kind=3), name, seed=recipient.hex())
    c.valid("slot-recipient", "slot", w.slot(name, recipient, kind=3, pin=bytes(32)), name, seed=recipient.hex())
    c.invalid("SLOT-6", "slot-recipient-to-the-key-file", "slot", w.slot(name, seed, kind=3, pin=bytes(32)), name, seed=recipient.hex())
    fields = w.credential_fields(ALL, 15)
    wrong("SLOT-8", "order", plain=w.credential_bytes(fields[::-1]))
    wrong("SLOT-9", "credential-id", credential=ident("other credential"))
    c.invalid("OBJ-9", "slot-by-all", "slot", w.finish(w.header(name, 0) + body, ALL), name, seed=seed.hex())
    c.invalid("CONV-2", "slot-short", "slot", w.finish(w.header(name, 0) + body[:2435], ADMIN_SIGNER), name, seed=seed.hex())
    credentials(c, fields)


def credentials(c: Any, fields: List[Any]) -> None:
    context = dict(slot_roles=15, credential=ALL.credential.hex())
    c.valid("credential-all", "credential", w.credential_bytes(fields), **context)
    c.valid("credential-unknown-field-200", "credential", w.credential_bytes(fields + [(200, b"later")]), **context)
    for signer in (BACKUP, MAINTAIN, RESTORE):
        c.valid(f"credential-{signer.name}", "credential", w.credential_bytes(w.credential_fields(signer, signer.roles)),
                slot_roles=signer.roles, credential=signer.credential.hex())

    def wrong(rule: str, what: str, altered: List[Any], unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, f"credential-{what}", "credential", w.credential_bytes(altered), None, unsupported, **{**context, **over})

    def replaced(tag: int, value: bytes) -> List[Any]:
        return [(t, value if t == tag else v) for t, v in fields]
    wrong("SLOT-8", "order", fields[1:2] + fields[:1] + fields[2:])
    wrong("SLOT-8", "epochs-order", [fields[0], fields[2], fields[1]] + fields[3:])
    wrong("SLOT-8", "length", replaced(3, bytes(31)))
    wrong("SLOT-8", "admin-key-twice", fields[:1] * 2 + fields[1:])
    wrong("SLOT-8", "no-structure-key", [f for f in fields if f[0] != 2])
    wrong("SLOT-8", "no-certificate", [f for f in fields if f[0] != 4])
    wrong("SLOT-8", "unknown-field-9", fields + [(9, b"")], True)
    wrong("SLOT-8", "restore-kem", [f for f in fields if f[0] != 7 or f[1][0] == 1][:-1] + [(7, u32(2) + u16(1) + bytes(32)), fields[-1]])
    wrong("SLOT-9", "no-restore-key", [f for f in fields if f[0] != 7])
    wrong("SLOT-9", "roles", w.credential_fields(BACKUP, 1), slot_roles=3, credential=BACKUP.credential.hex())
    wrong("SLOT-9", "field-8-without-role", fields, slot_roles=7)
    wrong("SLOT-9", "role-without-field-8", fields[:-1])
    wrong("SLOT-9", "signing-seed-of-another", replaced(4, ALL.certificate + BACKUP.seed))
    wrong("SLOT-9", "admin-seed-of-another", replaced(8, ALL.seed))
    wrong("SLOT-9", "id", fields, credential=BACKUP.credential.hex())
    wrong("CERT-5", "other-admin", replaced(1, ALL.key))
    c.invalid("CONV-2", "credential-short", "credential", w.credential_bytes(fields)[:-1], **context)


def sessions(c: Any) -> None:
    for session in SESSIONS:
        epochs = [1, 2] if session.kind != 2 else []
        c.valid(f"record-{session.name.replace(' ', '-')}", "session record", session.record(), restore_epochs=epochs)
    c.valid("record-secret-not-ours", "session record", ONE.record(), restore_epochs=[2])

    def wrong(rule: str, what: str, session: Session = ONE, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, f"record-{what}", "session record", session.record(**over), None, unsupported, restore_epochs=[1, 2])
    one, two = TWO_EPOCHS.wrap(1), TWO_EPOCHS.wrap(2)
    wrong("SES-1", "length", length=1473)
    wrong("SES-1", "wraps-17", wraps=[one] * 17)
    wrong("SES-2", "suite-2", suite=2, unsupported=True)
    wrong("SES-3", "kind-4", kind=4)
    wrong("SES-4", "reserved", reserved=1)
    wrong("SES-4", "structure-epoch-0", epoch=0)
    wrong("SES-5", "reader-with-commitment", READER, commitment=ONE.commitment)
    wrong("SES-5", "reader-with-wrap", READER, wraps=[one])
    wrong("SES-5", "writer-without-wrap", wraps=[])
    wrong("SES-5", "wraps-order", TWO_EPOCHS, wraps=[two, one])
    wrong("SES-5", "wraps-equal-epochs", TWO_EPOCHS, wraps=[one, one])
    wrong("SES-5", "kem", wraps=[ONE.wrap(1, kem=0x0020)])
    wrong("SES-5", "wrap-reserved", wraps=[ONE.wrap(1, reserved=1)])
    wrong("SES-6", "writer-without-backup", Session("maintain writes", MAINTAIN, 1))
    wrong("SES-6", "collector-without-maintain", Session("backup collects", BACKUP, 3))
    wrong("SES-6", "reader-with-backup-only", Session("backup reads", BACKUP, 2))
    wrong("CERT-5", "certificate", certificate_bytes=w.certificate(7, ALL.key, ALL.credential, admin_seed=ALL.seed))
    wrong("CERT-3", "certificate", certificate_bytes=w.certificate(7, ALL.key, ALL.credential, repository=ident("other")))
    wrong("SES-7", "signature", signature=w.sign(ALL.seed, "icecore 1 object", ONE.record()[:-64]))
    wrong("SES-8", "wrap-of-another-epoch", wraps=[ONE.wrap(1, info_epoch=2)])
    wrong("SES-8", "commitment", commitment=TWO_EPOCHS.commitment)
    c.invalid("CONV-2", "record-short", "session record", ONE.record()[:-1], restore_epochs=[])
    c.invalid("CONV-3", "record-long", "session record", ONE.record() + b"\0", restore_epochs=[])


def companions(c: Any) -> None:
    def session(which: Session, signer: w.Signer, **over: Any) -> bytes:
        name = Name(names.SESSION, which.id, 0)
        return w.one_part(name, w.session_plain(which, **over), signer)
    name = Name(names.SESSION, ONE.id, 0)
    for which in (ONE, COLLECTOR, READER):
        c.valid(f"session-{which.name}", "session", session(which, which.signer, epoch=7, label="h\u00f6st 12".encode()),
                Name(names.SESSION, which.id, 0))
    c.invalid("SESS-1", "id", "session", session(ONE, ALL, record=TWO_EPOCHS.record()), name)
    c.invalid("SESS-1", "certificate", "session", session(ONE, OTHER), name)
    c.invalid("SESS-2", "not-utf-8", "session", session(ONE, ALL, label=b"\xff"), name)
    c.invalid("SESS-2", "label-1025", "session", session(ONE, ALL, label=b"x" * 1025), name)
    c.invalid("SES-7", "in-session", "session", session(ONE, ALL, record=ONE.record(signature=bytes(64))), name)

    name, shown = Name(names.CLOSED, ONE.id, 0), sorted(ident(f"snapshot {n}") for n in range(3))

    def closed(plain: bytes) -> bytes:
        return w.one_part(name, plain, ALL)
    c.valid("closed", "closed", closed(w.closed_plain(shown)), name)
    c.valid("closed-given-up", "closed", w.one_part(name, w.closed_plain([], 2), MAINTAIN), name)
    c.invalid("CLOSED-1", "outcome-0", "closed", closed(w.closed_plain(shown, 0)), name)
    c.invalid("CLOSED-1", "outcome-3", "closed", closed(w.closed_plain(shown, 3)), name)
    c.invalid("CLOSED-2", "order", "closed", closed(w.closed_plain(shown[::-1])), name)
    c.invalid("CLOSED-2", "twice", "closed", closed(w.closed_plain(shown[:1] * 2)), name)
    c.invalid("CLOSED-2", "count-4097", "closed", closed(u8(1) + NOW + w.varint(4097)), name)
    c.invalid("CONV-1", "closed-count", "closed", closed(u8(1) + NOW + b"\x80\0"), name)
    c.invalid("CONV-2", "closed-count", "closed", closed(u8(1) + NOW + b"\2" + shown[0]), name)
    name = Name(names.TOMBSTONE, ONE.id, 0)
    c.valid("tombstone", "tombstone", w.one_part(name, w.tombstone_plain(), MAINTAIN), name)
    c.invalid("CONV-3", "tombstone-long", "tombstone", w.one_part(name, w.tombstone_plain() + b"\0", MAINTAIN), name)
    name = named(names.WITHDRAWN, "withdrawn")
    for reason in (1, 3):
        c.valid(f"withdrawn-{reason}", "withdrawn", w.one_part(name, w.withdrawn_plain(ONE.id, reason), ALL), name)
    # Of a snapshot that breaks a rule, and of whose session nothing else tells.
    c.valid("withdrawn-session-unknown", "withdrawn", w.one_part(name, w.withdrawn_plain(bytes(16)), MAINTAIN), name)
    for reason in (0, 4):
        c.invalid("WITHDRAWN-1", f"reason-{reason}", "withdrawn", w.one_part(name, w.withdrawn_plain(ONE.id, reason), ALL), name)


def sample_frames() -> List[Frame]:
    """Frames of two sessions, stored and compressed, of one and more chunks."""
    chunks = [w.fixed(f"sample chunk {n}", 100 + 37 * n) for n in range(9)]
    return [Frame(ONE, 0, 0, chunks[:4]), Frame(ONE, 0, 7, chunks[4:5], 0), Frame(TWO_EPOCHS, 0, 0, chunks[5:])]


def packs(c: Any) -> None:
    frames = sample_frames()
    name = named(names.DATA_PACK, "data pack")

    def make_one(signer: w.Signer = ALL, **over: Any) -> bytes:
        return w.pack(name, frames, signer, **over)
    c.valid("data-pack", "data pack", make_one(), name)
    foreign = [Frame(BACKUP_ONLY, 0, 3, [b"from another"]), frames[0]]
    c.valid("data-pack-copied", "data pack", w.pack(name, foreign, MAINTAIN), name)
    meta = named(names.META_PACK, "meta pack")
    leaf, recipe = b"\1\0 stands for a tree node", b"\3\0 stands for a recipe node"
    c.valid("meta-pack", "meta pack", w.pack(meta, [Frame(ONE, 1, 1, [leaf, recipe])], ALL), meta)
    refs = named(names.REFS_PACK, "refs pack")
    c.valid("refs-pack", "refs pack", w.pack(refs, [Frame(ONE, 2, 0, [w.refs_leaf([(ONE.id, [w.whole(0, 3)])])])], ALL), refs)
    region = b"".join(f.sealed for f in frames)
    tables = len(w.tables_of(frames)) + 16

    def wrong(rule: str, what: str, **over: Any) -> None:
        c.invalid(rule, f"pack-{what}", "data pack", make_one(**over), name)
    wrong("PACK-1", "reserved", footer=(len(region), tables, 1, 1))
    wrong("PACK-1", "no-frames", footer=(0, tables, 0, 0))
    wrong("PACK-1", "frames-length", footer=((1 << 27) + 1, tables, 1, 0))
    wrong("PACK-1", "tables-length", footer=(len(region), (1 << 25) + 1, 1, 0))
    wrong("PACK-2", "groups", groups=w.group_hashes(region) * 2)
    wrong("PACK-3", "tables-length", footer=(len(region), tables - 1, 1, 0))
    wrong("PACK-4", "group-hash", groups=[w.hash32(b"")])
    c.invalid("PACK-4", "pack-frame-byte", "data pack", flipped(make_one(), 64 + 10), name)
    c.invalid("PACK-12", "pack-by-other-session", "data pack", w.pack(name, foreign, BACKUP), name)
    wrong("PACK-9", "sum", region=region + b"\0")
    c.invalid("OBJ-8", "pack-tables", "data pack", flipped(make_one(), 64 + len(region)), name)
    sealed = flipped(w.part(w.header(name), 0, w.tables_of(frames)), 3)
    numbers = b"".join(map(u32, (len(region), len(sealed), 1, 0)))
    broken = w.finish(w.header(name) + sealed + b"".join(w.group_hashes(region)) + numbers, ALL, left_out=region)
    c.invalid("OBJ-13", "pack-tables", "data pack", broken, name)


def indexes(c: Any) -> None:
    frames, name = sample_frames(), named(names.INDEX, "index")
    data, meta = named(names.DATA_PACK, "data pack"), named(names.META_PACK, "meta pack")
    packs_ = [(data, frames), (meta, [Frame(ONE, 1, 1, [b"\1\0x"])])]
    plain = w.index_of(packs_)
    c.valid("index", "index", w.one_part(name, plain, ALL), name)
    c.valid("index-merged", "index", w.one_part(name, w.index_of(packs_ + [(named(5, "refs"), [Frame(OTHER_DOMAIN, 2, 0, [b"\5\0x"])])]), MAINTAIN), name)
    c.invalid("INDEX-1", "object-level-1", "index", w.one_part(name, b"\1" + plain[1:], ALL), name, True)
    c.invalid("OBJ-9", "index-by-restore", "index", w.one_part(name, plain, RESTORE), name)
    c.invalid("PACK-12", "index-by-other", "index", w.one_part(name, plain, BACKUP), name)


def snapshots(c: Any) -> None:
    name = named(names.SNAPSHOT, "snapshot")
    root, refs = w.fixed("tree root"), w.fixed("refs root")
    head, body = w.snapshot_header(TEXT, ONE.record(), refs), w.snapshot_body(TEXT, root)
    c.valid("snapshot", "snapshot", w.snapshot(name, ONE, head, body), name)
    later = w.snapshot_header(TEXT, BACKUP_ONLY.record(), refs, 5, ident("previous"), (-5, 3), 4, 9, epoch=3, totals=((1 << 64) - 1, 0, 1 << 40, 7))
    c.valid("snapshot-later", "snapshot", w.snapshot(name, BACKUP_ONLY, later, body), name)
    c.invalid("SNAP-1", "lengths", "snapshot", w.snapshot(name, ONE, head, body, lengths=(len(head) + 16, len(body) + 17)), name)
    sealed = w.part(w.header(name), 0, head)
    c.invalid("SNAP-2", "header-flipped", "snapshot", w.snapshot(name, ONE, head, body, sealed_header=flipped(sealed, 5)), name)
    c.invalid("SNAP-3", "in-object", "snapshot", w.snapshot(name, ONE, w.snapshot_header(TEXT, ONE.record(), refs, 0), body), name)
    c.invalid("SNAP-7", "certificate-of-another", "snapshot", w.snapshot(name, ONE, head, body, signer=OTHER), name)
    other = w.snapshot(named(names.SNAPSHOT, "other"), ONE, head, body)[64 + 8 + len(sealed):-248]
    c.invalid("SNAP-8", "body-of-another-snapshot", "snapshot", w.snapshot(name, ONE, head, body, sealed_body=other), name)
    c.invalid("SNAP-9", "in-object", "snapshot", w.snapshot(name, ONE, head, w.snapshot_body(TEXT, root, 3)), name, True)
    c.invalid("SNAP-11", "in-object", "snapshot", w.snapshot(name, ONE, head, w.snapshot_body(w.SnapshotText("other"), root)), name)
    c.invalid("SES-8", "in-snapshot", "snapshot",
              w.snapshot(name, ONE, w.snapshot_header(TEXT, ONE.record(commitment=TWO_EPOCHS.commitment), refs), body), name)
    c.invalid("OBJ-9", "snapshot-by-maintain", "snapshot", w.snapshot(name, ONE, head, body, signer=MAINTAIN), name)
    c.invalid("OBJ-12", "snapshot", "snapshot", w.snapshot(name, ONE, head, body), name, structure_epochs=[2])


def epochs(c: Any) -> None:
    first, second = (Name(names.EPOCH, bytes(16), n) for n in (1, 2))
    packs_ = sorted((kind, ident(f"pack {n}")) for n, kind in enumerate((3, 3, 4, 5)))
    before = w.fixed("trailer hash of epoch 1")

    def epoch(items: List[Any], predecessor: bytes = bytes(32), name: Name = first, snapshots: List[bytes] = []) -> bytes:
        return w.one_part(name, w.epoch_plain(COLLECTOR.id, items, predecessor, snapshots), MAINTAIN)
    snapshots = sorted(ident(f"snapshot {n}") for n in range(3))
    c.valid("epoch-first", "epoch", epoch(packs_), first, before=None)
    c.valid("epoch-second", "epoch", epoch([], before, second, snapshots), second, before=before.hex())
    c.valid("epoch-second-first-removed", "epoch", epoch([], before, second), second, before=None)
    for what, items in (("order", packs_[::-1]), ("twice", packs_[:1] * 2), ("kind-2", [(2, ident("pack"))]), ("kind-6", [(6, ident("pack"))])):
        c.invalid("EPOCH-1", what, "epoch", epoch(items), first, before=None)
    for what, some in (("snapshots-order", snapshots[::-1]), ("snapshots-twice", snapshots[:1] * 2)):
        c.invalid("EPOCH-1", what, "epoch", epoch(packs_, snapshots=some), first, before=None)
    plain = w.epoch_plain(COLLECTOR.id, packs_)[:-1] + w.varint(524_289)
    c.invalid("EPOCH-1", "snapshots-count", "epoch", w.one_part(first, plain, MAINTAIN), first, before=None)
    plain = w.epoch_plain(COLLECTOR.id, [])[:-2] + w.varint(524_289)
    c.invalid("EPOCH-1", "count", "epoch", w.one_part(first, plain, MAINTAIN), first, before=None)
    c.invalid("EPOCH-2", "first-with-predecessor", "epoch", epoch([], before), first, before=None)
    c.invalid("EPOCH-2", "second", "epoch", epoch([], w.fixed("other hash"), second), second, before=before.hex())


def relocations(c: Any) -> None:
    name = named(names.RELOCATION, "relocations")
    low, high = sorted((ONE.id, TWO_EPOCHS.id))
    good = (low, 0, 11, [(0, 0, 0), (3, 0, 1), (10, 5, 16_383)])
    meta = (low, (1 << 30) + 7, 1, [(0, (1 << 30) - 1, 2)])
    more = (high, 3, 16_384, [(16_383, 1, 0)])

    def made(frames: List[Any], **over: Any) -> bytes:
        return w.one_part(name, w.relocations_plain(COLLECTOR.id, frames, **over), MAINTAIN)

    def wrong(rule: str, what: str, frames: List[Any], **over: Any) -> None:
        c.invalid(rule, what, "relocations", made(frames, **over), name)
    c.valid("relocations", "relocations", made([good, meta, more]), name)
    c.valid("relocations-all-chunks", "relocations", made([(low, 0, 8, [(n, 0, n) for n in range(8)])]), name)
    wrong("RELOC-1", "no-frame", [])
    wrong("RELOC-1", "twice", [good, good])
    wrong("RELOC-1", "order", [meta, good])
    wrong("RELOC-1", "order-of-sessions", [more, good])
    plain = w.relocations_plain(COLLECTOR.id, [])[:-1] + w.varint(65_537)
    c.invalid("RELOC-1", "count", "relocations", w.one_part(name, plain, MAINTAIN), name)
    wrong("RELOC-2", "refs-frame", [(low, 2 << 30, 3, [(1, 0, 0)])])
    wrong("RELOC-2", "reserved-class", [(low, 3 << 30, 3, [(1, 0, 0)])])
    wrong("RELOC-2", "own-session", [(COLLECTOR.id, 0, 3, [(1, 0, 0)])])
    wrong("RELOC-3", "no-chunk", [(low, 0, 0, [])])
    wrong("RELOC-3", "chunks-16385", [(low, 0, 16_385, [(1, 0, 0)])])
    wrong("RELOC-3", "nothing-mapped", [(low, 0, 3, [])])
    wrong("RELOC-3", "unused-bit", [(low, 0, 3, [(1, 0, 0)])], bitmaps=[b"\x0a"])
    wrong("RELOC-4", "counter", [(low, 0, 3, [(1, 1 << 30, 0)])])
    wrong("RELOC-4", "position", [(low, 0, 3, [(1, 0, 16_384)])])
    wrong("CONV-2", "relocations-short", [(low, 0, 3, [(1, 0, 0)])], bitmaps=[b"\x03"])
    c.invalid("CONV-3", "relocations-long", "relocations",
              w.one_part(name, w.relocations_plain(COLLECTOR.id, [good]) + b"\0", MAINTAIN), name)
    c.invalid("OBJ-9", "relocations-by-backup", "relocations", w.one_part(name, w.relocations_plain(COLLECTOR.id, [more]), BACKUP), name)


def placement(c: Any) -> None:
    name, tier = named(names.PLACEMENT, "placement"), ident("tier")

    def made(plain: bytes, signer: w.Signer = MAINTAIN) -> bytes:
        return w.one_part(name, plain, signer)

    def wrong(rule: str, what: str, plain: bytes, unsupported: bool = False) -> None:
        c.invalid(rule, what, "placement", made(plain), name, unsupported)
    classes = [(b"bulk", 172_800, 2_500_000, 25_000_000), (b"standard", 43_200, 20_000_000, 100_000_000)]
    c.valid("placement-tier", "placement", made(w.tier_plain(tier)), name)
    c.valid("placement-tier-frozen", "placement", made(w.tier_plain(
        tier, rank=255, properties=7, revision=9, name=b"a" * 64, label="Kühlraum, Platte 3".encode(), address=b"s3://bucket/path",
        storage_class=b"DEEP_ARCHIVE", classes=classes)), name)
    wrong("PLACE-1", "form-0", w.tier_plain(tier, form=0), True)
    wrong("PLACE-1", "form-3", w.tier_plain(tier, form=3), True)
    wrong("PLACE-2", "rank", w.tier_plain(tier, rank=0))
    wrong("PLACE-2", "properties", w.tier_plain(tier, properties=8))
    wrong("PLACE-2", "revision", w.tier_plain(tier, revision=0))
    wrong("CONV-4", "placement-reserved", w.tier_plain(tier, reserved=1))
    for what, text in (("empty", b""), ("long", b"a" * 65), ("capital", b"Cold"), ("space", b"a b")):
        wrong("PLACE-3", f"name-{what}", w.tier_plain(tier, name=text))
    for what, text in (("long", b"a" * 257), ("control", b"a\nb"), ("delete", b"\x7f"), ("utf-8", b"\xff")):
        wrong("PLACE-3", f"label-{what}", w.tier_plain(tier, label=text))
    wrong("PLACE-3", "address-empty", w.tier_plain(tier, address=b""))
    wrong("PLACE-3", "address-long", w.tier_plain(tier, address=b"a" * 4097))
    wrong("PLACE-3", "storage-class", w.tier_plain(tier, storage_class=b"a" * 257))
    wrong("PLACE-3", "class-name", w.tier_plain(tier, classes=[(b"Bulk", 1, 1, 1)]))
    wrong("PLACE-4", "order", w.tier_plain(tier, classes=classes[::-1]))
    wrong("PLACE-4", "twice", w.tier_plain(tier, classes=classes[:1] * 2))
    wrong("PLACE-4", "count", w.tier_plain(tier, classes=[(b"%02d" % n, 1, 1, 1) for n in range(17)]))
    wrong("CONV-2", "placement-tier-short", w.tier_plain(tier)[:-1])
    wrong("CONV-3", "placement-tier-long", w.tier_plain(tier) + b"\0")

    low, high = sorted((ident("pack one"), ident("pack two")))
    one, two = (low, 329, w.fixed("hash"), 5, 5), (high, 201_326_592, w.fixed("other hash"), 1_790_000_000, 1_800_000_000)
    c.valid("placement-packs", "placement", made(w.placed_plain(tier, [one, two])), name)
    wrong("CONV-4", "placement-packs-reserved", w.placed_plain(tier, [one], reserved=b"\0\0\1"))
    wrong("PLACE-5", "no-pack", w.placed_plain(tier, []))
    wrong("PLACE-5", "packs-count", w.placed_plain(tier, [])[:-1] + w.varint(65_537))
    wrong("PLACE-5", "packs-order", w.placed_plain(tier, [two, one]))
    wrong("PLACE-5", "packs-twice", w.placed_plain(tier, [one, one]))
    wrong("PLACE-6", "too-small", w.placed_plain(tier, [(low, 328, *one[2:])]))
    wrong("PLACE-6", "too-large", w.placed_plain(tier, [(low, 201_326_593, *one[2:])]))
    wrong("PLACE-6", "until", w.placed_plain(tier, [(*one[:3], 5, 4)]))
    wrong("CONV-2", "placement-packs-short", w.placed_plain(tier, [one])[:-1])
    c.invalid("OBJ-9", "placement-by-backup", "placement", made(w.tier_plain(tier), BACKUP), name)
    c.invalid("OBJ-9", "placement-by-admin", "placement", made(w.tier_plain(tier), ADMIN_SIGNER), name)


def holds(c: Any) -> None:
    name, other = named(names.HOLD, "hold"), ident("another hold")
    some = sorted((ident(f"held {n}"), ONE.id, w.fixed(f"held series {n}", 16)) for n in range(3))
    until = (w.NOW[0] + 86_400, 5)

    def made(*plain: Any, signer: w.Signer = MAINTAIN, tail: bytes = b"", **over: Any) -> bytes:
        return w.one_part(name, w.hold_plain(*plain, **over) + tail, signer)

    def wrong(rule: str, what: str, *plain: Any, signer: w.Signer = MAINTAIN, **over: Any) -> None:
        c.invalid(rule, what, "hold", made(*plain, signer=signer, **over), name)
    c.valid("hold-legal", "hold", made(1, some, note="h\u00f6ld".encode()), name)
    c.valid("hold-by-admin", "hold", made(1, some[:1], note=b"", signer=ADMIN_SIGNER), name)
    c.valid("hold-lock", "hold", made(2, some, until), name)
    c.valid("hold-lock-last-second", "hold", made(2, some[:1], (253_402_300_799, 999_999_999)), name)
    c.valid("hold-release", "hold", made(3, released=other, signer=ADMIN_SIGNER), name)
    wrong("HOLD-1", "action-0", 0, some)
    wrong("HOLD-1", "action-4", 4, some)
    wrong("HOLD-2", "lock-without-end", 2, some)
    wrong("HOLD-2", "lock-before-1970", 2, some, (-1, 999_999_999))
    wrong("HOLD-2", "lock-to-year-10000", 2, some, (253_402_300_800, 0))
    wrong("HOLD-2", "legal-with-end", 1, some, until)
    wrong("HOLD-2", "release-with-end", 3, (), (0, 1), released=other, signer=ADMIN_SIGNER)
    wrong("HOLD-3", "legal-releases", 1, some, released=other)
    wrong("HOLD-3", "lock-releases", 2, some, until, released=other)
    wrong("HOLD-3", "release-of-nothing", 3, signer=ADMIN_SIGNER)
    wrong("HOLD-4", "not-utf-8", 1, some, note=b"\xff")
    wrong("HOLD-4", "note-1025", 1, some, note=b"x" * 1025)
    wrong("HOLD-5", "no-snapshot", 1)
    wrong("HOLD-5", "order", 1, some[::-1])
    wrong("HOLD-5", "twice", 2, some[:1] * 2, until)
    wrong("HOLD-5", "release-with-snapshots", 3, some, released=other, signer=ADMIN_SIGNER)
    plain = w.hold_plain(1)[:-1] + w.varint(65_537)
    c.invalid("HOLD-5", "count", "hold", w.one_part(name, plain, MAINTAIN), name)
    wrong("HOLD-6", "release-by-maintain", 3, released=other)
    wrong("HOLD-6", "release-by-all", 3, released=other, signer=ALL)
    c.invalid("CONV-2", "hold-short", "hold", w.one_part(name, w.hold_plain(1, some)[:-1], MAINTAIN), name)
    wrong("CONV-3", "hold-long", 1, some, tail=b"\0")
    wrong("CONV-5", "hold-nanoseconds", 2, some, (5, 1_000_000_000))
    wrong("OBJ-9", "hold-by-backup", 1, some, signer=BACKUP)


# Sidecars

def sidecars(c: Any) -> None:
    copied = beat()
    place = parity.sidecar_of(BEAT)

    def sidecar(body: bytes, name: Name = place, signer: w.Signer = ALL) -> bytes:
        return w.finish(w.header(name) + body, signer)
    head = dict(of=BEAT, data=copied)
    c.valid("parity-copy", "sidecar", sidecar(w.sidecar_head(**head) + copied), place)
    c.valid("parity-by-admin", "sidecar", sidecar(w.sidecar_head(**head) + copied, signer=ADMIN_SIGNER), place)
    pack = named(names.DATA_PACK, "parity")
    noise = w.blake3(b"icecore vectors: parity").digest(length=9000)
    large = w.pack(pack, [Frame(ONE, 0, 0, [noise])], ALL)
    coded, of_pack = w.sidecar_code(large, 4096, 2), parity.sidecar_of(pack)
    head_of_pack = dict(of=pack, data=large, form=2, block_size=4096, recovery=2)
    c.valid("parity-pack", "data pack", large, pack)
    c.valid("parity-code", "sidecar", sidecar(w.sidecar_head(**head_of_pack) + coded, of_pack), of_pack)

    def wrong(rule: str, what: str, unsupported: bool = False, body: bytes = copied, name: Name = place, **over: Any) -> None:
        c.invalid(rule, what, "sidecar", sidecar(w.sidecar_head(**{**head, **over}) + body, name), name, unsupported)

    def wrong_code(rule: str, what: str, body: bytes = coded, **over: Any) -> None:
        c.invalid(rule, what, "sidecar", sidecar(w.sidecar_head(**{**head_of_pack, **over}) + body, of_pack), of_pack)
    own = Name(names.PARITY, place.id, 0)
    wrong("PARITY-1", "of-a-sidecar", of=own, name=parity.sidecar_of(own))
    wrong("PARITY-1", "kind-21", kind=21)
    wrong("PARITY-1", "another-name", of=Name(names.BEAT, ONE.id, 6))
    session = Name(names.SESSION, ONE.id, 6)
    wrong("PARITY-1", "number-of-a-session", of=session, name=parity.sidecar_of(session))
    wrong("PARITY-2", "form-3", True, form=3)
    wrong("PARITY-3", "reserved", reserved=1)
    wrong("PARITY-3", "small", size=311)
    wrong("PARITY-3", "large", size=1_048_577)
    wrong("PARITY-4", "copy-with-blocks", block_size=4096)
    wrong("PARITY-4", "copy-with-recovery", recovery=1)
    wrong_code("PARITY-4", "block-size-6144", block_size=6144)
    wrong_code("PARITY-4", "block-size-2048", block_size=2048)
    wrong_code("PARITY-4", "block-size-2-mib", block_size=2 << 20)
    wrong_code("PARITY-4", "recovery-0", recovery=0)
    wrong_code("PARITY-4", "recovery-36", recovery=36)
    wrong("PARITY-5", "copy-short", body=copied[:-1])
    wrong("PARITY-5", "copy-long", body=copied + b"\0")
    wrong_code("PARITY-5", "code-short", body=coded[:-1])
    wrong_code("PARITY-5", "recovery-3", recovery=3)
    # Beside its object.
    beside = dict(beside=copied.hex())

    def wrong_beside(rule: str, what: str, data: bytes, signer: w.Signer = ALL) -> None:
        c.invalid(rule, what, "sidecar", sidecar(w.sidecar_head(of=BEAT, data=data) + data, signer=signer), place, **beside)
    c.valid("parity-copy-beside", "sidecar", sidecar(w.sidecar_head(**head) + copied), place, **beside)
    c.valid("parity-copy-by-maintain", "sidecar", sidecar(w.sidecar_head(**head) + copied, signer=MAINTAIN), place, **beside)
    c.valid("parity-code-beside", "sidecar", sidecar(w.sidecar_head(**head_of_pack) + coded, of_pack), of_pack, beside=large.hex())
    wrong_beside("PARITY-6", "copy-damaged", copied[:70] + bytes([copied[70] ^ 1]) + copied[71:])
    wrong_beside("PARITY-6", "copy-of-another", w.one_part(Name(names.BEAT, ONE.id, 6), NOW, ALL))
    c.invalid("PARITY-6", "hash-of-another", "sidecar", sidecar(w.sidecar_head(of=BEAT, data=beat(signer=OTHER)) + copied), place, **beside)
    wrong_beside("PARITY-7", "copy-by-another", copied, BACKUP)
    wrong_beside("PARITY-8", "copy-of-an-earlier-one", beat(plain=w.time((-1, 999_999_999))))
    earlier = w.pack(pack, [Frame(ONE, 0, 0, [noise[::-1]])], ALL)
    c.invalid("PARITY-8", "code-of-an-earlier-one", "sidecar", sidecar(w.sidecar_head(**head_of_pack) + coded, of_pack), of_pack,
              beside=earlier.hex())
    c.invalid("CONV-2", "sidecar-short", "sidecar", sidecar(w.sidecar_head(**head)[:71]), place)
    c.invalid("OBJ-11", "sidecar-epoch-0", "sidecar", w.finish(w.header(place, 0) + w.sidecar_head(**head) + copied, ALL), place)
