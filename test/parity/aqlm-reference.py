"""The research quantiser of AQLM on a CPU: aqlm-reference.py JOB.json -> a folder that fewbit and transformers read.

{model, source, ids: [[...]], seed, tuning: {max_epochs, batch_size, lr, validation}, device, out}. `source` is a checkout of Vahe1994/AQLM, whose
AQEngine and finetune_groupwise do the work; what its main.py does between them (which wants CUDA and another transformers) is done here in
its order: every block gets what the quantised blocks before it give, its linears are quantised in module order on inputs that the
original block passes on, then the block is tuned (max_epochs 0: not) and its outputs go on. Settings are those of its README; every
sequence has the same length. The folder is in the published form: codes, codebooks and scales of float16.
"""
import json
import random
import resource
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM

SCHEME = {"num_codebooks": 2, "nbits_per_codebook": 8, "in_group_size": 8, "out_group_size": 1}
SETTINGS = {
    **SCHEME,
    "codebook_value_nbits": 16,
    "codebook_value_num_groups": 1,
    "scale_nbits": 0,
    "init_max_iter": 100,
    "init_max_points_per_centroid": None,
    "lr": 1e-4,
    "beam_size": 1,
    "max_epochs": 1000,
    "relative_mse_tolerance": 0.01,
    "steps_per_epoch": 100,
    "print_frequency": 1000,
    "finetune_early_stop": 3,
    "finetune_adam_beta1": 0.9,
    "finetune_adam_beta2": 0.95,
    "local_batch_size": 1,
    "offload_activations": False,
}


class Block(nn.Module):
    """A decoder layer that is called with hidden states alone and gives a tuple, as the research code expects."""

    def __init__(self, layer, rotary):
        super().__init__()
        self.layer = layer
        self.rotary = [rotary]  # not a part of the block

    def forward(self, x):
        positions = torch.arange(x.shape[1], device=x.device)[None]
        return (self.layer(x, position_ids=positions, position_embeddings=self.rotary[0](x, positions)),)


@torch.no_grad()
def outputs_of(block, x):
    return torch.cat([block(x[i : i + 1])[0] for i in range(len(x))])


def linears_of(block):
    return [(name, module) for name, module in block.named_modules() if isinstance(module, nn.Linear)]


@torch.no_grad()
def engines_of(block, x):
    """An engine for each linear with the second moment of its inputs, and the outputs of the original block."""
    engines = {name: AQEngine(linear) for name, linear in linears_of(block)}
    hooks = [engine.layer.register_forward_pre_hook(lambda _, inputs, e=engine: e.add_batch(inputs[0])) for engine in engines.values()]
    outputs = outputs_of(block, x)
    for hook in hooks:
        hook.remove()
    return engines, outputs


def quantize_block(block, x, validation, args):
    """Quantises the linears of `block` in place."""
    targets = outputs_of(block, validation) if validation is not None else None
    engines, outputs = engines_of(block, x)
    for name, engine in engines.items():
        quantized = QuantizedLinear(engine.quantize(args=args, verbose=False), engine.layer.bias)
        owner, _, attribute = name.rpartition(".")
        setattr(block.get_submodule(owner), attribute, quantized)
    if args.finetune_max_epochs == 0:
        return
    valid = {} if validation is None else {"valid_inps": [validation], "valid_outs": [targets]}
    finetune_groupwise(layer=block, train_inps=[x], train_outs=[outputs], args=args, **valid)


def published(module, path):
    """The tensors of a quantised linear as converted checkpoints hold them."""
    weight = module.quantized_weight
    codes = weight.get_codes().clone()
    codes[codes >= 128] -= 256
    parts = {"codes": codes.to(torch.int8), "codebooks": weight.get_codebooks().half(), "scales": weight.get_scales().half()}
    return {f"{path}.{part}": tensor.detach().cpu().contiguous() for part, tensor in parts.items()}


def save(model, job):
    quantized = {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    tensors = {}
    for name, module in quantized.items():
        tensors.update(published(module, name))
    for name, value in model.state_dict().items():
        if ".quantized_weight." not in name:
            tensors[name] = value.half().cpu().contiguous()
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    out = Path(job["out"])
    shutil.copytree(job["model"], out, ignore=shutil.ignore_patterns("*.safetensors*"), dirs_exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = "float16"
    config["quantization_config"] = {"quant_method": "aqlm", **SCHEME, "linear_weights_not_to_quantize": ["lm_head", "lm_head.weight"]}
    (out / "config.json").write_text(json.dumps(config, indent=2))


@torch.no_grad()
def main(job):
    tuning, device = job["tuning"], torch.device(job["device"])
    args = Namespace(**SETTINGS, devices=[device], seed=job["seed"], finetune_max_epochs=tuning["max_epochs"],
                     finetune_batch_size=tuning["batch_size"], finetune_lr=tuning["lr"])
    torch.manual_seed(job["seed"])
    random.seed(job["seed"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval().to(device)
    x = model.get_input_embeddings()(torch.tensor(job["ids"], device=device))
    held = tuning["validation"] if tuning["max_epochs"] else 0
    validation, x = (x[:held], x[held:]) if held else (None, x)
    for i, layer in enumerate(model.model.layers):
        block = Block(layer, model.model.rotary_emb)
        with torch.enable_grad():
            quantize_block(block, x, validation, args)
        x = outputs_of(block, x)
        validation = None if validation is None else outputs_of(block, validation)
        print(f"block {i}: {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.0f} s of processor time", file=sys.stderr, flush=True)
    save(model, job)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpuSeconds": used.ru_utime + used.ru_stime}))


torch.set_num_threads(2)
job = json.load(open(sys.argv[1]))
sys.path.insert(0, job["source"])
from aq_engine import AQEngine
from src.aq import QuantizedLinear
from src.finetune import finetune_groupwise

main(job)
