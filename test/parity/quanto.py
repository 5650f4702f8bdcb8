"""optimum-quanto's own file and quality of a model:
quanto.py MODEL WEIGHTS OPTIMIZER TEXT OUT [ACTIVATIONS CHATS SAMPLES] -> JSON on stdout.

Quantises in float32 with the head excluded, saves to OUT, and measures windows of 512 tokens of TEXT against the float model. With
ACTIVATIONS, these are calibrated on the first SAMPLES conversations of CHATS, joined and cut into blocks of 512 tokens, one a batch.
"""
import json
import math
import sys

import torch
from optimum.quanto import Calibration, HqqOptimizer, QuantizedModelForCausalLM, freeze, qtypes, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW = 512
model_path, weights, optimizer, text, out = sys.argv[1:6]
activations, chats, samples = sys.argv[6:9] if len(sys.argv) > 6 else (None, None, 0)
tokenizer = AutoTokenizer.from_pretrained(model_path)
end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
ids = []
piece = []
with open(text, encoding="utf8") as file:
    for line in [*file.read().split("\n"), "<|endoftext|>"]:
        if line == "<|endoftext|>":
            joined = "\n".join(piece).strip()
            if joined:
                ids += tokenizer.encode(joined, add_special_tokens=False) + [end]
            piece = []
        else:
            piece.append(line)


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
optimizers = {"optimizer": HqqOptimizer()} if optimizer == "hqq" else {}
if activations is None:
    quantized = QuantizedModelForCausalLM.quantize(model, weights=qtypes[weights], exclude="lm_head", **optimizers)
else:
    quantize(model, weights=qtypes[weights], activations=qtypes[activations], exclude="lm_head", **optimizers)
    with torch.no_grad(), Calibration():
        for block in blocks(calibration_tokens()):
            model(block)
    freeze(model)
    quantized = QuantizedModelForCausalLM(model)


def measure(quantized):
    nll = divergence = count = 0.0
    for window in blocks(ids):
        p = torch.log_softmax(base(window).logits[0, :-1].double(), -1)
        q = torch.log_softmax(quantized(window).logits[0, :-1].double(), -1)
        nll -= q.gather(1, window[0, 1:, None]).sum().item()
        divergence += (p.exp() * (p - q)).sum().item()
        count += WINDOW - 1
    return {"perplexity": math.exp(nll / count), "kl": divergence / count, "predictions": count}


with torch.no_grad():
    result = measure(quantized)
    quantized.save_pretrained(out)
    if activations is not None:
        result["reloaded"] = measure(QuantizedModelForCausalLM.from_pretrained(out))
print(json.dumps(result))
