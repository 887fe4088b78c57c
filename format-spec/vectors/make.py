"""Makes all vectors anew: `context.json`, `known.json`, `valid/`, `invalid/`, `index.json`, `hpke.json`.

    python3 format-spec/vectors/make.py

Every file comes out the same byte for byte. What is made is read with the second reader at once: a valid file must be
understood, an invalid one must break just the rule that its name says.
"""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, Optional

import writer as w
import known
from check_vectors import Given
from conventions import RuleError
from names import Name

HERE = Path(__file__).resolve().parent


class Collection:
    """The vectors made so far."""

    def __init__(self, given: Given):
        self.given, self.entries = given, []
        for folder in ("valid", "invalid"):
            shutil.rmtree(HERE / folder, ignore_errors=True)
            (HERE / folder).mkdir()

    def _write(self, file: str, data: bytes) -> None:
        path = HERE / file
        assert not path.exists(), f"{file} twice"
        path.write_bytes(data)

    def _entry(self, file: str, structure: str, name: Optional[Name], context: Dict[str, Any], expect: Dict[str, Any]) -> None:
        self.entries.append({"file": file, "structure": structure, "object": str(name) if name else None,
                             "context": context, "expect": expect})

    def valid(self, what: str, structure: str, data: bytes, name: Optional[Name] = None, **context: Any) -> None:
        file = f"valid/{what}.bin"
        try:
            decoded = self.given.decode(structure, data, str(name) if name else None, context)
        except RuleError as error:
            raise AssertionError(f"{file} should be valid: {error}") from error
        self._write(file, data)
        self._entry(file, structure, name, context, {"ok": decoded})

    def invalid(self, rule: str, what: str, structure: str, data: bytes, name: Optional[Name] = None, unsupported: bool = False,
                **context: Any) -> None:
        file = f"invalid/{rule}-{what}.bin"
        try:
            self.given.decode(structure, data, str(name) if name else None, context)
            found = None
        except RuleError as error:
            found = (error.rule, error.unsupported)
        assert found == (rule, unsupported), f"{file}: the reader says {found}"
        self._write(file, data)
        self._entry(file, structure, name, context, {"rule": rule, "unsupported": unsupported})


def save(name: str, value: Any) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    import objects_vectors
    import pieces_vectors
    context = known.context()
    save("context.json", context)
    save("known.json", known.answers())
    collection = Collection(Given(context))
    objects_vectors.make(collection)
    pieces_vectors.make(collection)
    save("index.json", collection.entries)
    w.HPKE.save()
    counts = [sum(e["file"].startswith(folder) for e in collection.entries) for folder in ("valid/", "invalid/")]
    print(f"{counts[0]} valid, {counts[1]} invalid")


if __name__ == "__main__":
    main()
