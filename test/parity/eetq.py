"""EETQ's kernels on a CPU, for transformers' own integration to quantise, save and load with: its package runs on a GPU only. Written from
the order of the reference's steps, not from an address formula."""
import torch

STEP = 1 / 128


def stored_order(codes):
    """[K, N] codes in the order of the file: rows permuted in sixteens, columns in pairs by tiles of 64 rows, bytes 1 and 2 of four swapped."""
    k, n = codes.shape
    rows = [8 * (t % 4 // 2) + t % 2 + 2 * (t // 4) for t in range(16)]
    columns = codes.reshape(k // 16, 16, n)[:, rows].reshape(k, n).T
    tiles = columns.reshape(n // 2, 2, k // 64, 64).transpose(1, 2)
    return tiles.reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(k, n)


def quant_weights(weight, dtype, keeps_unprocessed):
    """float [K, N] -> int8 [K, N] as stored, and scales [N] of the weight's dtype."""
    x = weight.float()
    step = x.abs().amax(0) * STEP
    ratio = x / step
    # torch.round goes to even, the reference away from zero.
    away = torch.where((ratio - ratio.trunc()).abs() >= 0.5, ratio.trunc() + ratio.sign(), ratio.trunc())
    codes = torch.where(away.isnan(), 127.0, away).clamp(-128, 127).to(torch.int16)
    return stored_order(((codes + 128) & 255).to(torch.uint8)).view(torch.int8).contiguous(), step.to(weight.dtype)


def restored(stored, scales):
    """float32 [K, N]: one float16 product an element."""
    order = stored_order(torch.arange(stored.numel()).reshape(stored.shape)).flatten()
    codes = torch.empty(stored.numel(), dtype=torch.int16)
    codes[order] = stored.flatten().view(torch.uint8).to(torch.int16) - 128
    return (codes.reshape(stored.shape).half() * scales.half()).float()


class Kernels:
    """What `get_kernel` of transformers is made to give."""

    def __init__(self):
        self.weights = {}

    quant_weights = staticmethod(quant_weights)

    def w8_a16_gemm(self, x, weight, scales):
        key = weight.data_ptr()
        if key not in self.weights:
            self.weights[key] = restored(weight, scales)
        return (x.float() @ self.weights[key]).to(x.dtype)


def install():
    import transformers.integrations.hub_kernels as hub
    from transformers.quantizers.quantizer_eetq import EetqHfQuantizer

    hub.get_kernel = lambda *args, **kwargs: Kernels()
    EetqHfQuantizer.validate_environment = lambda self, *args, **kwargs: None
