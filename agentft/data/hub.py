"""``hub``: data sets of the Hugging Face hub, and folders that ``datasets`` wrote or can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.columns import Columns, record
from agentft.data.files import RowOptions, bad_rows, collected
from agentft.data.jsonl import BadRows
from agentft.data.plain import class_names, named_row, plain
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example


class HubConfig(RowOptions):
    """Options of the source ``hub``."""

    name: str = Field(
        min_length=1, description="hub id such as `squad`, or a folder relative to the recipe: of `save_to_disk`, or with data files"
    )
    config: str | None = Field(None, description="configuration of the data set, such as a language")
    split: str = Field("train", min_length=1, description="part to read")
    revision: str | None = Field(None, description="commit, tag or branch on the hub; a commit keeps the data from changing")
    streaming: bool = Field(False, description="hub ids: read over the network while training data are made, instead of downloading first")
    columns: Columns | None = Field(None, description="mapping for rows without `messages` and without `inputs`; see docs/data.md")

    @property
    def produces(self) -> str:
        """The kind of record, which follows from the columns; conversations without any."""
        return self.columns.produces if self.columns else "example"


def read_hub(config: HubConfig, ctx: DataContext) -> Iterator[Example | Labelled]:
    """Rows of a data set; numbers of classes become their names. The "line" in messages is the number of the row from 1.

    Code of the data set is never run.

    Raises:
        DataError: there is no such data set, configuration, split or column, or it cannot be reached.
    """
    data = _opened(config, ctx)
    where = f"{config.name}[{config.split}]"
    bad = bad_rows(config, ctx)
    rows = _rows(data, config.columns, where, bad)
    stem = f"{Path(config.name).name}-{config.split}"
    yield from collected(config, ctx, bad, [(where, stem, rows)], lambda row, name: record(row, config.columns, name))


def _opened(config: HubConfig, ctx: DataContext) -> Any:
    """The data set, mapped from disk or streamed; local files are recorded in ``ctx.files``."""
    import datasets

    folder = ctx.base / Path(config.name).expanduser()
    local = folder.is_dir()
    if not local and config.name.startswith((".", "/", "~")):
        raise DataError(f"there is no folder {folder}")
    if local:
        ctx.files += sorted(path for path in folder.rglob("*") if path.is_file())
    try:
        if local and any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
            return _part(datasets.load_from_disk(str(folder)), config, folder)
        # Files of a folder are read where they are; without streaming they would be copied into a cache first.
        data = datasets.load_dataset(
            str(folder) if local else config.name,
            config.config,
            split=config.split,
            revision=None if local else config.revision,
            streaming=local or config.streaming,
        )
    except (OSError, ValueError, ImportError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(_reason(error, config, local)) from None
    if not local:
        ctx.notes.setdefault("hub", []).append({"name": config.name, "revision": config.revision, "version": str(data.info.version or "")})
    return data


def _part(data: Any, config: HubConfig, folder: Path) -> Any:
    """One split of what ``load_from_disk`` gave."""
    import datasets

    if isinstance(data, datasets.DatasetDict):
        if config.split not in data:
            raise DataError(f"{folder}: no split '{config.split}' (splits: {', '.join(map(str, data))})")
        return data[config.split]
    saved = str(data.split) if data.split is not None else config.split
    if saved != config.split:
        raise DataError(f"{folder}: this is the split '{saved}', not '{config.split}' (set split: {saved})")
    return data


def _reason(error: Exception, config: HubConfig, local: bool) -> str:
    """One line about why a data set cannot be opened."""
    words = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if local:
        return f"cannot read the data set in {config.name}: {words}"
    hint = "is the name right, does it need a token (hf auth login), and is this machine online? A folder of save_to_disk works offline"
    return f"cannot open the data set '{config.name}' of the hub: {words} ({hint})"


def _rows(data: Any, columns: Columns | None, where: str, bad: BadRows) -> Iterator[tuple[int, Any]]:
    names = list(data.column_names or ())
    if names and columns is not None and not {"messages", "inputs"} & set(names):
        tops = {name: name if name in names else name.split(".")[0] for name in columns.wanted}
        for name, top in tops.items():
            if top not in names:
                raise DataError(f"{where}: no column '{name}' (columns: {', '.join(names)})")
        data = data.select_columns(sorted(set(tops.values())))
    named = class_names(data.features or {})
    for number, row in enumerate(data, 1):
        try:
            yield number, plain(named_row(row, named))
        except DataError as error:
            bad.add(where, number, error)
