"""Logits of a model folder or GGUF file by the Python reference: logits.py MODEL IDS OUT, ids comma-separated; float32 [1, T, V]."""
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

path, ids, out = sys.argv[1], [int(i) for i in sys.argv[2].split(",")], sys.argv[3]
torch.set_num_threads(1)
if path.endswith(".gguf"):
    import os

    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32)
else:
    model = AutoModelForCausalLM.from_pretrained(path, device_map="cpu", dtype=torch.float32)
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits.float().contiguous()
save_file({"logits": logits}, out)
