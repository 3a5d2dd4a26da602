"""What preference training did, in plain words."""

from __future__ import annotations

from collections.abc import Mapping


def preference_words(metrics: Mapping[str, float]) -> list[str]:
    """Sentences about margin, accuracy and drift, for the report and the terminal; empty where nothing was measured."""
    if "margin" not in metrics:
        return []
    found = [
        f"At the end the model prefers the chosen answer in {metrics['accuracy']:.0%} of the pairs, "
        f"by {metrics['margin']:.2f} (beta times the gained log-odds); "
        "at the start both figures are 0 by construction, except with fresh virtual tokens."
    ]
    drift = metrics["drift_chosen"]
    if drift < -20:
        found.append(
            f"The chosen answers became far less likely than under the reference ({drift:+.1f} nats per answer): likelihood is being "
            "displaced to other texts. Lower the learning rate, raise beta, or raise the weight of `sft`."
        )
    elif drift < 0:
        found.append(
            f"The chosen answers became less likely than under the reference ({drift:+.1f} nats per answer), the rejected ones more so "
            f"({metrics['drift_rejected']:+.1f}). That is usual for DPO; raise the weight of `sft` if the answers get worse."
        )
    else:
        found.append(f"The chosen answers became likelier than under the reference ({drift:+.1f} nats per answer).")
    if metrics["margin"] < 0.02:
        found.append("The margin hardly moved: the rate is too low, there are too few steps, or the pairs say nothing.")
    return found
