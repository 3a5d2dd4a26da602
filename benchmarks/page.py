"""The results of ``benchmarks/run.py`` as docs/benchmarks.md: tables, ratios with their spread, proof of equality, targets, pictures.

    write(Path("benchmarks/results"), Path("docs"))

Figures come from the result files alone. What has no file says "not measured".
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pictures import Spread, bars, lines

NOT = "not measured"
PEERS = ("TRL, defaults", "TRL, tuned")
SIZES = {"data-1k": 1_000, "data-10k": 10_000, "data-100k": 100_000}

HEAD = """# Benchmarks

`make bench` runs everything on this page on your machine and writes the page anew (`python benchmarks/run.py --help`; each result is
kept in `benchmarks/results/`, so that an interrupted run goes on). Peers and agentft run in one process, in turns; times are medians with
the least and the greatest run in brackets, a ratio is taken within each round and says how many times as fast agentft is.

All figures are for SmolLM2-135M on the CPU below, with prompts that share a persona's prompt (256 tokens where nothing else is said).
Without a shared prefix there is little to save; that figure is here too."""


@dataclass
class Results:
    """Results by name, the folder for pictures, and the comparisons with the project's targets, in the order in which they were made."""

    folder: Path
    images: Path

    def __post_init__(self) -> None:
        self.files = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(self.folder.glob("*.json"))}
        self.targets: list[list[str]] = []

    def get(self, name: str) -> Any:
        """What the script of ``name`` printed, or None."""
        return self.files[name]["output"] if name in self.files else None

    def cases(self, *names: str) -> list[dict[str, Any]]:
        return [case for name in names if name in self.files for case in self.get(name)["cases"]]

    def command(self, *names: str) -> str:
        """The commands of the results, for a reader who wants to run them."""
        ran = [self.files[name]["command"] for name in names if name in self.files]
        return "```bash\n" + "\n".join(ran) + "\n```" if ran else NOT

    def target(self, what: str, wanted: float, found: Sequence[float] | None, unit: str = "x") -> None:
        """Hold a median against a target; the spread is shown, and does not decide."""
        if found is None:
            self.targets.append([what, f"{wanted:g} {unit}", NOT, ""])
        else:
            verdict = "reached" if found[0] >= wanted else "**not reached**"
            self.targets.append([what, f"{wanted:g} {unit}", f"{spread(found)} {unit}", verdict])


# --- pieces of text -------------------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """``median (least to greatest)``, or the figure alone if there was one run."""
    middle, low, high = values
    return number(middle) if low == high else f"{number(middle)} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    found = [*rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *found]) if found else NOT


def picture(name: str, alt: str) -> str:
    return f"![{alt}](images/{name}.svg)"


def arms_of(case: Mapping[str, Any], memory: bool = True) -> str:
    """Seconds of each arm of a case, how many times as fast agentft is, and peak memory where there is any."""
    fast, peak = case["times_as_fast_as"], case.get("memory_mib") or {}
    rows = [
        [
            name,
            f"{spread(times)} s",
            f"{spread(fast[name])} x" if name in fast else "",
            f"{number(peak[name])} MiB" if name in peak else NOT,
        ]
        for name, times in case["seconds"].items()
    ]
    head = ["", "seconds", "agentft is faster by", "peak memory"]
    return table(head, rows) if memory else table(head[:-1], [row[:-1] for row in rows])


def apart(losses: Mapping[str, Sequence[float]]) -> str:
    """The largest difference of two curves of losses, step by step."""
    ways = [*losses]
    pairs = [(a, b) for i, a in enumerate(ways) for b in ways[i + 1 :]]
    found = []
    for a, b in pairs:
        steps = [*zip(losses[a], losses[b], strict=True)]
        largest = max(abs(x - y) for x, y in steps)
        relative = max(abs(x - y) / abs(x) for x, y in steps if x)
        found.append([f"{a} / {b}", str(len(steps)), f"{largest:.4f}", f"{relative:.2%}"])
    return table(["losses of", "steps", "largest difference", "of the loss"], found)


