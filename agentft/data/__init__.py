"""From sources to train, validation, test and prompts, with every row accounted for."""
