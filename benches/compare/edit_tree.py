"""Edits a source tree as a few weeks of work would, the same way each time.

What happens to a file depends on its path alone: of 1,000 files 20 get a line in their middle, 2 are removed, 2 get a changed copy
beside them, and 1 is moved.
"""

import hashlib
from pathlib import Path

LINE = b"/* edited */\n"


def with_line(content: bytes) -> bytes:
    middle = content.find(b"\n", len(content) // 2) + 1
    return content[:middle] + LINE + content[middle:]


def edit(path: Path, name: str) -> None:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 1000
    if number < 20:
        path.write_bytes(with_line(path.read_bytes()))
    elif number < 22:
        path.unlink()
    elif number < 24:
        path.with_name(path.name + ".copy").write_bytes(with_line(path.read_bytes()))
    elif number < 25:
        path.rename(path.with_name("moved-" + path.name))


def edit_all(root: Path) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    for path in files:
        edit(path, str(path.relative_to(root)))

