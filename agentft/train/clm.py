"""Language modelling on raw texts: a chat model learns the words and facts of a field. The loop is that of ``sft``."""

from __future__ import annotations

from pydantic import Field

from agentft.contracts import TrainJob, TrainResult
from agentft.train.checkpoints import finished
from agentft.train.sft import SFTConfig, fine_tune


class ClmConfig(SFTConfig):
    """Options of ``use: clm``."""

    epochs: float = Field(1.0, gt=0, description="Passes over the texts.")
    block: int = Field(512, ge=8, description="Tokens of a row, at most data.max_length.")
    pack: bool = Field(
        True, description="Documents follow one another in a row, the end token between them; false: each document in rows of its own."
    )


def train(job: TrainJob) -> TrainResult:
    """Train on blocks of text as :func:`agentft.render.texts.clm_rows` writes them; otherwise as :func:`agentft.train.sft.train`."""
    return finished(job, fine_tune)
