import agentft


@agentft.hookimpl
def agentft_evaluator():
    return []
