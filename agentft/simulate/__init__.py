"""Agents in conversations with tools and users: episodes, success, pass^k."""
