"""What is no chat model, and what only some forms can hold."""

from __future__ import annotations

import json

import pytest
from head_jobs import KINDS, job_for
from tiny import tiny_encoder, tiny_model, tiny_seq2seq

from agentft import export_agent
from agentft.components import ModelRef
from agentft.errors import UserError

DEVICE = {"device": "cpu", "train_dtype": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """kind -> folder of a trained model with that head, on an encoder."""
    from agentft.train.heads import train

    place = tmp_path_factory.mktemp("heads")
    ref = tiny_encoder(place / "encoder")
    found = {}
    for kind in KINDS:
        job = job_for(kind, ref, place / kind)
        trained = train(job).model
        # A recipe's run knows the base's tokenizer; a folder has its own.
        from agentft.engine.models import load_tokenizer

        load_tokenizer(ref).save_pretrained(trained)
        found[kind] = trained
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_merged(heads, kind, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row.to_dict()) + "\n" for row in KINDS[kind][1]), "utf-8")
    done = export_agent(str(heads[kind]), "merged", tmp_path / "out", prompts=rows, probes=6, device=DEVICE)
    assert done.good, done.refused
    assert (done.path / "task.json").is_file() and done.agreements[0].probes == 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_heads_as_onnx(heads, kind, tmp_path):
    pytest.importorskip("onnxruntime", reason="running ONNX files needs onnxruntime (pip install 'agentft[onnx]')")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row.to_dict()) + "\n" for row in KINDS[kind][1]), "utf-8")
    done = export_agent(str(heads[kind]), "onnx", tmp_path / "out", prompts=rows, probes=6, device=DEVICE)
    assert done.good, done.refused
    assert sorted(path.name for path in done.path.glob("*.onnx*")) == ["model.onnx"]


@pytest.mark.slow
def test_an_encoder_as_onnx_gives_embeddings_that_do_not_depend_on_padding(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX files needs onnxruntime (pip install 'agentft[onnx]')")
    import numpy as np
    from transformers import AutoTokenizer

    ref = tiny_encoder(tmp_path / "encoder")
    done = export_agent(ref.path, "onnx", tmp_path / "out", probes=4, device=DEVICE)
    assert done.good and done.agreements[0].difference < 1e-4
    session, tokenizer = runtime.InferenceSession(str(done.path / "model.onnx")), AutoTokenizer.from_pretrained(done.path)
    texts = ["short", "a much longer text, with more letters in it"]

    def embeddings(some):
        rows = tokenizer(some, padding=True, return_tensors="np")
        nothing = np.zeros_like(rows["input_ids"])
        return session.run(["sentence_embedding"], {one.name: rows.get(one.name, nothing) for one in session.get_inputs()})[0]

    together, alone = embeddings(texts), embeddings(texts[:1])
    assert np.allclose(together[0], alone[0], atol=1e-5) and np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoders_are_merged(tmp_path, kind):
    ref = tiny_seq2seq(tmp_path / "model", kind)
    done = export_agent(ref.path, "merged", tmp_path / "out", probes=3, device=DEVICE)
    assert done.good and done.agreements[0].kl < 1e-6, done.refused


def test_eight_bits(tmp_path, persona):
    pytest.importorskip("torchao", reason="the form int8 needs torchao (pip install 'agentft[int8]')")
    from agentft.agents import open_agent

    tiny_model(tmp_path / "model")
    chosen = {"dtype": "float32"}
    loose = {"min_agreement": 0.5, "tolerance": 0.5, "probes": 4, "device": DEVICE}  # random weights: their answers hang on every bit
    done = export_agent(str(tmp_path / "model"), "int8", tmp_path / "out", options=chosen, persona=str(persona), **loose)
    assert done.good, done.refused
    assert 0 < done.agreements[0].kl < 0.5
    from agentft.records import Example, Message

    assert open_agent(str(done.path)).loaded.renderer.prompt(Example("x", (Message("user", "Hi"),))).text.count("small library") == 1


def test_virtual_tokens_stay_an_adapter(tmp_path, tiny_ref):
    from peft import PromptTuningConfig, get_peft_model

    from agentft.contracts import ExportJob
    from agentft.engine.models import load_model
    from agentft.engine.profile import Profile
    from agentft.export.weights import check_mergeable

    model = get_peft_model(load_model(tiny_ref, Profile("cpu")), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    model.save_pretrained(tmp_path / "adapter")
    job = ExportJob("a", "model", tmp_path, ModelRef("x", tiny_ref.path, "", "folder"), adapter=tmp_path / "adapter")
    with pytest.raises(UserError, match="virtual tokens .*--to adapter"):
        check_mergeable(job)


def test_a_server_has_no_weights_here():
    with pytest.raises(UserError, match="is a server"):
        export_agent("http://localhost:1/v1", "merged")
