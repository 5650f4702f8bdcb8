"""Activations calibrated by optimum-quanto, its file, and its quality as made and as loaded again:
quanto.py MODEL WEIGHTS ACTIVATIONS CHATS SAMPLES TEXT OUT -> JSON on stdout.

In float32 with the head excluded, on the first SAMPLES conversations of CHATS, joined and cut into blocks of 512 tokens, one a batch.
"""
import json
import sys

import torch
from optimum.quanto import Calibration, QuantizedModelForCausalLM, freeze, qtypes, quantize
from quality import WINDOW, quality, text_ids
from transformers import AutoModelForCausalLM, AutoTokenizer

model_path, weights, activations, chats, samples, text, out = sys.argv[1:8]
tokenizer = AutoTokenizer.from_pretrained(model_path)
ids = text_ids(tokenizer, text)


def load():
    return AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()


def blocks(tokens):
    return [torch.tensor([tokens[i : i + WINDOW]]) for i in range(0, len(tokens) - WINDOW + 1, WINDOW)]


def calibration_tokens():
    with open(chats, encoding="utf8") as file:
        conversations = [sample["messages"] for sample in json.load(file)][: int(samples)]
    rendered = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]
    return [token for sample in rendered for token in tokenizer.encode(sample, add_special_tokens=False)]


base, model = load(), load()
quantize(model, weights=qtypes[weights], activations=qtypes[activations], exclude="lm_head")
with torch.no_grad(), Calibration():
    for block in blocks(calibration_tokens()):
        model(block)
freeze(model)
quantized = QuantizedModelForCausalLM(model)
result = quality(base, quantized, ids)
quantized.save_pretrained(out)
result["reloaded"] = quality(base, QuantizedModelForCausalLM.from_pretrained(out), ids)
print(json.dumps(result))
