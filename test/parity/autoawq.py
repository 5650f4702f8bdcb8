"""AutoAWQ on the CPU, one call a job: autoawq.py JOB.json, the result as JSON on the last line of stdout.

{"do": "quantize", model, ids: [[...]], length, config: {w_bit, q_group_size, zero_point, version}, dtype, duo, out}: AutoAWQ's own search.
{"do": "logits", path, ids, out}: float32 logits of an AWQ folder as AutoAWQ opens it. {"do": "quality", path, base, text, limit}.
{"do": "random", config, seed, out}: a random model of a family.

The search backs weights up with Tensor.cpu(), which copies on a GPU and aliases here: it is made to copy. The kernels do not run on a CPU, so
a folder is opened by AutoAWQ (its modules take the tensors), and each of its modules is then replaced by float32 weights that the
codes in it stand for, without the float16 rounding of the products.
"""
import json
import resource
import sys
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
import awq.models.base
import torch
from awq import AutoAWQForCausalLM
from awq.modules.linear import WQLinear_GEMM, WQLinear_GEMV, WQLinear_GEMVFast
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.packing_utils import dequantize_gemm
from quality import quality, text_ids
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "auto": "auto"}
FOLDERS = []  # removed when the process ends


class CopyingQuantizer(AwqQuantizer):
    def _compute_best_scale(self, *args):
        torch.Tensor.cpu = lambda tensor, *a, **k: tensor.detach().clone()
        try:
            return super()._compute_best_scale(*args)
        finally:
            del torch.Tensor.cpu


def spelled(path):
    """The folder `path` with a config.json that this transformers understands, which knows no rope_parameters."""
    config = json.loads((Path(path) / "config.json").read_text())
    if "rope_parameters" not in config or config["rope_parameters"]["rope_type"] != "default":
        return path
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    folder = tempfile.TemporaryDirectory()
    FOLDERS.append(folder)
    for file in Path(path).iterdir():
        if file.name != "config.json":
            (Path(folder.name) / file.name).symlink_to(file.resolve())
    (Path(folder.name) / "config.json").write_text(json.dumps(config))
    return folder.name


def quantize(job):
    model = AutoAWQForCausalLM.from_pretrained(spelled(job["model"]), torch_dtype=DTYPES[job["dtype"]], device_map="cpu")
    before = resource.getrusage(resource.RUSAGE_SELF)
    model.quantize(None, quant_config=job["config"], calib_data=job["ids"], max_calib_samples=job.get("samples", 128),
                   max_calib_seq_len=job["length"], duo_scaling=job.get("duo", True), quantizer_cls=CopyingQuantizer)
    after = resource.getrusage(resource.RUSAGE_SELF)
    model.save_quantized(job["out"])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpuSeconds": seconds, "peakBytes": after.ru_maxrss * 1024}


def nibbles(words):
    return ((words[..., None].long() >> torch.arange(0, 32, 4)) & 15).flatten(-2)


def float_weight(m):
    """float32 [out, in] of one of the package's modules."""
    g, k, n = m.group_size, m.in_features, m.out_features
    if isinstance(m, WQLinear_GEMM):
        offsets = dequantize_gemm(m.qweight, m.qzeros, torch.ones_like(m.scales), 4, g).float()
        return (offsets * m.scales.float().repeat_interleave(g, 0)).T.contiguous()
    if isinstance(m, WQLinear_GEMV):
        zeros = nibbles(m.qzeros)[:, : k // g].repeat_interleave(g, 1)
        return (nibbles(m.qweight) - zeros).float() * m.scales[:, : k // g].float().repeat_interleave(g, 1)
    words = m.qweight.int() & 0xFFFF
    codes = torch.stack([(words >> (4 * i)) & 15 for i in range(4)], -1)  # [n/4, k, 4]
    codes = codes.reshape(n // 4, k // 64, 4, 64).transpose(1, 2).reshape(n, k // 32, 4, 2, 4).transpose(3, 4)
    codes = codes.reshape(n, k // 32, 4, 4, 2).transpose(2, 3).reshape(n, k)
    spread = lambda t: t[: k // g].float().T.repeat_interleave(g, 1)
    return codes.float() * spread(m.scales) + spread(m.qzeros)


def opened(path):
    # On a CPU the package insists on modules of Intel's extension.
    awq.models.base.get_best_device = lambda: "cuda:0"
    folder = spelled(path)
    model = AutoAWQForCausalLM.from_quantized(folder, fuse_layers=False, device_map={"": "cpu"}, torch_dtype=torch.float32).model
    for name, module in list(model.named_modules()):
        if not isinstance(module, (WQLinear_GEMM, WQLinear_GEMV, WQLinear_GEMVFast)):
            continue
        linear = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        linear.weight.data = float_weight(module)
        if module.bias is not None:
            linear.bias.data = module.bias.float()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, linear)
    return model.float().eval()


@torch.no_grad()
def logits(job):
    model = opened(job["path"])
    save_file({"logits": model(torch.tensor([job["ids"]])).logits.float().contiguous()}, job["out"])
    return {}


def measure(job):
    base = AutoModelForCausalLM.from_pretrained(spelled(job["base"]), torch_dtype=torch.float32).eval()
    ids = text_ids(AutoTokenizer.from_pretrained(job["base"]), job["text"])
    return quality(base, opened(job["path"]), ids, job.get("limit"))


def random(job):
    torch.manual_seed(job["seed"])
    config = AutoConfig.for_model(**job["config"])
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for p in model.parameters():
            # Channels that differ, as those of trained models do.
            if p.dim() == 1:
                p.add_(torch.randn(p.shape) * 0.2)
            else:
                p.mul_(torch.exp(torch.randn(p.shape[0], 1) * 0.3))
        embedding = model.get_input_embeddings().weight
        embedding.mul_(torch.exp(torch.randn(1, embedding.shape[1]) * 0.8) * 20)
    model.to(DTYPES[job["dtype"]]).save_pretrained(job["out"])
    return {}


torch.set_num_threads(2)
job = json.load(open(sys.argv[1]))
print(json.dumps({"quantize": quantize, "logits": logits, "quality": measure, "random": random}[job["do"]](job)))
