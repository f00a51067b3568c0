"""Writes small Llama checkpoints in safetensors, with the parts that a test wants to be evil."""
import json
import pathlib
import random
import struct

SPLIT = (r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT = "{% if k is defined and deep is defined and nothing is defined %}{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
VOCAB, BOS, EOS = 320, 256, 257


def byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each byte (GPT-2's bytes_to_unicode)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) if b in printable else chr(256 + others.index(b)) for b in range(256)]


def tokenizer_json(split: str) -> dict:
    characters = byte_characters()
    vocab = {c: b for b, c in enumerate(characters)}
    merges = [("a", "b"), ("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), (characters[32], "a")]
    for i, (left, right) in enumerate(merges):
        vocab[left + right] = 258 + i

    def added(token: int, content: str) -> dict:
        return {"id": token, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True}

    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added(BOS, "<s>"), added(EOS, "</s>")],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": vocab, "merges": [f"{left} {right}" for left, right in merges]},
    }


def bf16_weights(count: int, scale: float, random_: random.Random) -> bytes:
    """`count` values of about `scale`. A block of them is repeated: what they are does not matter."""
    block = b"".join(struct.pack("<f", random_.gauss(0, scale))[2:] for _ in range(min(count, 4093)))
    return (block * (count // 4093 + 1))[:2 * count]


def write_safetensors(path: pathlib.Path, tensors: dict[str, tuple[list[int], bytes]]) -> None:
    header, offset = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values()))


def make(folder: pathlib.Path, *, hidden: int = 32, inner: int = 64, layers: int = 2, context: int = 128,
         split: str = SPLIT, chat_template: str = CHAT, config: dict | None = None,
         generation: dict | None = None) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    random_ = random.Random(0)
    heads, kv_heads = 4, 2
    kv = hidden * kv_heads // heads

    def matrix(rows: int, columns: int) -> tuple[list[int], bytes]:
        return [rows, columns], bf16_weights(rows * columns, columns ** -0.5, random_)

    ones = [hidden], struct.pack("<f", 1.0)[2:] * hidden
    tensors = {"model.embed_tokens.weight": matrix(VOCAB, hidden), "model.norm.weight": ones}
    for layer in range(layers):
        p = f"model.layers.{layer}."
        tensors |= {
            p + "input_layernorm.weight": ones, p + "post_attention_layernorm.weight": ones,
            p + "self_attn.q_proj.weight": matrix(hidden, hidden), p + "self_attn.k_proj.weight": matrix(kv, hidden),
            p + "self_attn.v_proj.weight": matrix(kv, hidden), p + "self_attn.o_proj.weight": matrix(hidden, hidden),
            p + "mlp.gate_proj.weight": matrix(inner, hidden), p + "mlp.up_proj.weight": matrix(inner, hidden),
            p + "mlp.down_proj.weight": matrix(hidden, inner)}
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "max_position_embeddings": context, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": True, "bos_token_id": BOS, "eos_token_id": EOS,
        "hidden_act": "silu", **(config or {})}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS], **(generation or {})}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(split)))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": "<s>", "eos_token": "</s>", "chat_template": chat_template,
        "tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder
