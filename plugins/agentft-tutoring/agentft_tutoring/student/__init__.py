"""Students with misconceptions: whom a tutor talks to in ``agentft simulate``."""
