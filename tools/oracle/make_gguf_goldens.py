#!/usr/bin/env python3
"""Makes tests/goldens/gguf: block formats and tiny llama models as GGUF v3, with what gguf and transformers make of them.

usage: make_gguf_goldens.py OUTPUT_FOLDER

Blocks are encoded and decoded by the `gguf` package. A model's logits are those of transformers in f32 with the decoded
weights; query and key rows are written as llama.cpp's converter writes them (rotary halves interleaved).
"""
import json
import math
import pathlib
import sys

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

F32, F16, BF16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16
Q8_0, Q4_0, Q4_1 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q4_1
LENGTHS = [1, 33, 40]
HIDDEN, HEADS, KV_HEADS, INNER, LAYERS, CONTEXT, EPS = 32, 2, 1, 64, 2, 128, 1e-5
HEAD_DIM = HIDDEN // HEADS
TYPES = {"attn_q": Q4_1, "attn_k": Q4_0, "attn_v": F16, "attn_output": BF16, "ffn_gate": Q4_1, "ffn_up": Q8_0, "ffn_down": Q4_1}
HF_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
INST = ("{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}")


def make_blocks(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """TYPE.blocks, the bytes of rows of 96 values, and TYPE.values f32 [8, 96]. The first rows are awkward on purpose."""
    rows = rng.normal(size=(8, 96)).astype(np.float32)
    rows[0] = 0
    rows[1] = np.abs(rows[1]) + 1  # never near zero: a minimum far from it
    rows[2] = -np.abs(rows[2]) - 1
    rows[3, ::7] *= 100  # outliers
    rows[4] *= 1e-6  # f16 scales are subnormal
    rows[5] = 0.5  # constant
    out = {"source": rows}
    for kind in (F32, F16, BF16, Q8_0, Q4_0, Q4_1):
        blocks = np.ascontiguousarray(gguf.quantize(rows, kind))
        name = kind.name.lower()
        out[f"{name}.blocks"] = blocks.view(np.uint8).reshape(8, -1)
        out[f"{name}.values"] = gguf.dequantize(blocks, kind).astype(np.float32).reshape(8, 96)
    return out


def gpt2_vocabulary() -> tuple[list[str], list[str]]:
    """Tokens (256 bytes, then merges, then three control tokens) and merges of a small byte-level BPE."""
    merges = ["t h", "th e", "Ġ the", "a n", "an d", "Ġ and", "i n", "in g", "h e", "l l", "he ll", "hell o", "Ġ t", "o r",
              "w or", "l d", "wor ld", "Ġ world", "1 2", "e r"]
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + [m.replace(" ", "") for m in merges]
    return [*tokens, "<|endoftext|>", "<|im_start|>", "<|im_end|>"], merges


def spm_vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Tokens, scores and types of a small SentencePiece-style BPE with byte fallback, in the order of llama's own."""
    kind = gguf.TokenType
    tokens, types = ["<unk>", "<s>", "</s>"], [kind.UNKNOWN, kind.CONTROL, kind.CONTROL]
    tokens += [f"<0x{b:02X}>" for b in range(256)]
    types += [kind.BYTE] * 256
    pieces = ["▁t", "he", "▁a", "in", "▁the", "er", "on", "ing", "▁he", "ll", "▁hell", "▁hello", "▁"]
    pieces += list("etaoinshrdlucmfwypvbgkjqxz")
    tokens += pieces
    types += [kind.NORMAL] * len(pieces)
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    return tokens, scores, types


def write_vocabulary(writer: gguf.GGUFWriter, kind: str) -> int:
    if kind == "gpt2":
        tokens, merges = gpt2_vocabulary()
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 3) + [gguf.TokenType.CONTROL] * 3)
        writer.add_token_merges(merges)
        writer.add_bos_token_id(len(tokens) - 2)
        writer.add_eos_token_id(len(tokens) - 1)
        writer.add_unk_token_id(len(tokens) - 3)
        writer.add_add_bos_token(False)
        writer.add_chat_template(CHATML)
    else:
        tokens, scores, types = spm_vocabulary()
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_chat_template(INST)
    return len(tokens)


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows (head, half, i) to (head, i, half), as the converter does for adjacent-pair rope."""
    n, k = rows.shape
    return rows.reshape(heads, 2, n // heads // 2, k).swapaxes(1, 2).reshape(n, k)


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    n, k = rows.shape
    return rows.reshape(heads, n // heads // 2, 2, k).swapaxes(1, 2).reshape(n, k)


def llama3_factors(theta: float, factor: float, low: float, high: float, original: int) -> np.ndarray:
    """rope_freqs.weight: what the converter of llama.cpp writes for a checkpoint with llama3 scaling. f32 [D/2]."""
    factors = []
    for i in range(0, HEAD_DIM, 2):
        wavelength = 2 * math.pi * theta ** (i / HEAD_DIM)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def make_model(folder: pathlib.Path, name: str, seed: int, vocabulary: str, tied: bool, rope: dict, theta: float,
               keep_weights: bool) -> None:
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", "llama")
    writer.add_name(name)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    vocab = write_vocabulary(writer, vocabulary)
    writer.add_vocab_size(vocab)

    weights: dict[str, np.ndarray] = {}

    def add(gguf_name: str, hf_name: str, values: np.ndarray, kind: gguf.GGMLQuantizationType, heads: int = 0) -> None:
        blocks = gguf.quantize(permute(values, heads) if heads else values, kind)
        writer.add_tensor(gguf_name, blocks, raw_dtype=kind)
        decoded = gguf.dequantize(blocks, kind).astype(np.float32).reshape(values.shape)
        weights[hf_name] = np.ascontiguousarray(unpermute(decoded, heads) if heads else decoded)

    def normal(*shape: int, std: float) -> np.ndarray:
        return rng.normal(scale=std, size=shape).astype(np.float32)

    add("token_embd.weight", "model.embed_tokens.weight", normal(vocab, HIDDEN, std=1.0), Q8_0)
    if "original_max_position_embeddings" in rope:
        factors = llama3_factors(theta, rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"],
                                 rope["original_max_position_embeddings"])
        writer.add_tensor("rope_freqs.weight", factors, raw_dtype=F32)
    shapes = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN), "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
              "attn_output": (HIDDEN, HIDDEN), "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
    for layer in range(LAYERS):
        for short, shape in shapes.items():
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(short, 0)
            add(f"blk.{layer}.{short}.weight", f"model.layers.{layer}.{HF_NAMES[short]}.weight",
                normal(*shape, std=1.4 / math.sqrt(shape[1])), TYPES[short], heads)
        for short in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{short}.weight", f"model.layers.{layer}.{HF_NAMES[short]}.weight", 1 + normal(HIDDEN, std=0.3), F32)
    add("output_norm.weight", "model.norm.weight", 1 + normal(HIDDEN, std=0.3), F32)
    if not tied:
        add("output.weight", "lm_head.weight", normal(vocab, HIDDEN, std=2 / math.sqrt(HIDDEN)), Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    config = LlamaConfig(vocab_size=vocab, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
                         num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=CONTEXT,
                         rms_norm_eps=EPS, tie_word_embeddings=tied, rope_parameters={**rope, "rope_theta": theta},
                         attn_implementation="eager")
    model = LlamaForCausalLM(config).eval()
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    golden = {f"weight.{k}": v for k, v in weights.items()} if keep_weights else {}
    for i, length in enumerate(LENGTHS):
        ids = rng.integers(0, vocab, length)
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)[None]).logits[0].float().numpy()
        golden[f"ids_{i}"], golden[f"logits_{i}"] = ids.astype(np.int32), np.ascontiguousarray(logits)
    save_file(golden, folder / f"{name}.golden.safetensors")
    print(f"{name}: {(folder / f'{name}.gguf').stat().st_size} bytes, logits std {golden['logits_2'].std():.2f}")


def make_token_vectors(path: pathlib.Path) -> None:
    """Texts and ids of the gpt2 vocabulary by `tokenizers`, split as `tokenizer.ggml.pre = smollm` says."""
    tokens, merges = gpt2_vocabulary()
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    texts = ["hello world", " the and thing", "12 and 1212", "naïve café 😀", "", "  two  spaces\n\n", "<|im_end|>'s", "١٢½ x²"]
    vectors = [{"text": t, "ids": tokenizer.encode(t).ids} for t in texts]
    path.write_text("[\n" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in vectors) + "\n]\n")


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(make_blocks(np.random.default_rng(0)), folder / "blocks.safetensors")
    default, linear = {"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64}
    make_model(folder, "mixed_tied_gpt2", 1, "gpt2", True, default, 10000.0, keep_weights=True)
    make_model(folder, "untied_rope_freqs_gpt2", 2, "gpt2", False, llama3, 500000.0, keep_weights=False)
    make_model(folder, "rope_linear_spm", 3, "llama", True, linear, 10000.0, keep_weights=False)
    make_token_vectors(folder / "gpt2_vectors.json")


if __name__ == "__main__":
    main()
