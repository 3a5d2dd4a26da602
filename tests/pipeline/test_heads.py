"""Recipes of tasks with heads, through the command line: data, rows, training, predictions, scores, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import tiny_encoder

from agentft.cli.main import cli
from agentft.errors import RecipeError

HEAD = "name: job\nmodel: {model}\ndevice: {{device: cpu, train_dtype: fp32, threads: 1}}\n"
TASKS = {
    "classify": (
        [{"inputs": {"text": f"{'red hot' if n % 2 else 'blue ice'} {n}"}, "label": "warm" if n % 2 else "cold"} for n in range(40)],
        "accuracy, f1, auc, ranking, calibration, confusion",
        "accuracy",
    ),
    "several": (
        [{"inputs": {"text": f"{'red' if n % 2 else 'blue'} {n}"}, "label": ["warm", "any"] if n % 2 else ["cold"]} for n in range(40)],
        "accuracy, f1, auc",
        "f1-macro",
    ),
    "regress": ([{"inputs": {"text": "a" * (n % 5 + 1)}, "label": n % 5 / 4} for n in range(40)], "regression", "mae"),
    "tag": (
        [{"inputs": {"tokens": ["we", "met", "ann" if n % 2 else "tom", f"n{n}"]}, "label": ["O", "O", "B-PER", "O"]} for n in range(40)],
        "ner",
        "ner-f1",
    ),
    "span": (
        [
            {"inputs": {"question": "who?", "context": f"it is {name} {n}"}, "label": [{"text": name, "start": 6}]}
            for n in range(40)
            for name in ["ann" if n % 2 else "tom"]
        ],
        "qa",
        "qa-em",
    ),
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def recipe(folder: Path, ref, kind: str, train: str = "", data: str = "", evaluate: str = "") -> Path:
    rows, metrics, _ = TASKS[kind]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"id": f"r{n}"} | row) + "\n" for n, row in enumerate(rows)), "utf-8")
    name = "classify" if kind == "several" else kind
    text = HEAD.format(model=ref.path) + (
        f"data:\n  sources: [{{use: jsonl, path: rows.jsonl, records: labelled}}]\n  split: {{validation: 0.1, test: 0.3}}\n{data}"
        f"train: [{{use: {name}, epochs: 8, batch_size: 8, learning_rate: 1e-2{train}}}]\nevaluate: [{evaluate or metrics}]\n"
    )
    (folder / "recipe.yaml").write_text(text, "utf-8")
    return folder / "recipe.yaml"


def run(path: Path, *arguments: str):
    result = CliRunner().invoke(cli, [*arguments[:1], str(path), "--runs", str(path.parent / "runs"), *arguments[1:]])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind in ("classify", "tag") else pytest.mark.slow) for kind in TASKS])
def test_a_task_from_recipe_to_report(kind, encoder, tmp_path):
    path = recipe(tmp_path, encoder, kind)
    manifest = json.loads(run(path, "run", "--json").stdout)
    assert manifest["status"] == "complete"
    folder = tmp_path / "runs" / manifest["id"]
    report = json.loads((folder / "report.json").read_text("utf-8"))
    found = {row["name"]: row for row in report["comparisons"]}
    main = found[TASKS[kind][2]]
    assert main["verdict"] in ("better", "inconclusive") and main["n"] == 12
    assert (main["tuned"] < main["base"]) if main["direction"] == "lower" else (main["tuned"] >= main["base"])
    assert report["baseline"] and len(report["samples"]) == 12
    page = (folder / "report.html").read_text("utf-8")
    assert "Trivial answer" in page and "Base model" not in page
    again = json.loads(run(path, "run", "--json").stdout)
    assert all(stage["reused"] for stage in again["stages"])


def test_a_chat_model_takes_a_head_too(tiny_ref, tmp_path):
    manifest = json.loads(run(recipe(tmp_path, tiny_ref, "classify", train=", strategy: {lora: {r: 4}}"), "run", "--json").stdout)
    summary = next(stage["summary"] for stage in manifest["stages"] if stage["name"] == "train-0")
    assert summary["adapter"] and 0 < summary["trainable"] < summary["total"]


def test_a_plugin_s_loss_is_trained_with(encoder, tmp_path, install):
    install("healthy")
    manifest = json.loads(run(recipe(tmp_path, encoder, "classify", train=", loss: weather/cautious"), "run", "--json").stdout)
    assert manifest["status"] == "complete"
    import fake_weather

    assert ("cautious", (8, 2)) in fake_weather.SEEN


def test_divided_test_rows_and_leaks(encoder, tmp_path):
    path = recipe(tmp_path, encoder, "classify", data="  test: [{use: jsonl, path: test.jsonl, records: labelled}]\n")
    path.write_text(path.read_text("utf-8").replace("{validation: 0.1, test: 0.3}", "{validation: 0.1, stratify: label}"), "utf-8")
    rows = [{"inputs": {"text": "RED hot 1!"}, "label": "warm"}, {"inputs": {"text": "new blue"}, "label": "cold"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for policy, kept in (("drop", 1), ("keep", 2)):
        account = json.loads(run(path, "data", "--json", "--set", f"data.leaks={policy}").stdout)["account"]
        step = next(one for one in account["steps"] if one["name"] == "test")
        assert step["rows_out"] == kept and account["splits"] == {"train": 36, "validation": 4, "test": kept, "prompts": 0}
        assert (step["drops"] or step["changes"]) == {"is in the training data": 1}
    assert account["card"]["labels"]["counts"] == {"cold": 18, "warm": 18}


@pytest.mark.slow
def test_two_runs_are_compared_on_the_rows_that_both_have(encoder, tmp_path):
    path = recipe(tmp_path, encoder, "classify")
    ids = [
        json.loads(run(path, "run", "--json", *more).stdout)["id"] for more in ((), ("--set", "train.0.epochs=1", "--set", "name=short"))
    ]
    result = CliRunner().invoke(cli, ["runs", "compare", *ids, "--runs", str(tmp_path / "runs"), "--json"])
    found = {row["name"]: row for row in json.loads(result.stdout)["comparisons"]}
    assert found["accuracy"]["n"] == 12 and found["accuracy"]["tuned"] <= found["accuracy"]["base"]
    assert result.exit_code == (1 if json.loads(result.stdout)["worse"] else 0)
    shown = CliRunner().invoke(cli, ["runs", "compare", ids[0], str(tmp_path / "runs" / ids[0]), "--runs", str(tmp_path / "runs")])
    assert shown.exit_code == 0 and "inconclusive" in shown.output  # with itself, once by id and once by folder


def test_numbers_that_a_table_holds_as_text_are_numbers(encoder, tmp_path):
    path = recipe(tmp_path, encoder, "regress")
    lines = "".join(f"{'a' * (n % 5 + 1)},{n % 5 / 4}\n" for n in range(40))
    (tmp_path / "rows.csv").write_text(f"text,label\n{lines}", "utf-8")
    source = "{use: jsonl, path: rows.jsonl, records: labelled}"
    text = path.read_text("utf-8").replace(source, "{use: csv, path: rows.csv, columns: {text: text, label: label}}")
    path.write_text(text, "utf-8")
    manifest = json.loads(run(path, "run", "--json").stdout)
    report = json.loads((tmp_path / "runs" / manifest["id"] / "report.json").read_text("utf-8"))
    assert {"rmse", "mae", "pearson", "spearman"} <= {row["name"] for row in report["comparisons"]}


def test_a_text_that_the_model_cannot_read_is_said(encoder, tmp_path):
    path = recipe(tmp_path, encoder, "classify")
    rows = [{"inputs": {"text": f"我要挂失银行卡{n}"}, "label": "lost" if n % 2 else "late"} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert "does not know" in run(path, "data").output


PROBLEMS = [
    (", loss: focl", "", "7:78: no loss 'focl' (did you mean 'focal'?)"),
    (", loss: {use: focal, gama: 2}", "", "7:91: unknown key 'gama' (did you mean 'gamma'?)"),
    (", loss: mse", "", "7:78: the loss 'mse' is for numbers, 'classify' learns classes"),
    ("", "rouge", "8:12: 'rouge' looks at answers in words, 'classify' predicts labels"),
    (", batchsize: 3", "", "7:72: unknown key 'batchsize' (did you mean 'batch_size'?)"),
]


@pytest.mark.parametrize(("train", "evaluate", "message"), PROBLEMS)
def test_mistakes_are_found_before_anything_runs(train, evaluate, message, encoder, tmp_path):
    path = recipe(tmp_path, encoder, "classify", train=train, evaluate=evaluate)
    with pytest.raises(RecipeError) as caught:
        run(path, "check")
    assert message in str(caught.value)


def test_rows_that_the_task_cannot_learn_from_are_named(encoder, tmp_path):
    path = recipe(tmp_path, encoder, "classify")
    text = path.read_text("utf-8").replace("use: classify", "use: regress").replace(TASKS["classify"][1], "regression")
    path.write_text(text, "utf-8")
    with pytest.raises(Exception, match=r"(?s)row 'r\d+': the label must be a number, not '(warm|cold)'.*'regress' cannot learn"):
        run(path, "run")
