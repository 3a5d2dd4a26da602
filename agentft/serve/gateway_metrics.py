"""Counters, gauges and histograms in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds; an answer of a small model on a laptop takes some, a refusal a few milliseconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

Labels = tuple[tuple[str, str], ...]


class Counter:
    """Goes up only."""

    kind = "counter"

    def __init__(self, name: str, help: str):
        self.name, self.help = name, help
        self.values: dict[Labels, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        key = tuple(sorted(labels.items()))
        self.values[key] = self.values.get(key, 0) + amount

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self.values.items()):
            yield f"{self.name}{_labels(labels)} {_number(value)}"


class Gauge:
    """What a function says when it is asked: labels -> value."""

    kind = "gauge"

    def __init__(self, name: str, help: str, read: Callable[[], Mapping[Labels, float]]):
        self.name, self.help, self.read = name, help, read

    def lines(self) -> Iterator[str]:
        for labels, value in sorted(self.read().items()):
            yield f"{self.name}{_labels(labels)} {_number(value)}"


class Histogram:
    """How often a value was at most that of each bucket."""

    kind = "histogram"

    def __init__(self, name: str, help: str, buckets: tuple[float, ...] = BUCKETS):
        self.name, self.help, self.buckets = name, help, buckets
        self.values: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, value: float, **labels: str) -> None:
        counts, total = self.values.setdefault(tuple(sorted(labels.items())), ([0] * (len(self.buckets) + 1), [0.0]))
        counts[bisect_left(self.buckets, value)] += 1
        total[0] += value

    def lines(self) -> Iterator[str]:
        for labels, (counts, total) in sorted(self.values.items()):
            sum_ = 0
            for bound, count in zip((*map(_number, self.buckets), "+Inf"), counts, strict=True):
                sum_ += count
                yield f"{self.name}_bucket{_labels((*labels, ('le', bound)))} {sum_}"
            yield f"{self.name}_sum{_labels(labels)} {_number(total[0])}"
            yield f"{self.name}_count{_labels(labels)} {sum_}"


class Metrics:
    """What the gateway counts."""

    def __init__(self) -> None:
        self.requests = Counter("agentft_requests_total", "Requests by path, agent and status of HTTP")
        self.refusals = Counter("agentft_refusals_total", "Requests that were refused, by the code that the caller got")
        self.cancelled = Counter("agentft_cancelled_total", "Requests whose caller went away before the answer was complete")
        self.tokens = Counter("agentft_tokens_total", "Tokens by agent and kind: prompt, cached (of these, not computed anew), completion")
        self.seconds = Histogram("agentft_request_seconds", "From a request's arrival to its last byte, by agent")
        self.first = Histogram("agentft_first_token_seconds", "From a request's arrival to the first piece of a streamed answer, by agent")
        self.tools = Counter("agentft_tool_calls_total", "Tool calls run by the gateway, by agent, tool and outcome")
        self.gauges: list[Gauge] = []

    def text(self) -> str:
        found = []
        own: list[Counter | Histogram] = [self.requests, self.refusals, self.cancelled, self.tokens, self.seconds, self.first, self.tools]
        for metric in (*own, *self.gauges):
            found += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
        return "\n".join(found) + "\n"


def _labels(labels: Labels) -> str:
    escaped = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{','.join(escaped)}}}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
