#!/usr/bin/env python3
"""Makes tests/goldens/tiny_llama: random Llama checkpoints of a few kilobytes and what transformers computes with them.

usage: make_tiny_llama.py OUTPUT_FOLDER

Each checkpoint is written by hand in the form in which such models are published, then loaded by transformers from that
folder, so that reading config.json is part of the oracle. Its math is f32 on the weights as they are on disk.
"""
import json
import math
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

VOCAB = 64
LENGTHS = [1, 6, 33, 70]  # KV blocks hold 32 tokens: below, across one border, across two
BASE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": VOCAB,
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
    "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
ONE_LAYER = {"num_hidden_layers": 1}
# name: (dtype on disk, what differs from BASE; None drops the key). "_..." are instructions to this script.
CHECKPOINTS = {
    "gqa1_f32": ("f32", {"num_key_value_heads": 4}),
    "gqa2_bf16_tied": ("bf16", {"tie_word_embeddings": True, "rms_norm_eps": 1e-6}),
    "gqa4_f16": ("f16", {"hidden_size": 64, "num_attention_heads": 8, "_inv_freq": True}),
    "gqa8_bf16": ("bf16", {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 1}),
    "head_dim20_given": ("bf16", {"head_dim": 20}),
    "head_dim20_derived": ("f32", {"hidden_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1,
                                   "intermediate_size": 56}),
    "head_dim48_given": ("f16", {"head_dim": 48, "num_attention_heads": 2, "num_key_value_heads": 1}),
    "head_dim48_derived": ("bf16", {"hidden_size": 96, "num_attention_heads": 2, "num_key_value_heads": 2,
                                    "num_hidden_layers": 1, "intermediate_size": 32, "tie_word_embeddings": True}),
    "head_dim80_given": ("bf16", {"head_dim": 80, "num_attention_heads": 2, "num_key_value_heads": 1}),
    "head_dim80_derived": ("bf16", {"hidden_size": 80, "num_attention_heads": 1, "num_key_value_heads": 1,
                                    "num_hidden_layers": 1, "intermediate_size": 32, "tie_word_embeddings": True}),
    "rope_linear": ("bf16", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "rope_llama3": ("f16", {"head_dim": 16, "rope_theta": 500000.0, "rope_scaling": LLAMA3}),
    "rope_parameters": ("bf16", {"head_dim": 16, "rope_theta": None, "rope_scaling": None,
                                 "rope_parameters": {**LLAMA3, "rope_theta": 20000.0}}),
    "biases": ("bf16", {"attention_bias": True, "mlp_bias": True}),
    "sharded": ("f16", {"_shards": 3, "num_hidden_layers": 3}),
    "rope_yarn": ("bf16", {**ONE_LAYER, "head_dim": 16, "rope_scaling": {"type": "yarn", "factor": 4.0,
                                                                         "original_max_position_embeddings": 32}}),
    "rope_yarn_mscale": ("bf16", {**ONE_LAYER, "head_dim": 16, "rope_theta": None, "rope_scaling": None, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 500.0, "factor": 3.0, "original_max_position_embeddings": 48, "beta_fast": 4,
        "beta_slow": 0.5, "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": False}}),
    "rope_dynamic": ("bf16", {**ONE_LAYER, "max_position_embeddings": 32, "rope_scaling": {"type": "dynamic", "factor": 4.0}}),
    "rope_llama3_beside": ("bf16", {**ONE_LAYER, "head_dim": 16, "original_max_position_embeddings": 64, "rope_scaling": {
        k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"}}),
    "mistral": ("bf16", {**ONE_LAYER, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}),
    "biases_qkv": ("bf16", {**ONE_LAYER, "attention_bias": True, "_without": ["self_attn.o_proj.bias"]}),
    "tied_in_name": ("bf16", {**ONE_LAYER, "_tie_word_embeddings": True}),
}
DTYPES = {"f32": ("float32", torch.float32), "f16": ("float16", torch.float16), "bf16": ("bfloat16", torch.bfloat16)}


def make_tensors(config: dict, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Weights large enough that attention is not uniform and logits are not noise: gain above one in each product."""
    hidden, heads, kv_heads = (config[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    inner, head_dim = config["intermediate_size"], config.get("head_dim", hidden // heads)

    def normal(*shape: int, std: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * std

    def norm() -> torch.Tensor:
        return 1 + normal(hidden, std=0.3)

    tensors = {"model.embed_tokens.weight": normal(VOCAB, hidden, std=1.0)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        linears = {"self_attn.q_proj": (heads * head_dim, hidden, 1.5), "self_attn.k_proj": (kv_heads * head_dim, hidden, 1.5),
                   "self_attn.v_proj": (kv_heads * head_dim, hidden, 1.2), "self_attn.o_proj": (hidden, heads * head_dim, 1.2),
                   "mlp.gate_proj": (inner, hidden, 1.5), "mlp.up_proj": (inner, hidden, 1.2), "mlp.down_proj": (hidden, inner, 1.2)}
        for name, (n, k, gain) in linears.items():
            tensors[f"{prefix}{name}.weight"] = normal(n, k, std=gain / math.sqrt(k))
            if config["attention_bias" if name.startswith("self_attn") else "mlp_bias"]:
                tensors[f"{prefix}{name}.bias"] = normal(n, std=0.5)
        tensors[f"{prefix}input_layernorm.weight"] = norm()
        tensors[f"{prefix}post_attention_layernorm.weight"] = norm()
    tensors["model.norm.weight"] = norm()
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(VOCAB, hidden, std=2.0 / math.sqrt(hidden))
    return tensors


def write_weights(folder: pathlib.Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    metadata = {"format": "pt"}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata=metadata)
        return
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[len(names) * shard // shards:len(names) * (shard + 1) // shards]
        save_file({n: tensors[n] for n in part}, folder / file, metadata=metadata)
        weight_map |= dict.fromkeys(part, file)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def write_json(path: pathlib.Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def make(folder: pathlib.Path, seed: int, dtype: str, changes: dict) -> None:
    generator = torch.Generator().manual_seed(seed)
    config = BASE | {k: v for k, v in changes.items() if not k.startswith("_")}
    config = {k: v for k, v in config.items() if v is not None or k not in changes or k == "sliding_window"}
    config["torch_dtype"], torch_dtype = DTYPES[dtype]
    tensors = {k: v.to(torch_dtype).contiguous() for k, v in make_tensors(config, generator).items()
               if not any(k.endswith(name) for name in changes.get("_without", []))}
    # A configuration that says tied beside a head of its own: transformers 5 uses both.
    config["tie_word_embeddings"] |= changes.get("_tie_word_embeddings", False)
    if changes.get("_inv_freq"):  # a buffer that old checkpoints carry; nothing reads it
        head_dim = config["hidden_size"] // config["num_attention_heads"]
        frequencies = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = frequencies
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json",
               {"bos_token_id": 1, "eos_token_id": [2, 5], "do_sample": True, "temperature": 0.6, "top_p": 0.9})
    write_weights(folder, tensors, changes.get("_shards", 1))

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    golden = {}
    for i, length in enumerate(LENGTHS):
        ids = torch.randint(0, VOCAB, (length,), generator=generator)
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        golden[f"ids_{i}"], golden[f"logits_{i}"] = ids.to(torch.int32), logits.float().contiguous()
    save_file(golden, folder / "golden.safetensors")
    last = golden[f"logits_{len(LENGTHS) - 1}"]
    kilobytes = sum(f.stat().st_size for f in folder.iterdir()) / 1024
    print(f"{folder.name}: {kilobytes:.0f} KB, logits std {last.std():.2f}, max {last.abs().max():.2f}, "
          f"rope {model.config.rope_parameters}")


def main() -> None:
    output = pathlib.Path(sys.argv[1])
    for seed, (name, (dtype, changes)) in enumerate(CHECKPOINTS.items()):
        shutil.rmtree(output / name, ignore_errors=True)
        make(output / name, seed, dtype, changes)


if __name__ == "__main__":
    main()
