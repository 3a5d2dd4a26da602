import agentft
from agentft.components import SourceSpec


@agentft.hookimpl
def agentft_personas():
    return ["not a descriptor"]


@agentft.hookimpl
def agentft_sources():
    yield SourceSpec("fine", "Comes before the failure", "fake_badreturns:x")
