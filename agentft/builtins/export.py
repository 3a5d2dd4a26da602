"""Built-in forms of an export."""

from __future__ import annotations

from agentft.components import ExporterSpec
from agentft.hookspecs import hookimpl

_X = "agentft.export"
_ALL = ("model", "head", "encoder", "seq2seq")


@hookimpl
def agentft_exporters() -> list[ExporterSpec]:
    return [
        ExporterSpec(
            "merged",
            "Safetensors with the persona in the chat template: transformers, vLLM, SGLang, TGI",
            f"{_X}.merged:export",
            f"{_X}.merged:MergedConfig",
            estimate=f"{_X}.merged:estimate",
            kinds=_ALL,
        ),
        ExporterSpec("adapter", "The PEFT adapter alone, for its base model", f"{_X}.adapter:export", estimate=f"{_X}.adapter:estimate"),
        *(
            ExporterSpec(name, summary, f"{_X}.{name}:export", f"{_X}.gguf:GgufConfig", estimate=f"{_X}.{name}:estimate")
            for name, summary in (("gguf", "One file for llama.cpp and what is built on it"), ("ollama", "A GGUF file with its Modelfile"))
        ),
        ExporterSpec(
            "int8",
            "8-bit weights (torchao) that transformers loads",
            f"{_X}.int8:export",
            f"{_X}.int8:Int8Config",
            requires=("torchao>=0.15",),
            estimate=f"{_X}.int8:estimate",
        ),
        ExporterSpec(
            "onnx",
            "An encoder, with its head, for onnxruntime",
            f"{_X}.onnx:export",
            requires=("onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"),
            kinds=("head", "encoder"),
            estimate=f"{_X}.onnx:estimate",
        ),
    ]