def tokens_equal(case: Mapping[str, Any]) -> str:
    """Rows with equal tokens, and how near a tie the others were where they part."""
    equal, gaps = case["rows_with_equal_tokens"], case["gap_of_best_logits_where_rows_part"]
    gap = f"; where the others part, the two best logits are at most {max(gaps):.2g} apart" if gaps else ""
    return f"{equal} of {case['rows']}{gap}"


# --- sections -------------------------------------------------------------------------------------------------------------------------


def sft(results: Results) -> str:
    case = next(iter(results.cases("sft")), None)
    fast = case["times_as_fast_as"] if case else {}
    results.target("SFT step, against tuned TRL", 3.5, fast.get(PEERS[1]))
    results.target("SFT step, against TRL's defaults", 7, fast.get(PEERS[0]))
    if case is None:
        results.target("SFT step, share of the bf16 product rate", 65, None, "%")
        return NOT
    rate = results.get("sft")["machine"]["bf16_gflops"]
    middle, low, high = (case["gflop_of_a_step"] / one / rate * 100 for one in case["seconds"]["agentft"])
    results.target("SFT step, share of the bf16 product rate", 65, (middle, high, low), "%")
    bars(results.images / "bench-sft.svg", {f"seconds of a step ({case['rows_of_a_step']} rows)": case["seconds"]})
    return f"""{picture("bench-sft", "Seconds of an SFT step")}

One optimiser step of LoRA, {case["rows_of_a_step"]} conversations, {case["prefix"]} common tokens. Peak memory: rise of the resident memory
over two steps in a process of its own, weights included.

{arms_of(case)}

The step has {number(case["gflop_of_a_step"])} GFLOP when the common tokens are computed once; agentft does
{number(middle / 100 * rate)} GFLOP/s, {middle:.0f} % of what a large bf16 product reached just before ({number(rate)} GFLOP/s).

{apart(case["losses"])}

TRL's two ways differ from each other too: they round in different places."""


def dpo(results: Results) -> str:
    case = next(iter(results.cases("dpo")), None)
    fast = case["times_as_fast_as"] if case else {}
    results.target("DPO epoch with reference, against tuned TRL", 4.5, fast.get(PEERS[1]))
    results.target("DPO epoch with reference, against TRL's defaults", 8, fast.get(PEERS[0]))
    if case is None:
        return NOT
    bars(results.images / "bench-dpo.svg", {f"seconds for {case['pairs']} pairs": case["seconds"]})
    return f"""{picture("bench-dpo", "Seconds of a DPO epoch")}

{case["pairs"]} pairs, {case["pairs_of_a_step"]} a step, {case["prefix"]} common tokens, from loading the model to the last step;
the reference model's log-probabilities are included. agentft's time includes saving the adapter.

{arms_of(case)}

{apart(case["losses"])}"""


def score(results: Results) -> str:
    cases = [one for case in results.cases("score") for one in case["cases"]]
    eight = next((one["times_as_fast"] for one in cases if one["candidates"] == 8), None)
    results.target("scoring 8 candidates, against a padded forward pass", 5, as_spread(eight))
    if not cases:
        return NOT
    rows = [
        [
            str(one["candidates"]),
            str(one["prompts"]),
            *(f"{spread(one['seconds'][way])} s" for way in ("padded forward", "agentft")),
            f"{spread(as_spread(one['times_as_fast']) or ())} x",
            f"{one['largest_difference']:.2g}",
        ]
        for one in cases
    ]
    ways = {way: [(one["candidates"], one["seconds"][way][0] / one["prompts"]) for one in cases] for way in ("padded forward", "agentft")}
    last = {f"seconds, {one['candidates']} candidates": one["seconds"] for one in cases if one["candidates"] == 8}
    if last:
        bars(results.images / "bench-score.svg", last)
    lines(results.images / "bench-score-candidates.svg", {"seconds for a prompt's candidates": ways}, "candidates")
    head = ["candidates", "prompts", "padded forward", "agentft", "agentft is faster by", "largest difference of a log-probability"]
    return f"""{picture("bench-score", "Seconds to score 8 candidates") if last else ""}

Log-probabilities of the candidates of prompts with {cases[0]["prefix"] + 30} tokens, in {results.cases("score")[0]["dtype"]}.

{table(head, rows)}

{picture("bench-score-candidates", "Seconds to score a prompt's candidates, by their number")}"""


