import agentft


@agentft.hookimpl
def agentft_resolve_model(name):
    return None
