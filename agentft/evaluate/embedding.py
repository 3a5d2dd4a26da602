"""Sentence embeddings for evaluators; few-shot examples are found with the same ones, see :mod:`agentft.engine.embedding`."""

from agentft.engine.embedding import EXTRA as EXTRA
from agentft.engine.embedding import PACKAGE as PACKAGE
from agentft.engine.embedding import cosine as cosine
from agentft.engine.embedding import embed as embed
from agentft.engine.embedding import installed as installed
from agentft.engine.embedding import readable as readable