def as_spread(value: Any) -> tuple[float, float, float] | None:
    return (value["median"], value["min"], value["max"]) if value else None


def generation(results: Results) -> str:
    case = next(iter(results.cases("generation")), None)
    fast = case["times_as_fast_as"] if case else {}
    results.target("generation, 64 prompts x 64 tokens, against generate", 3, fast.get("generate"))
    results.target("generation, 64 prompts x 64 tokens, against generate with a copied prefix", 1.5, fast.get("generate + copied prefix"))
    if case is None:
        return NOT
    bars(results.images / "bench-generation.svg", {f"seconds for {case['rows']} x {case['new_tokens']:.0f} tokens": case["seconds"]})
    return f"""{picture("bench-generation", "Seconds to generate answers")}

{case["rows"]} prompts with {case["shared_tokens"]} common and {case["own_tokens"]:.0f} own tokens, {case["new_tokens"]:.0f} new ones
each, {case["dtype"]}. Peak memory: rise of the resident memory on one thread, weights not included.

{arms_of(case)}

Rows with the same tokens as `generate`: {tokens_equal(case)}."""


def uneven(results: Results) -> str:
    case = next(iter(results.cases("generation-uneven")), None)
    if case is None:
        return NOT
    return f"""{case["rows"]} prompts, {case["slots"]} at a time; answers have {case["new_tokens"]:.0f} tokens on average
and {case["longest_answer"]} at most.

{arms_of(case, memory=False)}

Rows with the same tokens as `generate`: {tokens_equal(case)}."""


def llamacpp(results: Results) -> str:
    found = results.get("llamacpp")
    ratio: dict[str, Spread] = {}
    for state in ("cold", "warm") if found else ():
        own = found["runs"][f"agentft, {state}"]
        peers = [runs for name, runs in found["runs"].items() if name.endswith(state) and not name.startswith("agentft")]
        best = max(peers, key=statistics.median)
        rounds = [a / b for a, b in zip(own, best, strict=True)]
        ratio[state] = (statistics.median(rounds), min(rounds), max(rounds))
    for state in ("cold", "warm"):
        results.target(f"generation, against llama.cpp's best number of slots, {state}", 2, ratio.get(state))
    if not found:
        return NOT
    alike = found["answers_with_the_first_8_words_of_agentft"]
    rates = {name: (middle, *found["spread"][name]) for name, middle in found["tokens_per_second"].items()}
    bars(results.images / "bench-llamacpp.svg", {"tokens per second (more is better)": rates})
    rows = [
        [name, spread(values), str(found["failed"][name.rpartition(", ")[0]]), f"{alike[name.rpartition(', ')[0]]} of {found['rows']}"]
        for name, values in rates.items()
    ]
    return f"""{picture("bench-llamacpp", "Tokens per second of agentft and llama.cpp")}

{found["rows"]} prompts, up to {found["new_tokens"]} new tokens. llama.cpp is the portable wheel `xllamacpp`; it computes
with 4-bit weights, agentft with what they stand for, so answers may part. Warm: the same prompts were answered before.

{table(["", "tokens per second", "failed", "answers that begin with agentft's first 8 words"], rows)}

agentft is faster by {spread(ratio["cold"])} x cold and {spread(ratio["warm"])} x warm, against the better number of slots."""


