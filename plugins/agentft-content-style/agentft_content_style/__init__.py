"""Writing styles for agentft: newsroom, brand voice and plain language."""
