"""AutoAWQ on a CPU: its search (`make`), and folders as it opens them (`opened`).

The search backs weights up with Tensor.cpu(), which copies on a GPU and aliases here: it is made to copy. The kernels do not run on a CPU, so
a folder is opened by AutoAWQ (its modules take the tensors), and each of its modules is then replaced by float32 weights that the
codes in it stand for, without the float16 rounding of the products.
"""
import awq.models.base
import torch
from awq import AutoAWQForCausalLM
from awq.modules.linear import WQLinear_GEMM, WQLinear_GEMV, WQLinear_GEMVFast
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.packing_utils import dequantize_gemm
from loaders import spelled


class CopyingQuantizer(AwqQuantizer):
    def _compute_best_scale(self, *args):
        torch.Tensor.cpu = lambda tensor, *a, **k: tensor.detach().clone()
        try:
            return super()._compute_best_scale(*args)
        finally:
            del torch.Tensor.cpu


def make(model, options, dtype):
    made = AutoAWQForCausalLM.from_pretrained(spelled(model), torch_dtype=dtype, device_map="cpu")
    made.quantize(None, quant_config=options["config"], calib_data=options["ids"], max_calib_samples=options["samples"],
                  max_calib_seq_len=options["length"], quantizer_cls=CopyingQuantizer)
    made.save_pretrained = made.save_quantized
    return made


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
    model = AutoAWQForCausalLM.from_quantized(
        spelled(path), fuse_layers=False, device_map={"": "cpu"}, torch_dtype=torch.float32
    ).model
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
