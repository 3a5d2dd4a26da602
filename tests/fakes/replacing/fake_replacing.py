import agentft
from agentft.components import TransformSpec


@agentft.hookimpl
def agentft_transforms():
    return [TransformSpec("dedup", "Keeps everything", "fake_replacing:keep", replaces="dedup")]


def keep(records, config, ctx):
    return iter(records)
