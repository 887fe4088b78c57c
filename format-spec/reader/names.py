"""Object names: the page `names`."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

CONFIG, SLOT, DATA_PACK, META_PACK, REFS_PACK, INDEX, SNAPSHOT = range(1, 8)
SESSION, BEAT, CLOSED, TOMBSTONE, WITHDRAWN, EPOCH, RELOCATION = range(8, 15)
PACKS = (DATA_PACK, META_PACK, REFS_PACK)
PLACEMENT, HOLD, PARITY = 15, 17, 18
SPREAD = PACKS + (PARITY,)
RESERVED = (16, 19, 20)

FOLDERS = ["config", "keys", "packs", "meta", "refs", "index", "snapshots", "sessions", "beats", "closed", "tombstones",
           "withdrawn", "epochs", "relocations", "placement", "scrubbed", "holds", "parity", "journal", "attest"]
KIND_OF = {folder: number for number, folder in enumerate(FOLDERS, 1)}
NO_ID = bytes(16)


@dataclass(frozen=True)
class Name:
    kind: int
    id: bytes
    number: int

    def __str__(self) -> str:
        folder, hexid, number = FOLDERS[self.kind - 1], self.id.hex(), f"{self.number:010d}"
        if self.kind in (CONFIG, EPOCH):
            return f"{folder}/{number}"
        if self.kind in (SLOT, BEAT):
            return f"{folder}/{hexid}/{number}"
        return f"{folder}/{hexid[:2]}/{hexid}" if self.kind in SPREAD else f"{folder}/{hexid}"


def parse(path: str) -> Optional[Name]:
    """The name that a path stands for; None for a stranger (NAME-1)."""
    folder, _, rest = path.partition("/")
    kind = KIND_OF.get(folder)
    if kind is None:
        return None
    pattern = r"(?P<number>[0-9]{10})" if kind in (CONFIG, EPOCH) else \
        r"(?P<id>[0-9a-f]{32})/(?P<number>[0-9]{10})" if kind in (SLOT, BEAT) else \
        r"(?P<spread>[0-9a-f]{2})/(?P<id>(?P=spread)[0-9a-f]{30})" if kind in SPREAD else r"(?P<id>[0-9a-f]{32})"
    match = re.fullmatch(pattern, rest, re.ASCII)
    if not match:
        return None
    parts = match.groupdict()
    number = int(parts.get("number") or 0)
    if "number" in parts and not 1 <= number <= 0xFFFFFFFF:
        return None
    return Name(kind, bytes.fromhex(parts.get("id") or NO_ID.hex()), number)