def prefix(results: Results) -> str:
    names = ("sft-prefix", "sft", "sft-prefix-2048")
    steps = sorted(results.cases(*names), key=lambda case: case["prefix"])
    bare = next((case["times_as_fast_as"].get(PEERS[1]) for case in steps if case["prefix"] == 0), None)
    results.target("SFT step without a shared prefix, against tuned TRL", 0.95, bare)
    answers = results.cases("generation-prefix")
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    arms = [arm for arm in (*PEERS, "agentft") if any(arm in case["seconds"] for case in steps) and arm != PEERS[0]]
    if steps:
        panels["SFT: seconds for a row"] = {
            arm: [(case["prefix"], case["seconds"][arm][0] / case["rows_of_a_step"]) for case in steps if arm in case["seconds"]]
            for arm in arms
        }
    if answers:
        panels["generation: seconds for an answer"] = grown(answers, "shared_tokens")
    if panels:
        lines(results.images / "bench-prefix.svg", panels, "tokens that all prompts begin with")
    rows = [
        [
            str(case["prefix"]),
            str(case["rows_of_a_step"]),
            *(f"{spread(case['seconds'][arm])} s" if arm in case["seconds"] else NOT for arm in (PEERS[1], "agentft")),
            f"{spread(case['times_as_fast_as'][PEERS[1]])} x" if PEERS[1] in case["times_as_fast_as"] else NOT,
            f"{max(abs(a - b) for a, b in zip(case['losses'][PEERS[1]], case['losses']['agentft'], strict=True)):.4f}"
            if PEERS[1] in case["losses"]
            else NOT,
        ]
        for case in steps
    ]
    head = ["common tokens", "rows of a step", "TRL, tuned", "agentft", "agentft is faster by", "largest difference of the losses"]
    return f"""{picture("bench-prefix", "Cost by the number of common tokens") if panels else ""}

SFT step:

{table(head, rows)}

Generation:

{answers_table(answers, "shared_tokens", "common tokens")}"""


def candidates(results: Results) -> str:
    answers = results.cases("generation-candidates")
    if not answers:
        return NOT
    lines(
        results.images / "bench-candidates.svg",
        {"generation: seconds for an answer": grown(answers, "candidates")},
        "candidates of a prompt",
    )
    return f"""{picture("bench-candidates", "Seconds for an answer, by candidates of a prompt")}

The same number of answers, to fewer and fewer prompts (each with words of its own). Scoring is [above](#scoring-candidates).

{answers_table(answers, "candidates", "candidates")}"""


def grown(cases: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[tuple[float, float]]]:
    """Seconds for an answer by ``key``, of each arm."""
    arms = dict.fromkeys(arm for case in cases for arm in case["seconds"])
    return {arm: [(case[key], case["seconds"][arm][0] / case["rows"]) for case in cases if arm in case["seconds"]] for arm in arms}


def answers_table(cases: Sequence[Mapping[str, Any]], key: str, name: str) -> str:
    peers = ("generate", "generate + copied prefix")
    rows = [
        [
            str(case[key]),
            str(case["rows"]),
            *(f"{spread(case['seconds'][arm])} s" if arm in case["seconds"] else "" for arm in (*peers, "agentft")),
            *(f"{spread(case['times_as_fast_as'][arm])} x" if arm in case["times_as_fast_as"] else "" for arm in peers),
            tokens_equal(case),
        ]
        for case in cases
    ]
    head = [name, "answers", *peers, "agentft", "faster than generate by", "than the copied prefix by", "rows with equal tokens"]
    return table(head, rows)


