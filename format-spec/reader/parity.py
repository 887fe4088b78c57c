"""Sidecars, and healing by them: the page `parity`.

Blocks are large, so arithmetic is done on whole blocks: multiplying each byte of one is a look-up in a table of 256, adding two is
exclusive or of two long numbers.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

import names
from conventions import Cursor, derive, hash32, need, u8, u32, unsupported_unless
from names import Name
from objects import HEADER, LIMITS, OTHER_LIMIT, TRAILER

HEAD = 72
COPY, CODE = 1, 2
DATA_BLOCKS = 220

Read = Callable[[int, int], Optional[bytes]]


@dataclass(frozen=True)
class Sidecar:
    object: Name
    size: int
    hash: bytes
    form: int
    block_size: int
    recovery: int
    data: bytes                      # everything behind the head

    def blocks(self) -> int:
        return -(-self.size // self.block_size)

    def codewords(self) -> int:
        return -(-self.blocks() // DATA_BLOCKS)

    def data_blocks(self) -> int:
        """Of each codeword."""
        return -(-self.blocks() // self.codewords())

    def hash_of(self, block: int) -> bytes:
        return self.data[32 * block:32 * block + 32]

    def recovery_block(self, codeword: int, number: int) -> bytes:
        at = 32 * self.blocks() + (codeword * self.recovery + number) * self.block_size
        return self.data[at:at + self.block_size]


def sidecar_of(name: Name) -> Name:
    """The name of an object's sidecar."""
    return Name(names.PARITY, derive("icecore 1 parity id", u8(name.kind) + u32(name.number) + name.id)[:16], 0)


def decode_sidecar(name: Name, body: bytes) -> Sidecar:
    """PARITY-1 to PARITY-5."""
    cursor = Cursor(body)
    kind, form, recovery, number, ident = cursor.u8(), cursor.u8(), cursor.u16(), cursor.u32(), cursor.take(16)
    size, digest, block_size, reserved = cursor.u64(), cursor.take(32), cursor.u32(), cursor.u32()
    known = 1 <= kind <= len(names.FOLDERS) and kind != names.PARITY
    healed = Name(kind, ident, number)
    need(known and names.parse(str(healed)) == healed and sidecar_of(healed) == name, "PARITY-1", "of no object that there can be")
    unsupported_unless(form in (COPY, CODE), "PARITY-2", f"form {form}")
    fits = HEADER + TRAILER <= size <= LIMITS.get(kind, OTHER_LIMIT)
    need(reserved == 0 and fits, "PARITY-3", f"reserved field, or an object of {size} bytes")
    sidecar = Sidecar(healed, size, digest, form, block_size, recovery, body[HEAD:])
    if form == COPY:
        need(block_size == recovery == 0, "PARITY-4", "a copy with blocks")
        need(len(sidecar.data) == size, "PARITY-5", f"{len(sidecar.data)} bytes of a copy")
        return sidecar
    power = block_size & (block_size - 1) == 0 and 4096 <= block_size <= 1 << 20
    need(power and 1 <= recovery <= 35, "PARITY-4", f"blocks of {block_size} bytes, {recovery} for recovery")
    blocks, length = sidecar.blocks(), sidecar.codewords() * recovery * block_size
    need(len(sidecar.data) == 32 * blocks + length and length <= 1 << 25, "PARITY-5", f"{len(sidecar.data)} bytes of hashes and blocks")
    return sidecar


# The field

def times_two(element: int) -> int:
    return (element << 1) ^ (0x11D if element & 0x80 else 0)


def times(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        product ^= a if b >> bit & 1 else 0
        a = times_two(a)
    return product


POWERS = [1]
while len(POWERS) < 255:
    POWERS.append(times_two(POWERS[-1]))
TABLES = {element: bytes(times(element, byte) for byte in range(256)) for element in range(256)}
RECIPROCALS = {element: next(e for e in range(1, 256) if TABLES[element][e] == 1) for element in range(1, 256)}


def scaled(block: bytes, factor: int) -> bytes:
    return block.translate(TABLES[factor])


def added(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


# Codewords

def missing_blocks(blocks: Sequence[Optional[bytes]], recovery: int, size: int) -> Optional[Dict[int, bytes]]:
    """The blocks of a codeword that are None, by their places; None where they are too many."""
    missing = [place for place, block in enumerate(blocks) if block is None]
    if len(missing) > recovery:
        return None
    values: List[bytes] = []
    for j in range(len(missing)):
        value = bytes(size)
        for block in blocks:
            value = added(scaled(value, POWERS[j]), (block or b"").ljust(size, b"\0"))
        values.append(value)
    # One row for each j: the factors of the missing blocks, and the value that they add up to.
    rows = [[POWERS[j * (len(blocks) - 1 - place) % 255] for place in missing] for j in range(len(missing))]
    for at in range(len(missing)):
        pivot = next(row for row in range(at, len(missing)) if rows[row][at])
        rows[at], rows[pivot], values[at], values[pivot] = rows[pivot], rows[at], values[pivot], values[at]
        factor = RECIPROCALS[rows[at][at]]
        rows[at], values[at] = [times(factor, element) for element in rows[at]], scaled(values[at], factor)
        for row in range(len(missing)):
            factor = rows[row][at]
            if row != at and factor:
                rows[row] = [element ^ times(factor, other) for element, other in zip(rows[row], rows[at])]
                values[row] = added(values[row], scaled(values[at], factor))
    return dict(zip(missing, values))


def recovery_blocks(data: Sequence[bytes], recovery: int, size: int) -> List[bytes]:
    solved = missing_blocks([*data, *[None] * recovery], recovery, size)
    return [solved[len(data) + number] for number in range(recovery)]


def heal(sidecar: Sidecar, read: Read) -> Optional[bytes]:
    """The object's bytes out of what `read(offset, size)` can still give of it; None where too much is lost. Nothing is checked but blocks."""
    if sidecar.form == COPY:
        return sidecar.data
    size, count, codewords = sidecar.block_size, sidecar.blocks(), sidecar.codewords()
    blocks: List[Optional[bytes]] = []
    for number in range(count):
        length = min(size, sidecar.size - number * size)
        block = read(number * size, length)
        blocks.append(block if block is not None and hash32(block) == sidecar.hash_of(number) else None)
    for codeword in range(codewords):
        numbers = range(codeword, count, codewords)
        own: List[Optional[bytes]] = [blocks[number] for number in numbers]
        own += [b""] * (sidecar.data_blocks() - len(own))
        own += [sidecar.recovery_block(codeword, number) for number in range(sidecar.recovery)]
        solved = missing_blocks(own, sidecar.recovery, size)
        if solved is None:
            return None
        for place, block in solved.items():
            blocks[numbers[place]] = block
    return b"".join(blocks)[:sidecar.size]
