"""Models quantised by the reference packages: packages.py JOB.json -> one line of JSON a result on stdout.

{"package": "bitsandbytes" | "hqq" | "quanto", model, variants: [{options, out}], text}: each variant of the model, quantised in float32 and saved
to `out`; with a text also its quality beside the float model. {"package": "aqlm", model, variants: [{path}], text}: the quality of folders that are there.
{"package": "random", variants: [{config, seed, out}]}: random models.
"""
import json
import sys
import warnings

warnings.filterwarnings("ignore")
import torch
import transformers
from quality import quality, text_ids
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

DTYPE = {"dtype": torch.float32} if int(transformers.__version__.split(".")[0]) >= 5 else {"torch_dtype": torch.float32}


def load(path, **options):
    return AutoModelForCausalLM.from_pretrained(path, device_map="cpu", **DTYPE, **options).eval()


class Remembered:
    """The float model: its values of a window are computed once for all variants."""

    def __init__(self, model):
        self.model, self.seen = model, {}

    def __call__(self, window):
        key = window.numpy().tobytes()
        if key not in self.seen:
            self.seen[key] = self.model(window)
        return self.seen[key]


def bitsandbytes(model, options):
    from transformers import BitsAndBytesConfig

    return load(model, quantization_config=BitsAndBytesConfig(**options))


def hqq(model, options):
    from transformers import HqqConfig

    return load(model, quantization_config=HqqConfig(**options))


def quanto(model, options):
    from optimum.quanto import HqqOptimizer, QuantizedModelForCausalLM, qtypes

    optimizers = {"optimizer": HqqOptimizer()} if options["optimizer"] == "hqq" else {}
    return QuantizedModelForCausalLM.quantize(load(model), weights=qtypes[options["type"]], exclude="lm_head", **optimizers)


def random_model(variant):
    torch.manual_seed(variant["seed"])
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**variant["config"])).float()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.2) if p.dim() == 1 else p.mul_(torch.exp(torch.randn(p.shape[0], 1) * 0.3))
    model.save_pretrained(variant["out"])


def measured(job):
    ids = text_ids(AutoTokenizer.from_pretrained(job["model"]), job["text"]) if job.get("text") else None
    base = Remembered(load(job["model"])) if ids else None
    make = {"bitsandbytes": bitsandbytes, "hqq": hqq, "quanto": quanto, "aqlm": lambda model, options: load(options["path"])}[job["package"]]
    for variant in job["variants"]:
        model = make(job["model"], variant.get("options", variant))
        # Before any forward pass: one of bitsandbytes on a CPU repacks the weights that are then saved.
        if "out" in variant:
            model.save_pretrained(variant["out"])
        print(json.dumps(quality(base, model, ids, job.get("limit")) if ids else {}), flush=True)


torch.set_num_threads(1)
job = json.load(open(sys.argv[1]))
if job["package"] == "random":
    for variant in job["variants"]:
        random_model(variant)
        print("{}", flush=True)
else:
    measured(job)