def rows_growth(results: Results) -> str:
    found = {size: results.get(name) for name, size in SIZES.items() if name in results.files}
    steps = next(iter(results.cases("sft")), None)
    text = [f"Rendering, masking and tokenising conversations.\n\n{results.command(*SIZES)}" if found else f"Data path: {NOT}."]
    if found:
        ways = dict.fromkeys(way for one in found.values() for way in one["ways"])
        panels = {
            title: {way: [(one["rows"], one["ways"][way][key]) for one in found.values() if way in one["ways"]] for way in ways}
            for title, key in (("seconds", "seconds"), ("peak memory in MB", "mb"))
        }
        lines(results.images / "bench-rows.svg", panels, "conversations", log=True)
        lists = [
            [
                f"{one['rows']:,}",
                way,
                f"{number(seen['seconds'])} s",
                f"{number(one['rows'] / seen['seconds'])}",
                f"{number(seen['mb'])} MB",
                f"{one['compared'][way]['times_as_long']:.1f} x" if way in one["compared"] else "",
                f"{one['compared'][way]['rows_that_differ']} of {one['compared'][way]['rows']:,}" if way in one["compared"] else "",
            ]
            for one in found.values()
            for way, seen in one["ways"].items()
        ]
        head = [
            "rows",
            "way x processes",
            "seconds",
            "rows per second",
            "peak memory",
            "agentft is faster by",
            "rows that differ in ids or labels",
        ]
        text += [picture("bench-rows", "Seconds and peak memory of the data path, by rows"), table(head, lists)]
    if missing := [f"{size:,}" for name, size in SIZES.items() if name not in results.files]:
        text.append(f"Data path at {', '.join(missing)} rows: {NOT}.")
    if steps:
        batch = steps["rows_of_a_step"]
        epochs = [
            [f"{size:,}", *(hours(seconds[0] * -(-size // batch)) for seconds in steps["seconds"].values())]
            for size in (1_000, 10_000, 100_000)
        ]
        text += [
            f"An SFT epoch, **computed and not run**: the measured seconds of a step times the number of steps of {batch} rows.",
            table(["rows", *steps["seconds"]], epochs),
        ]
    else:
        text.append(f"SFT epoch: {NOT}.")
    return "\n\n".join(text)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def memory(results: Results) -> str:
    found = results.get("memory")
    if not found:
        return NOT
    rows = [
        [
            one["what"],
            one["dtype"],
            str(one["tokens"]),
            *(f"{number(one[key] / 2**20)} MiB" for key in ("estimate", "peak")),
            f"{one['estimate'] / one['peak']:.2f}",
        ]
        for one in found
    ]
    return "The estimate that chooses the micro-batch, beside the real peak, each in a process of its own.\n\n" + table(
        ["what", "precision", "tokens", "estimate", "peak", "estimate / peak"], rows
    )


SECTIONS: list[tuple[str, tuple[str, ...], Callable[[Results], str]]] = [
    ("SFT step", ("sft",), sft),
    ("DPO epoch", ("dpo",), dpo),
    ("Scoring candidates", ("score",), score),
    ("Generation", ("generation",), generation),
    ("Generation, answers of different lengths", ("generation-uneven",), uneven),
    ("Generation, against llama.cpp", ("llamacpp",), llamacpp),
    ("Growth with the persona's prompt", ("sft-prefix", "sft-prefix-2048", "generation-prefix"), prefix),
    ("Growth with candidates", ("generation-candidates",), candidates),
    ("Growth with rows", (), rows_growth),
    ("Memory: estimate and peak", ("memory",), memory),
]


def where(results: Results) -> str:
    """When and on what each result was measured."""
    rows = [
        [
            name,
            one["date"][:16].replace("T", " "),
            one["commit"] + (", **small settings**" if one["quick"] else ""),
            f"{one['machine']['cpu']}, {one['machine']['threads']} threads",
            str(one["machine"]["load"]),
            f"{one['machine']['fp32_gflops']} / {one['machine']['bf16_gflops']}",
            f"{one['minutes']} min",
        ]
        for name, one in results.files.items()
    ]
    head = ["result", "date (UTC)", "commit", "machine", "load before", "product rate, fp32 / bf16 GFLOP/s", "took"]
    return "Load: what others ran on the machine in the minute before; much of it makes times longer and ratios unsteady.\n\n" + table(
        head, rows
    )


def write(folder: Path, docs: Path) -> Path:
    """Writes ``docs/benchmarks.md`` and its pictures ``docs/images/bench-*.svg`` from the results in ``folder``; returns the page."""
    results = Results(folder, docs / "images")
    for old in results.images.glob("bench-*.svg"):
        old.unlink()  # no picture stays whose result is gone
    sections = []
    for title, names, section in SECTIONS:
        text = section(results)
        command = f"{results.command(*names)}\n\n" if any(name in results.files for name in names) else ""
        if command and (missing := [f"`{name}`" for name in names if name not in results.files]):
            command += f"{', '.join(missing)}: {NOT}.\n\n"
        sections.append(f"## {title}\n\n{command}{text.strip()}")
    targets = table(["", "target", "measured", ""], results.targets)
    small = any(one["quick"] for one in results.files.values())
    note = "\n\n**Some results are from small settings (`--quick`): their figures mean nothing.**" if small else ""
    front = [HEAD + note, f"## Targets\n\nThe median decides.\n\n{targets}"]
    text = "\n\n".join([*front, *sections, f"## Where and when\n\n{where(results)}"])
    docs.mkdir(parents=True, exist_ok=True)
    file = docs / "benchmarks.md"
    file.write_text(text + "\n", encoding="utf-8")
    return file
