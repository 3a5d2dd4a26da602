"""Digest of a model folder. Weights are hashed once; afterwards size and time of each file vouch for them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

# What decides how a model answers. Anything else in the folder (a README, other formats of the weights) does not count.
_PARTS = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("tokenizer*", "*.model", "vocab.*", "merges.txt", "*_tokens*.json", "chat_template*"),
)


def folder_digest(folder: Path, memory: Path) -> str:
    """sha256 over weights, configuration, tokenizer and chat template of ``folder``.

    Args:
        folder: the model.
        memory: JSON file that remembers ``path -> [size, mtime in ns, sha256]`` of files hashed before.
    """
    names = {path for pattern in _PARTS for path in folder.glob(pattern) if path.is_file()}
    digests = {path.name: digest for path, digest in file_digests(sorted(names), memory).items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def file_digests(paths: list[Path], memory: Path) -> dict[Path, str]:
    """sha256 of each file; read only where size or modification time changed since ``memory`` was written."""
    known = _read(memory)
    result, changed = {}, False
    for path in paths:
        # A hub snapshot links to its blobs: what is hashed, and remembered, is the file behind the link.
        real = path.resolve()
        stat = real.stat()
        entry = known.get(str(real))
        if not entry or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            with real.open("rb") as file:
                entry = [stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
            known[str(real)], changed = entry, True
        result[path] = entry[2]
    if changed:
        write_json(memory, {path: entry for path, entry in known.items() if os.path.exists(path)})
    return result


def _read(memory: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent or damaged: everything is hashed again
        return {}
    return known if isinstance(known, dict) else {}


def write_json(path: Path, data: Any) -> None:
    """Write and rename, so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, ensure_ascii=False)
    os.replace(name, path)
