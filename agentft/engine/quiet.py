"""Switches of the Hugging Face libraries that have to be set before they are imported.

agentft sends nothing, ever; and a console that prints other people's progress bars and notices hides our own messages.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",  # else a notice on every fork of a data loader
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}

# torchao, where it is installed, tells on every import which of its GPU kernels this machine cannot run.
_NOISY = ("torchao", "torch.utils._pytree")


def prepare_environment() -> None:
    """Set the switches. ``setdefault``: who sets one by hand keeps it; telemetry alone is forced off."""
    for name, value in _ENVIRONMENT.items():
        if "TELEMETRY" in name:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide progress bars and notices (not errors) of transformers, huggingface_hub and datasets inside the block."""
    prepare_environment()
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Each line names one notice that is known and harmless here; anything else still shows.
            warnings.filterwarnings("ignore", message=".*pin_memory.*no accelerator.*")
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing` is deprecated.*", category=FutureWarning)
            yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
