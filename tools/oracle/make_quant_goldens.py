#!/usr/bin/env python3
"""Makes tests/goldens/quant: weights quantized by the formulas of torchao, in plain numpy.

usage: make_quant_goldens.py OUTPUT_FOLDER

Statistics and codes are f32. Where a scheme keeps its parameters in 16 bits they are rounded first and the codes use the rounded
values. Codes lie one a byte here: int4 0..15, int8 as I8.
"""
import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

ROWS, K = 6, 256
F32 = np.float32


def to_bf16(x: np.ndarray) -> np.ndarray:
    """f32 rounded to the nearest bf16, ties to even, as f32."""
    bits = np.ascontiguousarray(x, F32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(F32)


def int4_weight_only(w: np.ndarray, group: int) -> dict[str, np.ndarray]:
    """torchao 0.5 int4_weight_only: range 0..15, zero not kept, float zero; parameters rounded to bf16 before the codes."""
    g = w.reshape(len(w), -1, group)
    low, high = g.min(-1), g.max(-1)
    scale = np.maximum((high - low) / F32(15), F32(1e-6))
    zero = low + F32(8) * scale
    scale, zero = to_bf16(scale), to_bf16(zero)
    codes = np.clip(np.rint((g - (zero - F32(8) * scale)[..., None]) / scale[..., None]), 0, 15).astype(F32)
    values = (codes - F32(8)) * scale[..., None] + zero[..., None]
    return {"codes": codes.reshape(w.shape).astype(np.uint8), "scales": scale, "zeros": zero, "values": values.reshape(w.shape)}


def int8_weight_only(w: np.ndarray) -> dict[str, np.ndarray]:
    """torchao int8_weight_only: symmetric per row, range -128..127 and so divisor 127.5; f32 scales."""
    scale = np.maximum(np.abs(w).max(-1) / F32(127.5), F32(np.finfo(F32).eps))
    codes = np.clip(np.rint(w * (F32(1) / scale)[:, None]), -128, 127).astype(F32)
    return {"codes": codes.astype(np.int8), "scales": scale, "values": codes * scale[:, None]}


def int8_activation(x: np.ndarray) -> dict[str, np.ndarray]:
    """torchao int8_dynamic_activation: symmetric per token, range -127..127, scale not under 1e-5."""
    scale = np.maximum(np.abs(x).max(-1) / F32(127), F32(1e-5))
    codes = np.clip(np.rint(x * (F32(1) / scale)[:, None]), -127, 127).astype(F32)
    return {"codes": codes.astype(np.int8), "scales": scale}


def main() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(scale=0.05, size=(ROWS, K)).astype(F32)
    w[0, :128] = 0  # whole groups of zero
    w[1, 128:] = 0.25  # constant groups
    w[2] = np.abs(w[2]) + 0.5  # far from zero
    w[3, ::31] *= 20  # outliers
    w[4] *= 1e-4
    x = rng.normal(size=(5, K)).astype(F32)
    x[1] = 0
    x[2] *= 1e-6  # the floor of the scale decides
    x[3, 7] = 300
    tensors = {"weights": w, "activations": x}
    for group in (32, 64, 128):
        tensors |= {f"int4_g{group}.{k}": v for k, v in int4_weight_only(w, group).items()}
    int8, act = int8_weight_only(w), int8_activation(x)
    tensors |= {f"int8.{k}": v for k, v in int8.items()} | {f"activation.{k}": v for k, v in act.items()}
    product = act["codes"].astype(np.int32) @ int8["codes"].astype(np.int32).T
    tensors["int8_dynamic.product"] = product.astype(np.int32)
    scales = act["scales"].astype(np.float64)[:, None] * int8["scales"].astype(np.float64)[None]
    tensors["int8_dynamic.output"] = (product * scales).astype(F32)
    output = pathlib.Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, output / "quant.safetensors")
    for name, value in tensors.items():
        print(f"{name:24} {value.dtype} {value.shape}")


if __name__ == "__main__":
    main()
