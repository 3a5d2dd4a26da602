"""Agents in conversations with tools and users: episodes, success, pass^k.

:mod:`~agentft.simulate.episodes` holds the conversations, :mod:`~agentft.simulate.users` plays the users,
:mod:`~agentft.simulate.outcome` decides success, :mod:`~agentft.simulate.passk` makes figures of it.
"""
