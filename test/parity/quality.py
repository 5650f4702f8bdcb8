"""What the parity scripts share: the ids of an evaluation text, and perplexity and KL divergence of a model beside the float one."""
import math
import os

import numpy as np
import torch

WINDOW = 512
END = "<|endoftext|>"


def text_ids(tokenizer, path):
    """Ids of a text whose pieces stand between lines of <|endoftext|>: each stripped, without special tokens, followed by the end."""
    with open(path, encoding="utf8") as file:
        pieces = ("\n" + file.read() + "\n").split(f"\n{END}\n")
    end = tokenizer.convert_tokens_to_ids(END)
    ids = []
    for piece in pieces:
        if piece.strip():
            ids += tokenizer.encode(piece.strip(), add_special_tokens=False) + [end]
    return ids


def windows_of(ids, limit=None):
    """Windows that do not overlap, the remainder dropped: int64 [windows, WINDOW]."""
    count = min(limit or len(ids), len(ids)) // WINDOW
    return torch.tensor(ids[: count * WINDOW]).reshape(count, WINDOW)


def float_logs(load, windows, path):
    """Logarithms of the float model's probabilities, float32 [windows, WINDOW - 1, V]: computed once by whoever comes first, kept at `path`."""
    if not os.path.exists(path):
        model = load()
        shape = (len(windows), WINDOW - 1, model.config.vocab_size)
        kept = np.lib.format.open_memmap(path + ".partial", mode="w+", dtype=np.float32, shape=shape)
        for at, window in enumerate(windows):
            kept[at] = torch.log_softmax(model(window[None]).logits[0, :-1].float(), -1).numpy()
        kept.flush()
        os.rename(path + ".partial", path)
    return np.load(path, mmap_mode="r")


def quality(base, model, windows):
    """
    Perplexity of `model` and KL(base, model) in nats over all predictions; `base` as float_logs gives it. One window a call: the rows of a call
    decide which columns LLM.int8 keeps as floats.
    """
    nll = divergence = 0.0
    for at, window in enumerate(windows):
        p = torch.from_numpy(base[at].copy())
        q = torch.log_softmax(model(window[None]).logits[0, :-1].float(), -1)
        nll -= q.gather(-1, window[1:, None]).double().sum().item()
        divergence += (p.exp() * (p - q)).sum(-1).double().sum().item()
    count = windows.shape[0] * (WINDOW - 1)
    return {"perplexity": math.exp(nll / count), "kl": divergence / count, "predictions": count}
