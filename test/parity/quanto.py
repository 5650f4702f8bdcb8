"""optimum-quanto's own file and quality of a model: quanto.py MODEL WEIGHTS OPTIMIZER TEXT OUT -> JSON on stdout.

Quantises in float32 with the head excluded, saves to OUT, and measures windows of 512 tokens of TEXT against the float model.
"""
import json
import math
import sys

import torch
from optimum.quanto import HqqOptimizer, QuantizedModelForCausalLM, qtypes
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW = 512
model_path, weights, optimizer, text, out = sys.argv[1:6]
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


base, model = load(), load()
optimizers = {"optimizer": HqqOptimizer()} if optimizer == "hqq" else {}
quantized = QuantizedModelForCausalLM.quantize(model, weights=qtypes[weights], exclude="lm_head", **optimizers)
quantized.save_pretrained(out)
nll = divergence = count = 0.0
with torch.no_grad():
    for start in range(0, len(ids) - WINDOW + 1, WINDOW):
        window = torch.tensor([ids[start : start + WINDOW]])
        p = torch.log_softmax(base(window).logits[0, :-1].double(), -1)
        q = torch.log_softmax(quantized(window).logits[0, :-1].double(), -1)
        nll -= q.gather(1, window[0, 1:, None]).sum().item()
        divergence += (p.exp() * (p - q)).sum().item()
        count += WINDOW - 1
print(json.dumps({"perplexity": math.exp(nll / count), "kl": divergence / count, "predictions": count}))
