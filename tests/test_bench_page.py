"""The page of the benchmarks: every section, figures from the results alone, and "not measured" where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

RUN = Path(__file__).parents[1] / "benchmarks" / "run.py"
SECTIONS = ["Targets", "SFT step", "DPO epoch", "Scoring candidates", "Generation", "Generation, answers of different lengths"]
SECTIONS += ["Generation, against llama.cpp", "Growth with the persona's prompt", "Growth with candidates", "Growth with rows"]
SECTIONS += ["Memory: estimate and peak", "Where and when"]

MACHINE = {"cpu": "Some CPU", "threads": 2, "load": 0.1, "fp32_gflops": 100.0, "bf16_gflops": 400.0}


def training(prefix, tuned, own, defaults=None):
    seconds = {"TRL, tuned": [tuned, tuned - 0.5, tuned + 0.5], "agentft": [own, own, own]}
    fast = {"TRL, tuned": [tuned / own, tuned / own - 0.125, tuned / own + 0.125]}
    losses = {"TRL, tuned": [2.0, 1.5], "agentft": [2.0, 1.5031]}
    if defaults:
        seconds, fast = {"TRL, defaults": [defaults] * 3} | seconds, {"TRL, defaults": [defaults / own] * 3} | fast
        losses["TRL, defaults"] = [2.0, 1.51]
    case = {"prefix": prefix, "seconds": seconds, "times_as_fast_as": fast, "losses": losses, "rows_of_a_step": 16}
    return case | {"gflop_of_a_step": 1000.0, "memory_mib": {"agentft": 777.0}}


def answers(shared, candidates=1):
    return {
        "rows": 64,
        "candidates": candidates,
        "slots": 64,
        "shared_tokens": shared,
        "own_tokens": 30.0,
        "new_tokens": 64.0,
        "longest_answer": 64,
        "dtype": "float32",
        "seconds": {"generate": [20.0, 19.0, 21.0], "agentft": [5.0, 5.0, 5.0]},
        "times_as_fast_as": {"generate": [4.0, 3.75, 4.25]},
        "memory_mib": {},
        "rows_with_equal_tokens": 63,
        "gap_of_best_logits_where_rows_part": [0.000012],
    }


OUTPUTS = {
    "sft": {"machine": MACHINE, "cases": [training(256, 12.0, 4.0, 30.0)]},
    "dpo": {"cases": [training(256, 20.0, 4.0, 40.0) | {"pairs": 64, "pairs_of_a_step": 16}]},
    "score": {
        "cases": [
            {
                "prefix": 256,
                "dtype": "bfloat16",
                "cases": [
                    {
                        "candidates": count,
                        "prompts": 16 // count,
                        "prefix": 256,
                        "seconds": {"padded forward": [6.0, 6.0, 6.0], "agentft": [1.0, 1.0, 1.0]},
                        "times_as_fast": {"median": 6.0, "min": 5.5, "max": 6.5},
                        "largest_difference": 0.001,
                    }
                    for count in (1, 8)
                ],
            }
        ]
    },
    "generation": {"cases": [answers(256)]},
    "generation-uneven": {"cases": [answers(256)]},
    "generation-prefix": {"cases": [answers(0), answers(512)]},
    "generation-candidates": {"cases": [answers(256, 1), answers(256, 16)]},
    "llamacpp": {
        "rows": 64,
        "new_tokens": 64,
        "tokens_per_second": {f"{name}, {state}": rate for name, rate in (("agentft", 600.0), ("s8", 200.0)) for state in ("cold", "warm")},
        "spread": {f"{name}, {state}": [rate, rate] for name, rate in (("agentft", 600.0), ("s8", 200.0)) for state in ("cold", "warm")},
        "runs": {f"{name}, {state}": [rate] for name, rate in (("agentft", 600.0), ("s8", 200.0)) for state in ("cold", "warm")},
        "failed": {"agentft": 0, "s8": 0},
        "answers_with_the_first_8_words_of_agentft": {"agentft": 64, "s8": 50},
    },
    "sft-prefix": {"cases": [training(0, 4.0, 4.0), training(128, 8.0, 4.0)]},
    "sft-prefix-2048": {"cases": [training(2048, 40.0, 4.0) | {"rows_of_a_step": 8}]},
    "memory": [{"what": "lora", "dtype": "bfloat16", "tokens": 512, "estimate": 2**30, "peak": 2**30}],
} | {
    name: {
        "rows": rows,
        "ways": {
            "agentft x 1": {"seconds": rows / 2000, "cpu": 1.0, "mb": 400.0},
            "TRL x 1": {"seconds": rows / 500, "cpu": 1.0, "mb": 900.0},
        },
        "compared": {"TRL x 1": {"times_as_long": 4.0, "rows": rows, "rows_that_differ": 0}},
    }
    for name, rows in (("data-1k", 1000), ("data-10k", 10000), ("data-100k", 100000))
}


def render(folder: Path, names) -> dict[str, str]:
    """Text of each section of the page that ``make bench`` writes from the results ``names``."""
    results = folder / "results"
    results.mkdir()
    for name in names:
        result = {"name": name, "command": f"python benchmarks/x.py {name}", "quick": False, "date": "2026-01-02T03:04:05+00:00"}
        result |= {"commit": "abc1234", "minutes": 1.0, "machine": MACHINE, "output": OUTPUTS[name]}
        (results / f"{name}.json").write_text(json.dumps(result))
    command = [sys.executable, RUN, "--page", "--results", results, "--docs", folder / "docs"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (folder / "docs" / "benchmarks.md").read_text("utf-8")
    parts = text.split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def test_the_page_shows_results_with_targets_and_equality(tmp_path):
    page = render(tmp_path, OUTPUTS)
    assert [*page] == SECTIONS
    targets = {line.split(" | ")[0].removeprefix("| "): line for line in page["Targets"].splitlines()}
    # 12 s against 4 s is 3 x, below the target of 3.5; 30 s is 7.5 x; 1000 GFLOP in 4 s are 62.5 % of 400 GFLOP/s.
    assert "| 3 (2.88 to 3.12) x | **not reached** |" in targets["SFT step, against tuned TRL"]
    assert "| 7.5 x | reached |" in targets["SFT step, against TRL's defaults"]
    assert "| 62.5 % | **not reached** |" in targets["SFT step, share of the bf16 product rate"]
    assert "| 1 (0.875 to 1.12) x | reached |" in targets["SFT step without a shared prefix, against tuned TRL"]
    assert "| 6 (5.5 to 6.5) x | reached |" in targets["scoring 8 candidates, against a padded forward pass"]
    assert "| 3 x | reached |" in targets["generation, against llama.cpp's best number of slots, cold"]
    assert "not measured" in targets["generation, 64 prompts x 64 tokens, against generate with a copied prefix"]
    assert "| TRL, tuned / agentft | 2 | 0.0031 | 0.21% |" in page["SFT step"]
    assert "63 of 64; where the others part, the two best logits are at most 1.2e-05 apart" in page["Generation"]
    assert "python benchmarks/x.py sft-prefix-2048" in page["Growth with the persona's prompt"]
    # 100,000 rows are 6,250 steps of 16 rows, of 4 s.
    assert "| 100,000 | 52.1 h | 20.8 h | 6.9 h |" in page["Growth with rows"]
    for text in page.values():
        for name in [line.split("(")[1].rstrip(")") for line in text.splitlines() if line.startswith("![")]:
            assert ElementTree.parse(tmp_path / "docs" / name).getroot().tag.endswith("svg")


@pytest.mark.parametrize("names", [[], ["sft", "data-10k"]])
def test_a_missing_result_is_not_measured(tmp_path, names):
    page = render(tmp_path, names)
    assert [*page] == SECTIONS
    unmeasured = {title for title, text in page.items() if "not measured" in text}
    assert unmeasured >= {*SECTIONS} - {"SFT step", "Where and when", "Growth with the persona's prompt"} - (
        {"Targets"} if names else set()
    )
    assert "| 3.5 x | not measured |" in page["Targets"] if not names else "| 3.5 x | 3 (" in page["Targets"]
    assert ("Data path: not measured" if not names else "Data path at 1,000, 100,000 rows: not measured") in page["Growth with rows"]


def test_unknown_cases_are_refused():
    done = subprocess.run([sys.executable, RUN, "--only", "sftt"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "'sftt'" in done.stderr
