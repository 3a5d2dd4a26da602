"""Customer-service domain plugin of agentft: personas, demonstrations and prompts."""
