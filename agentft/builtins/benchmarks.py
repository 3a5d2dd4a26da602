"""Built-in environments that load public benchmarks of agents from the user's own copy."""

from __future__ import annotations

from agentft.components import EnvironmentSpec
from agentft.hookspecs import hookimpl

_S = "agentft.simulate"


@hookimpl
def agentft_environments() -> list[EnvironmentSpec]:
    return [
        EnvironmentSpec(
            "tau2",
            "Tasks of tau2-bench (retail, airline, mock) from your copy of it: customers, a database, a policy",
            f"{_S}.tau2:tau2",
            f"{_S}.tau2:Tau2Config",
        ),
        EnvironmentSpec(
            "bfcl",
            "Tasks of the Berkeley Function-Calling Leaderboard from your copy of it: is the right function called",
            f"{_S}.bfcl:bfcl",
            f"{_S}.bfcl:BfclConfig",
        ),
    ]
