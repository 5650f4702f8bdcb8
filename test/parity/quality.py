"""What the parity scripts in Python share: the ids of an evaluation text, and perplexity and KL divergence of one model beside another."""
import math

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


@torch.no_grad()
def quality(base, model, ids, limit=None):
    """Perplexity of `model` and KL(base, model) in nats over all predictions of windows that do not overlap."""
    nll = divergence = count = 0.0
    for start in range(0, min(limit or len(ids), len(ids)) - WINDOW + 1, WINDOW):
        window = torch.tensor([ids[start : start + WINDOW]])
        p = torch.log_softmax(base(window).logits[0, :-1].double(), -1)
        q = torch.log_softmax(model(window).logits[0, :-1].double(), -1)
        nll -= q.gather(1, window[0, 1:, None]).sum().item()
        divergence += (p.exp() * (p - q)).sum().item()
        count += WINDOW - 1
    return {"perplexity": math.exp(nll / count), "kl": divergence / count, "predictions": int(count)}
