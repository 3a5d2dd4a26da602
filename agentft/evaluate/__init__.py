"""Metrics, statistics and the comparison of two agents. Every metric is ``(samples, generate, config, ctx) -> list[Score]``.

Nothing is imported here: a metric's libraries are loaded when the metric is used.
"""
