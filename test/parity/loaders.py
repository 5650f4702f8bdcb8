"""How each package quantises a model (`make`) and opens a folder or file (`opened`), on a CPU."""
import json
import os
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

OLD = int(transformers.__version__.split(".")[0]) < 5
FOLDERS = []  # removed when the process ends


def spelled(path):
    """The folder `path` with a config.json that an older transformers understands, which knows no rope_parameters."""
    file = Path(path) / "config.json"
    config = json.loads(file.read_text()) if OLD and file.exists() else {}
    if config.get("rope_parameters", {}).get("rope_type") != "default":
        return path
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    folder = tempfile.TemporaryDirectory()
    FOLDERS.append(folder)
    for file in Path(path).iterdir():
        if file.name != "config.json":
            (Path(folder.name) / file.name).symlink_to(file.resolve())
    (Path(folder.name) / "config.json").write_text(json.dumps(config))
    return folder.name


def load(path, dtype=torch.float32, **options):
    options["torch_dtype" if OLD else "dtype"] = dtype
    return AutoModelForCausalLM.from_pretrained(spelled(path), device_map="cpu", **options).eval()


class Bitsandbytes:
    """Held to its float32 product: where the CPU has bf16 instructions the other one rounds scales and activations to bf16."""

    @staticmethod
    def opened(path):
        import bitsandbytes.nn.modules as modules

        modules.has_avx512bf16 = lambda: False
        return load(path)

    @staticmethod
    def make(model, options, dtype):
        from transformers import BitsAndBytesConfig

        return load(model, dtype, quantization_config=BitsAndBytesConfig(**options))


class Hqq:
    opened = staticmethod(load)

    @staticmethod
    def make(model, options, dtype):
        from transformers import HqqConfig

        return load(model, dtype, quantization_config=HqqConfig(**options))


class Quanto:
    """With activations: calibrated on blocks of ids, one a batch."""

    @staticmethod
    def opened(path):
        from optimum.quanto import QuantizedModelForCausalLM

        return QuantizedModelForCausalLM.from_pretrained(path)

    @staticmethod
    def make(model, options, dtype):
        from optimum.quanto import Calibration, HqqOptimizer, QuantizedModelForCausalLM, freeze, qtypes, quantize

        quantised = load(model, dtype)
        optimizers = {"optimizer": HqqOptimizer()} if options.get("optimizer") == "hqq" else {}
        activations = options.get("activations")
        types = {"weights": qtypes[options["type"]], "activations": qtypes[activations] if activations else None}
        quantize(quantised, **types, exclude="lm_head", **optimizers)
        if activations:
            with torch.no_grad(), Calibration():
                for block in options["blocks"]:
                    quantised(torch.tensor([block]))
        freeze(quantised)
        return QuantizedModelForCausalLM(quantised)


class Eetq:
    """transformers' integration over kernels for a CPU."""

    @staticmethod
    def opened(path):
        import eetq

        eetq.install()
        return load(path)

    @staticmethod
    def make(model, options, dtype):
        import eetq
        from transformers import EetqConfig

        eetq.install()
        return load(model, torch.float16, quantization_config=EetqConfig(**options))


class Aqlm:
    """Runs models only: its kernel for the CPU, a token at a time."""

    opened = staticmethod(load)

    @staticmethod
    def measured(path):
        """With the weights that the package restores, for whole texts."""
        from aqlm import QuantizedLinear
        from aqlm.utils import _dequantize_weight, unpack_int_data

        model = load(path)
        for name, m in list(model.named_modules()):
            if isinstance(m, QuantizedLinear):
                linear = torch.nn.Linear(m.in_features, m.out_features, bias=m.bias is not None)
                linear.weight.data = _dequantize_weight(unpack_int_data(m.codes, m.nbits_per_codebook), m.codebooks, m.scales)
                if m.bias is not None:
                    linear.bias.data = m.bias
                model.set_submodule(name, linear)
        return model


class Gguf:
    """A file, its blocks decoded to float32 by the gguf package. `like`: the folder whose config.json says what a file without a tokenizer leaves out."""

    @staticmethod
    def opened(path, like=None):
        config = {"config": AutoConfig.from_pretrained(like)} if like else {}
        return load(os.path.dirname(path), gguf_file=os.path.basename(path), **config)


def loader(package):
    if package == "awq":
        import autoawq

        return autoawq
    return {"bitsandbytes": Bitsandbytes, "hqq": Hqq, "quanto": Quanto, "eetq": Eetq, "aqlm": Aqlm, "gguf": Gguf}[package]
