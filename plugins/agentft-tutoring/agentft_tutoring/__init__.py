"""Tutor personas, demonstration sessions and prompts for agentft."""
