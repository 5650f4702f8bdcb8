"""Small random models of every family with odd sizes: families.py OUT SEED. Each folder OUT/<case> holds a model, ids.json, and in
logits.safetensors the reference's float32 logits of those ids."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

OUT = Path(sys.argv[1])
SEED = int(sys.argv[2])
LENGTH = 37

# Widths that no vector, block or head size divides evenly.
SIZES = dict(vocab_size=311, hidden_size=84, intermediate_size=150, num_hidden_layers=5, num_attention_heads=6,
             num_key_value_heads=2, max_position_embeddings=96, bos_token_id=1, eos_token_id=2, pad_token_id=0)
HEAD = dict(SIZES, head_dim=20)
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0 + 0.1 * i for i in range(3)],
                long_factor=[1.5 + 0.7 * i for i in range(3)], original_max_position_embeddings=24,
                partial_rotary_factor=0.5)
CASES = {
    "llama": ("llama", dict(SIZES, attention_bias=True, mlp_bias=True)),
    "mistral": ("mistral", dict(HEAD, sliding_window=9)),
    "qwen2": ("qwen2", dict(SIZES, use_sliding_window=True, sliding_window=7, max_window_layers=2)),
    "qwen3": ("qwen3", dict(HEAD)),
    "gemma": ("gemma", dict(HEAD)),
    "gemma2": ("gemma2", dict(HEAD, query_pre_attn_scalar=17, sliding_window=6, attn_logit_softcapping=3.0,
                              final_logit_softcapping=2.0)),
    "gemma3": ("gemma3_text", dict(HEAD, query_pre_attn_scalar=23, sliding_window=6, layer_types=[
        "sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"])),
    "phi3": ("phi3", dict(SIZES, sliding_window=11)),
    "phi3-longrope": ("phi3", dict(SIZES, hidden_size=72, original_max_position_embeddings=24, rope_parameters=LONGROPE)),
    "smollm3": ("smollm3", dict(SIZES, no_rope_layers=[1, 0, 1, 1, 0])),
    "granite": ("granite", dict(SIZES, attention_multiplier=0.09, embedding_multiplier=7.5, residual_multiplier=0.31,
                                logits_scaling=5.0)),
    "olmo2": ("olmo2", dict(SIZES, attention_bias=True)),
    "gpt2": ("gpt2", dict(vocab_size=311, n_embd=84, n_layer=5, n_head=6, n_inner=150, n_positions=96,
                          scale_attn_by_inverse_layer_idx=True, bos_token_id=1, eos_token_id=2)),
    "opt": ("opt", dict(vocab_size=311, hidden_size=84, num_hidden_layers=5, num_attention_heads=6, ffn_dim=150,
                        max_position_embeddings=96, word_embed_proj_dim=84, pad_token_id=1)),
    "opt-post": ("opt", dict(vocab_size=311, hidden_size=84, num_hidden_layers=3, num_attention_heads=6, ffn_dim=150,
                             max_position_embeddings=96, word_embed_proj_dim=52, do_layer_norm_before=False,
                             activation_function="gelu", pad_token_id=1)),
}


def main() -> None:
    for number, (name, (model_type, values)) in enumerate(CASES.items()):
        torch.manual_seed(1000 * SEED + number)
        config = AutoConfig.for_model(model_type, **values)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
        with torch.no_grad():
            for key, value in model.named_parameters():
                # Norms near one (Gemma's near zero) and small biases, as trained models have them.
                if value.dim() == 1:
                    one = 1.0 if "norm" in key or "ln_" in key else 0.0
                    value.copy_((0.0 if model_type.startswith("gemma") else one) + 0.1 * torch.randn_like(value))
                else:
                    value.copy_(torch.randn_like(value) / value.shape[-1] ** 0.5)
            folder = OUT / name
            model.save_pretrained(folder)
            ids = torch.randint(3, 311, (1, LENGTH))
            logits = model(ids).logits[0].float()
        (folder / "ids.json").write_text(json.dumps(ids[0].tolist()))
        save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")
        print(name, flush=True)


main()
