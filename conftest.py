"""For all tests, the plugins' too: no deadlines, because how long an example takes says more about the machine than about the code."""

from hypothesis import settings

settings.register_profile("agentft", deadline=None)
settings.load_profile("agentft")
