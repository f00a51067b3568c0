#!/usr/bin/env python3
"""Makes tests/goldens/rope/frequencies.json: inverse frequencies of transformers (ROPE_INIT_FUNCTIONS) by configuration.

usage: make_rope_goldens.py OUTPUT_FILE

Bounds of yarn's ramp that lie beyond the first and the last pair, on one another and between whole numbers; llama3's three
ranges of wavelengths; dynamic at and beyond the original length. `config` is what a config.json says; `tokens` the longest
sequence there can be; `scale` what cosines and sines are multiplied by.
"""
import itertools
import json
import pathlib
import sys

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


def cases():
    for head_dim, theta in itertools.product([16, 64], [100.0, 10000.0, 1e6]):
        for original in [16, 1024, 131072]:
            for extra in [{}, {"truncate": False}, {"truncate": None}, {"beta_fast": 2.0, "beta_slow": 2.0},
                          {"beta_fast": 128, "beta_slow": 0.01}, {"mscale": 0.7, "mscale_all_dim": 1.0}]:
                rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": original, **extra}
                yield head_dim, theta, 4 * original, 4 * original, rope
    for head_dim, theta, original in itertools.product([16, 64], [100.0, 500000.0], [64, 8192]):
        for low, high in [(1.0, 4.0), (0.5, 32.0)]:
            yield head_dim, theta, 8 * original, 8 * original, {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": low, "high_freq_factor": high,
                "original_max_position_embeddings": original}
    for head_dim, factor, times in itertools.product([4, 64], [1.0, 4.0, 0.5], [1, 2, 4]):
        yield head_dim, 10000.0, 128, 128 * times, {"rope_type": "dynamic", "factor": factor}
    for factor in [1.0, 0.25, 3.3]:
        yield 16, 10000.0, 128, 128, {"rope_type": "linear", "factor": factor}


def main() -> None:
    out = []
    for head_dim, theta, longest, tokens, rope in cases():
        config = LlamaConfig(hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim, max_position_embeddings=longest,
                             rope_parameters={**rope, "rope_theta": theta})
        frequencies, scale = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, torch.device("cpu"), seq_len=tokens)
        out.append({"config": {"max_position_embeddings": longest, "rope_theta": theta, "rope_scaling": rope}, "head_dim": head_dim,
                    "tokens": tokens, "scale": scale, "frequencies": [float(f"{f:.9g}") for f in frequencies.tolist()]})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in out)
    pathlib.Path(sys.argv[1]).write_text(f"[\n{lines}\n]\n")
    print(f"{len(out)} cases")


if __name__ == "__main__":
    main()
