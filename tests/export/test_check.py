"""A bad export is refused; a good one appears whole or not at all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agentft import export_agent
from agentft.agents import open_agent
from agentft.cli.main import cli
from agentft.errors import DataError, UserError
from agentft.export.check import position


def run(*arguments):
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def test_a_corrupted_export_is_refused(install, folder, persona, tmp_path):
    install("healthy")
    out = tmp_path / "card"
    common = ("--to", "weather/postcard", "--persona", persona, "--out", out, "--probes", 3)
    good = run(folder, *common)
    assert good.exit_code == 0, good.output
    assert (out / "README.md").is_file() and open_agent(str(out))
    bad = run(folder, *common, "--option", "noise=0.5", "--force")
    assert bad.exit_code == 1 and "refused" in bad.output and "nats per position" in bad.output
    refused = tmp_path / "card.refused"
    assert out.is_dir(), "the earlier, good export stays"
    assert json.loads((refused / "export.json").read_text("utf-8"))["refused"] and not (refused / "README.md").exists()
    with pytest.raises(DataError, match="refused"):
        open_agent(str(refused))
    loose = run(folder, *common, "--option", "noise=0.5", "--force", "--tolerance", "1000", "--min-agreement", "0")
    assert loose.exit_code == 0, loose.output


def test_an_exporter_without_a_check_is_no_exporter(install, folder, tmp_path):
    install("healthy")
    with pytest.raises(UserError, match="no ExportResult"):
        export_agent(str(folder), "weather/postcard", tmp_path / "out", options={"forget": True}, probes=2)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_dry_run_writes_nothing(folder, tmp_path):
    out = tmp_path / "out"
    found = run(folder, "--to", "merged", "--out", out, "--dtype", "float32", "--dry-run", "--json")
    plan = json.loads(found.output)
    assert found.exit_code == 0 and not out.exists() and not plan["missing"]
    size = (folder / "model.safetensors").stat().st_size
    assert 0.8 * size < plan["bytes"] <= size


def test_a_missing_package_is_named_with_its_command(monkeypatch, folder, tmp_path):
    from agentft import check

    monkeypatch.setattr(check, "unmet", lambda requirement: f"'{requirement.name}' is not installed")
    plan = run(folder, "--to", "int8", "--dry-run")
    assert "pip install 'torchao>=0.15'" in plan.output
    with pytest.raises(UserError, match="pip install 'torchao>=0.15'"):
        export_agent(str(folder), "int8", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "mergd"], "did you mean 'merged'"),
        (["--to", "merged", "--option", "dtyp=float32"], "did you mean 'dtype'"),
        (["--to", "merged", "--dtype", "int4"], "option 'dtype'"),
        (["--to", "adapter"], "has no adapter"),
        (["--to", "onnx"], "for which there is: merged"),
        (["--to", "adapter", "--dtype", "float16"], "has no options"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(cli, ["export", str(folder), "--out", str(tmp_path / "out"), *arguments], catch_exceptions=False)


def test_other_people_s_folders_are_not_replaced(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("diary", "utf-8")
    with pytest.raises(UserError, match="no earlier export"):
        export_agent(str(folder), "merged", tmp_path, force=True)
    assert (tmp_path / "mine.txt").read_text("utf-8") == "diary"


values = st.lists(st.floats(-30, 30), min_size=2, max_size=12)


@given(values, st.integers(0, 2**32 - 1))
def test_divergence_is_zero_for_equals_and_never_negative(logits, seed):
    mine = np.array(logits)
    assert position(mine, mine + 5)[0] == pytest.approx(0, abs=1e-9)
    theirs = mine + np.random.default_rng(seed).normal(size=len(mine))
    kl, _ = position(mine, theirs)
    logs = theirs - np.logaddexp.reduce(theirs)
    likeliest = np.argsort(-logs)[: max(1, len(mine) // 2)]
    sparse, same = position(mine, {int(index): float(logs[index]) for index in likeliest})
    assert kl >= 0 and sparse <= kl + 1e-6, "what is told of the likeliest only is a lower bound"
    first, second = np.sort(mine)[::-1][:2]
    if first - second > 1e-6:  # else rounding decides
        assert same == (int(mine.argmax()) == int(theirs.argmax()))


def test_numbers_that_are_none_are_infinitely_far():
    assert position(np.zeros(3), np.full(3, math.nan)) == (math.inf, False)
    assert position(np.zeros(3), np.zeros(4)) == (math.inf, False)


def test_sharing_what_probes_have_in_common_changes_nothing(folder):
    from transformers import AutoModelForCausalLM

    from agentft.contracts import Probe
    from agentft.export.readings import Language, language_outputs

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    persona = [5, 9, 33, 40, 7]
    probes = [
        Probe(str(n), [*persona, *tail], len(persona) + 2) for n, tail in enumerate(([3, 4, 8, 6], [3, 9, 2], [77, 4, 8, 6, 6], [8, 8, 2]))
    ]
    ask = Language()
    for probe in [*probes, probes[0], probes[0]]:
        assert np.allclose(ask(model, probe), language_outputs(model, probe), atol=1e-4)
