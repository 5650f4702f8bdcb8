"""The reference packages at work: packages.py JOB.json -> one line of JSON a variant on stdout. `do` of the job:

make: {model, options, dtype, out} a variant: quantised by `package`, saved to `out`; with a `text` also its quality as it was made.
logits: {path, ids, out}: the float32 logits of a folder or file as `package` opens it (a GGUF file `like` a folder).
measure: {path}: its quality; of the job: `base`, the float model; `text`; `limit` of its tokens; `kept`, the file of the float model's logits.
random: {config, seed, dtype, out}: a random model of a family.
"""
import json
import resource
import sys
import warnings

warnings.filterwarnings("ignore")
import torch
from loaders import load, loader
from quality import float_logs, quality, text_ids, windows_of
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def judge(job):
    """A function from a model to its quality on the job's text."""
    windows = windows_of(text_ids(AutoTokenizer.from_pretrained(job["base"]), job["text"]), job.get("limit"))
    base = float_logs(lambda: load(job["base"]), windows, job["kept"])
    return lambda model: quality(base, model, windows)


def make(job):
    judged = judge(job) if "text" in job else lambda model: {}
    for variant in job["variants"]:
        before = processor_seconds()
        dtype = getattr(torch, variant["dtype"])
        model = loader(job["package"]).make(variant["model"], variant["options"], dtype)
        seconds = processor_seconds() - before
        model.save_pretrained(variant["out"])
        yield {"cpuSeconds": seconds, **judged(model)}


def logits(job):
    for variant in job["variants"]:
        like = {"like": variant["like"]} if "like" in variant else {}
        model = loader(job["package"]).opened(variant["path"], **like)
        out = model(torch.tensor([variant["ids"]])).logits.float().contiguous()
        save_file({"logits": out}, variant["out"])
        yield {}


def measure(job):
    judged, package = judge(job), loader(job["package"])
    for variant in job["variants"]:
        yield judged(getattr(package, "measured", package.opened)(variant["path"]))


def random(job):
    for variant in job["variants"]:
        torch.manual_seed(variant["seed"])
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**variant["config"])).float()
        for p in model.parameters():
            # Channels that differ, as those of trained models do.
            p.add_(torch.randn(p.shape) * 0.2) if p.dim() == 1 else p.mul_(torch.exp(torch.randn(p.shape[0], 1) * 0.3))
        embedding = model.get_input_embeddings().weight
        embedding.mul_(torch.exp(torch.randn(1, embedding.shape[1]) * 0.8) * 20)
        model.to(getattr(torch, variant["dtype"])).save_pretrained(variant["out"])
        yield {}


job = json.load(open(sys.argv[1]))
torch.set_num_threads(job.get("threads", 1))
with torch.no_grad():
    for result in {"make": make, "logits": logits, "measure": measure, "random": random}[job["do"]](job):
        print(json.dumps(result), flush=True)
