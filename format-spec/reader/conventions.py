"""Integers, varints, blobs, times, hashes, keys, seals and signatures: the page `conventions`.

Every other module reads bytes through `Cursor` and reports what is wrong with `RuleError`, which carries the name of
the broken rule. Nothing here knows of objects or files.
"""
from __future__ import annotations

import hashlib
import struct
from typing import Optional, Tuple

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEM_XWING = 0x647A
ENCAPSULATED = 1120
PUBLIC_KEY = 1216
TAG = 16
ZERO_NONCE = bytes(12)
SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)

Time = Tuple[int, int]


class RuleError(Exception):
    """A broken rule of the pages. `unsupported`: a newer writer made the bytes; otherwise they are damaged."""

    def __init__(self, rule: str, message: str, unsupported: bool = False):
        super().__init__(f"{rule}: {message}" + (" (unsupported)" if unsupported else ""))
        self.rule, self.message, self.unsupported = rule, message, unsupported
        self.reported = False


def need(condition: object, rule: str, message: str) -> None:
    """Refuse as damaged unless the condition holds."""
    if not condition:
        raise RuleError(rule, message)


def unsupported_unless(condition: object, rule: str, message: str) -> None:
    """Refuse as unsupported unless the condition holds."""
    if not condition:
        raise RuleError(rule, message, unsupported=True)


class Cursor:
    """Reads fields one after the other and never past the end (CONV-2)."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        need(size <= self.left(), "CONV-2", f"{size} bytes wanted at {self.at}, {self.left()} left")
        self.at += size
        return self.data[self.at - size:self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def i64(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def time(self) -> Time:
        seconds, nanoseconds = self.i64(), self.u32()
        need(nanoseconds < 1_000_000_000, "CONV-5", f"{nanoseconds} nanoseconds")
        return seconds, nanoseconds

    def varint(self) -> int:
        value = 0
        for position in range(10):
            byte = self.u8()
            need(position < 9 or byte <= 1, "CONV-1", "varint of more than 64 bits")
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                need(byte or not position, "CONV-1", "varint longer than it need be")
                return value
        raise AssertionError("not reached")

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def blob(self) -> bytes:
        return self.take(self.varint())

    def zeros(self, size: int, rule: str = "CONV-4") -> None:
        need(not any(self.take(size)), rule, "reserved bytes are not zero")

    def fits(self, count: int) -> None:
        """A count of more items than there are bytes left is refused before anything is made for it."""
        need(count <= self.left(), "CONV-2", f"{count} items cannot stand in {self.left()} bytes")

    def end(self) -> None:
        need(self.left() == 0, "CONV-3", f"{self.left()} bytes too many")


def u8(value: int) -> bytes:
    return bytes([value])


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def hash32(data: bytes) -> bytes:
    """`hash` of the pages."""
    return blake3(data).digest()


def keyed(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(context: str, material: bytes, length: int = 32) -> bytes:
    return blake3(material, derive_key_context=context).digest(length=length)


def unseal(key: bytes, nonce: bytes, sealed: bytes) -> Optional[bytes]:
    """The plaintext of a seal, or None where it does not open."""
    if len(sealed) < TAG:
        return None
    try:
        return AESGCMSIV(key).decrypt(nonce, sealed, None)
    except (InvalidTag, ValueError):
        return None


def public_of(seed: bytes) -> bytes:
    """The Ed25519 verifying key of a signing seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def signed(key: bytes, context: str, data: bytes, signature: bytes) -> bool:
    """Whether the signature is that key's over context and data."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, context.encode("ascii") + data)
        return True
    except (InvalidSignature, ValueError):
        return False


def _xwing(seed: bytes) -> hpke.MLKEM768X25519PrivateKey:
    expanded = hashlib.shake_256(seed).digest(96)
    return hpke.MLKEM768X25519PrivateKey(MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
                                         X25519PrivateKey.from_private_bytes(expanded[64:]))


def xwing_public(seed: bytes) -> bytes:
    """The 1,216 bytes of the public key of an X-Wing seed: ML-KEM-768, then X25519."""
    expanded = hashlib.shake_256(seed).digest(96)
    kem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw()
    curve = X25519PrivateKey.from_private_bytes(expanded[64:]).public_key()
    return kem + curve.public_bytes(Encoding.Raw, PublicFormat.Raw)


def hpke_open(seed: bytes, info: bytes, encapsulated: bytes, ciphertext: bytes) -> Optional[bytes]:
    """The plaintext of an HPKE message to the public key of this seed, or None where it does not open."""
    try:
        return SUITE.decrypt(encapsulated + ciphertext, _xwing(seed), info=info)
    except (InvalidTag, ValueError):
        return None
