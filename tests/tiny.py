"""A chat model of some ten thousand parameters, and rows to train it on, for tests that run the real thing."""

from __future__ import annotations

import json
import random
from pathlib import Path

from agentft.components import ModelRef

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = "You are a careful support agent of a small bank. Be brief."


def tiny_tokenizer(merges: tuple[tuple[str, str], ...] = ()):
    """Bytes as tokens, ChatML, and a padding token that is the stop token: the common trap. ``merges``: pairs that become one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = [*special, *alphabet, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(vocabulary)}, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=TEMPLATE
    )


def tiny_model(folder: Path, seed: int = 0, tokenizer=None, kind: str = "Llama", **changes) -> ModelRef:
    """Write a random two-layer Llama (or another ``kind`` with the same settings) with its tokenizer to ``folder``."""
    import torch
    import transformers

    tokenizer = tokenizer or tiny_tokenizer()
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "initializer_range": 0.3,  # large enough that answers depend on the prompt
    }
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**(settings | changes))
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelRef(str(folder), str(folder), "0" * 64, "folder")


def write_rows(path: Path, count: int = 16, prefix: int = 40, seed: int = 0, supervised: int = 6) -> Path:
    """``count`` rows that share ``prefix`` tokens, differ in content and length, and end in the same ``supervised`` tokens."""
    draw = random.Random(seed)
    shared = [draw.randrange(3, 250) for _ in range(prefix)]
    answer = [draw.randrange(3, 250) for _ in range(supervised)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            ids = shared + [draw.randrange(3, 250) for _ in range(draw.randrange(4, 24))] + answer
            labels = [-100] * (len(ids) - supervised) + ids[-supervised:]
            file.write(json.dumps({"id": f"r{number}", "group": None, "input_ids": ids, "labels": labels}) + "\n")
    return path


def sft_trainer(model: ModelRef, profile, rows, folder: Path, **changes):
    """Our trainer for ``rows`` as training would make it, but for a full model and no checkpoints; ``changes``: of TRL's SFTConfig."""
    import trl

    from agentft.engine.models import load_model, load_tokenizer
    from agentft.train.loop import Collator, EpochOrder, Trainer

    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "remove_unused_columns": False,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "report_to": [],
    }
    return Trainer(
        order=EpochOrder(rows.lengths, 4, 0),
        ids=rows.ids,
        share_prefix=True,
        model=load_model(model, profile, trainable=True),
        args=trl.SFTConfig(**settings, **changes),
        data_collator=Collator(2),
        train_dataset=rows.dataset,
        processing_class=load_tokenizer(model),
    )


def tiny_encoder(folder: Path, seed: int = 0, **changes) -> ModelRef:
    """Write a random two-layer BERT with a WordPiece tokenizer of single characters to ``folder``."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    signs = "abcdefghijklmnopqrstuvwxyz0123456789.,!?-'"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {text: i for i, text in enumerate([*special, *signs, *(f"##{sign}" for sign in signs), *"退款多久到账请问我的卡丢了"])}
    backend = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]", max_input_chars_per_word=60))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    settings = {
        "vocab_size": len(vocab),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.2,
    }
    torch.manual_seed(seed)
    BertModel(BertConfig(**(settings | changes))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelRef(str(folder), str(folder), "1" * 64, "folder")


def tiny_seq2seq(folder: Path, kind: str = "t5", seed: int = 0) -> ModelRef:
    """Write a random two-layer T5 or BART with a tokenizer of bytes that ends every text to ``folder``."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "</s>", "<unk>"]
    backend = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(special + alphabet)}, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    torch.manual_seed(seed)
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    if kind == "t5":
        model = T5ForConditionalGeneration(
            T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0, **ends)
        )
    else:
        layers = {
            f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))
        }
        model = BartForConditionalGeneration(
            BartConfig(
                vocab_size=len(tokenizer),
                d_model=32,
                max_position_embeddings=128,
                dropout=0.0,
                init_std=0.2,
                bos_token_id=1,
                forced_eos_token_id=1,
                **layers,
                **ends,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelRef(str(folder), str(folder), "2" * 64, "folder")
