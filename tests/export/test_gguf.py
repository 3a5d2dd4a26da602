"""GGUF files, run with llama.cpp and read by transformers; and the model file for Ollama."""

from __future__ import annotations

import pytest
from tiny import tiny_model, tiny_tokenizer

from agentft import export_agent
from agentft.agents import open_agent
from agentft.errors import DataError, UserError
from agentft.export.gguf_model import permute
from agentft.records import Example, Message

pytest.importorskip("xllamacpp", reason="running GGUF files needs xllamacpp (pip install 'agentft[llamacpp]')")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS = {
    "llama": ("Llama", {}),
    "biases, untied": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
    "tied": ("Llama", {"tie_word_embeddings": True}),
    "wide heads": ("Llama", {"head_dim": 16}),
    "llama3 positions": ("Llama", {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
}


def agreements(done):
    return {one.reading: one for one in done.agreements}


FAST = ("llama", "llama3 positions", "qwen2")


@pytest.mark.parametrize("name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in MODELS])
def test_llamacpp_and_transformers_say_what_the_agent_says(name, folder, options, tmp_path):
    kind, changes = MODELS[name]
    place = tmp_path / "model"
    tokenizer = tiny_tokenizer((("t", "h"), ("i", "n")))
    tiny_model(place, tokenizer=tokenizer, kind=kind, **changes)
    # Of random weights' answers the two likeliest are sometimes all but equal, and rounding decides.
    done = export_agent(str(place), "gguf", options={"quantise": "f32"}, min_agreement=0.95, **options)
    assert done.good, done.refused
    found = agreements(done)
    assert found["llama.cpp"].prompts == 1.0 and found["llama.cpp"].kl < 1e-4
    if name in ("llama3 positions", "qwen3"):
        assert "transformers" not in found and "with llama.cpp only" in done.warnings[0]
    else:
        assert found["transformers"].kl < 1e-6


def test_a_quantised_file_is_smaller_and_opens_as_the_agent(folder, options):
    done = export_agent(str(folder), "gguf", tolerance=1.0, min_agreement=0.5, **options)
    file = next(done.path.glob("*.gguf"))
    assert done.good and file.name.endswith(".Q8_0.gguf") and file.stat().st_size < 0.6 * (folder / "model.safetensors").stat().st_size
    agent, again = open_agent(str(folder), persona=options["persona"]), open_agent(str(file))
    prompt = Example("x", (Message("user", "the thin book"),))
    assert again.system == agent.system and again.persona == agent.persona
    assert again.backend.renderer.prompt(prompt).input_ids == agent.loaded.renderer.prompt(prompt).input_ids


def test_ollama_gets_the_persona_the_stop_and_a_template_of_the_family(folder, options):
    done = export_agent(str(folder), "ollama", options={"quantise": "f32"}, min_agreement=0.95, **options)
    text = (done.path / "Modelfile").read_text("utf-8")
    assert done.good and f"FROM ./{next(done.path.glob('*.gguf')).name}" in text
    assert 'PARAMETER stop "<|im_end|>"' in text and 'SYSTEM """You are a clerk' in text and "TEMPLATE" in text
    assert any("family 'chatml'" in note for note in done.notes)


def test_permuting_is_undone_by_transformers_own_way_back():
    import numpy as np
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    values = np.arange(48 * 6.0).reshape(48, 6)
    back = LlamaTensorProcessor({})._reverse_permute_weights(permute(values, 6), 6, 6)
    assert (back == values).all() and not (permute(values, 6) == values).all()


def test_what_is_not_known_names_the_converter(tmp_path, options):
    tiny_model(tmp_path / "gpt", kind="Cohere", tokenizer=tiny_tokenizer((("t", "h"),)))
    with pytest.raises(DataError, match=r"not of 'cohere'; .*--converter"):
        export_agent(str(tmp_path / "gpt"), "gguf", **options)
    tiny_model(tmp_path / "bare")
    with pytest.raises(DataError, match="has no merges"):
        export_agent(str(tmp_path / "bare"), "gguf", **options)
    assert not list(tmp_path.glob("out*"))


def test_a_converter_of_llamacpp_is_used_and_checked(folder, options, tmp_path):
    """The script stands in for llama.cpp's own: it gets a merged folder and writes the file."""
    loose = {"tolerance": 1, "min_agreement": 0.5}
    ready = export_agent(str(folder), "gguf", **{**options, **loose, "out": tmp_path / "ready"}, options={"quantise": "f16"})
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(
        "import shutil, sys, pathlib\n"
        "folder, out = sys.argv[1], sys.argv[sys.argv.index('--outfile') + 1]\n"
        "assert (pathlib.Path(folder) / 'model.safetensors').is_file() and sys.argv[-1] == 'f16', sys.argv\n"
        f"shutil.copy({str(next(ready.path.glob('*.gguf')))!r}, out)\n",
        "utf-8",
    )
    chosen = {"quantise": "f16", "converter": str(script)}
    done = export_agent(str(folder), "gguf", options=chosen, **loose, **options)
    assert done.good and [one.reading for one in done.agreements] == ["llama.cpp"]
    script.write_text("raise SystemExit('no such architecture')", "utf-8")
    with pytest.raises(DataError, match="no such architecture"):
        export_agent(str(folder), "gguf", options=chosen, force=True, **options)
    with pytest.raises(UserError, match="there is no file"):
        export_agent(str(folder), "gguf", options={"converter": "nowhere.py"}, force=True, **options)


def test_llamacpp_reads_published_english_and_chinese_as_the_agent(folder, options, shared_data, tmp_path):
    """Sentences of TICO-19 in both languages: the same tokens through the chat template and llama.cpp's tokenizer."""
    import json
    import xml.etree.ElementTree as ET

    units = list(ET.parse(shared_data / "tico19_en_zh" / "all.en-zh.tmx").getroot().iter("seg"))[:40:5]
    rows = [{"id": f"t{n}", "messages": [{"role": "user", "content": "".join(unit.itertext())[:150]}]} for n, unit in enumerate(units)]
    assert any(ord(sign) > 0x4E00 for row in rows for sign in row["messages"][0]["content"])
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    chosen = {**options, "prompts": file, "probes": 8, "min_agreement": 0.95}
    done = export_agent(str(folder), "gguf", options={"quantise": "f32"}, **chosen)
    found = agreements(done)["llama.cpp"]
    assert done.good and found.prompts == 1.0 and found.probes == 8, done.refused
