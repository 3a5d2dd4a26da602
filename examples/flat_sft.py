"""What `agentft run` does when it trains, in plain transformers, TRL and PEFT: nothing of agentft is imported.

    python examples/flat_sft.py MODEL_FOLDER conversations.jsonl OUT_FOLDER "You are ..."

MODEL_FOLDER holds safetensors and a tokenizer (`agentft models pull smollm2-135m` makes one). Each line of conversations.jsonl is
{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL pings a counter otherwise


def encode(tokenizer, persona, messages):
    """Token ids, and labels that are -100 everywhere but on the assistant's turns, their stop token included."""
    messages, text, ids, labels = [{"role": "system", "content": persona}, *messages], "", [], []
    for end, message in enumerate(messages, 1):
        if message["role"] == "assistant":
            # What the model reads, with the header of its turn; and the same with its answer. The difference is what it learns.
            prompt = tokenizer.apply_chat_template(messages[: end - 1], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(messages[:end], tokenize=False)
            whole = whole.rstrip("\n")  # ChatML writes a line break after the stop token, which the model must not
            assert prompt.startswith(text) and whole.startswith(prompt), "this template rewrites history: one row per turn is needed"
            read, learned = (tokenizer(part, add_special_tokens=False).input_ids for part in (prompt[len(text) :], whole[len(prompt) :]))
            assert learned[-1] == tokenizer.eos_token_id, "the stop token would not be learned: the model would never stop"
            ids, labels, text = ids + read + learned, labels + [-100] * len(read) + learned, whole
    return {"input_ids": ids, "labels": labels}


def main(model_folder, data, out, persona):
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = [encode(tokenizer, persona, json.loads(line)["messages"]) for line in Path(data).read_text(encoding="utf-8").splitlines()]
    learned = sum(label != -100 for row in rows for label in row["labels"])
    print(f"{len(rows)} rows, {sum(len(row['input_ids']) for row in rows)} tokens, {learned} of them learned")

    def collate(batch):
        """Pad on the right. The mask comes from the lengths: the padding token of many chat models is their stop token."""
        width = max(len(row["input_ids"]) for row in batch)
        fill = {"input_ids": tokenizer.pad_token_id, "labels": -100, "attention_mask": 0}
        full = [row | {"attention_mask": [1] * len(row["input_ids"])} for row in batch]
        return {key: torch.tensor([row[key] + [value] * (width - len(row[key])) for row in full]) for key, value in fill.items()}

    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
        args=SFTConfig(
            output_dir=out,
            num_train_epochs=3,
            per_device_train_batch_size=8,
            learning_rate=2e-4,
            warmup_steps=5,
            use_cpu=not torch.cuda.is_available(),
            bf16=True,  # autocast; on a CPU without AVX512-BF16 or AMX, False is faster
            gradient_checkpointing=False,  # TRL's default is True: up to half again the time, to save memory that we have
            max_length=None,  # prepared rows are not cut, whatever this says
            dataset_kwargs={"skip_prepare_dataset": True},  # our labels, and none of TRL's passes over the data
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            seed=7,
        ),
        train_dataset=Dataset.from_list(rows),
        data_collator=collate,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.model.save_pretrained(out)
    print(f"adapter in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
