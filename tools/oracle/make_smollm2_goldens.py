#!/usr/bin/env python3
"""Makes tests/goldens/smollm2: greedy answers of SmolLM2-135M-Instruct by transformers, on the weights of its GGUF.

usage: make_smollm2_goldens.py MODEL.gguf OUTPUT_FOLDER [VECTORS.jsonl]

The GGUF is decoded by the `gguf` package and q/k rows are un-permuted; arithmetic is f32. Prompts are rendered by jinja2 as
transformers sets it up. The tokenizer is `tokenizers` BPE from the GGUF's vocabulary and merges, split as
`tokenizer.ggml.pre = smollm` says (transformers' own loader leaves the digit split out); VECTORS.jsonl checks it.
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

NEW_TOKENS = 40
SAMPLED_CHATS, STRIDE = 3, 16  # logits of step s of the first chats are kept at the ids that are s modulo STRIDE
HF_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


CHATS = [
    user("Why is the sky blue?"),
    user("Write a short poem about a lighthouse in winter."),
    [{"role": "system", "content": "You answer in one short sentence."}, *user("What does a compiler do?")],
    user("What is 17 + 25?"),
    user("Name three fruits that are red."),
    user("Translate to French: Good morning, my friend."),
    user("Explain photosynthesis to a child."),
    user("Write a Python function that reverses a string."),
    user("Who wrote Romeo and Juliet?"),
    user("Summarize in one sentence: The meeting was moved from Tuesday 14:30 to Thursday 9:00 because the room was taken."),
    [*user("My name is Ada and I like chess."), {"role": "assistant", "content": "Nice to meet you, Ada! Chess is a fine game."},
     *user("What is my name, and what do I like?")],
    user("Give me a recipe for pancakes with 2 eggs, 250 ml milk and 150 g flour."),
    user("Was ist die Hauptstadt von Österreich?"),
    user("List the planets of the solar system in order from the sun."),
    user("Fix the grammar: she go to school every days"),
    [*user("Tell me a joke."), {"role": "assistant", "content": "Why did the scarecrow win a prize? He was outstanding in his field."},
     *user("Another one, please."), {"role": "assistant", "content": "I would tell you a joke about paper, but it is tearable."},
     *user("Explain the last one.")],
    user("What is the difference between TCP and UDP?"),
    user("Continue the story: The old clock struck thirteen, and"),
    user("Is 91 a prime number? Explain.\n\nThink step by step."),
    user("Reply with an emoji for happiness 😀 and one for rain."),
]


def contents(reader: gguf.GGUFReader, key: str):
    return reader.get_field(key).contents()


def load_tokenizer(reader: gguf.GGUFReader, with_special: bool) -> Tokenizer:
    tokens, merges = contents(reader, "tokenizer.ggml.tokens"), contents(reader, "tokenizer.ggml.merges")
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ", 1)) for m in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    if with_special:
        control = [t for t, kind in zip(tokens, contents(reader, "tokenizer.ggml.token_type")) if kind == gguf.TokenType.CONTROL]
        tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in control])
    return tokenizer


def check_tokenizer(reader: gguf.GGUFReader, vectors: pathlib.Path) -> None:
    plain, special = load_tokenizer(reader, False), load_tokenizer(reader, True)
    count = 0
    for line in vectors.read_text().splitlines():
        vector = json.loads(line)
        for tokenizer, key in ((plain, "ids"), (special, "ids_special")):
            got = tokenizer.encode(vector["text"]).ids
            assert got == vector[key], (vector["text"], key, got, vector[key])
        count += 1
    print(f"tokenizer: {count} vectors equal")


def load_model(reader: gguf.GGUFReader) -> LlamaForCausalLM:
    key = "llama."
    heads, kv_heads = contents(reader, key + "attention.head_count"), contents(reader, key + "attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=contents(reader, key + "vocab_size"), hidden_size=contents(reader, key + "embedding_length"),
        intermediate_size=contents(reader, key + "feed_forward_length"), num_hidden_layers=contents(reader, key + "block_count"),
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=contents(reader, key + "context_length"),
        rms_norm_eps=float(contents(reader, key + "attention.layer_norm_rms_epsilon")), tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": float(contents(reader, key + "rope.freq_base"))},
        attn_implementation="eager")
    weights = {}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
        values = values.reshape([int(d) for d in reversed(tensor.shape)])
        parts = tensor.name.split(".")
        if parts[0] == "token_embd":
            name = "model.embed_tokens.weight"
        elif parts[0] == "output_norm":
            name = "model.norm.weight"
        else:
            name = f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}.weight"
            if parts[2] in ("attn_q", "attn_k"):  # rows (head, i, half) to (head, half, i)
                count, (n, k) = heads if parts[2] == "attn_q" else kv_heads, values.shape
                values = np.ascontiguousarray(values.reshape(count, n // count // 2, 2, k).swapaxes(1, 2).reshape(n, k))
        weights[name] = torch.from_numpy(values.copy())
    model = LlamaForCausalLM(config).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def answer(model: LlamaForCausalLM, prompt: list[int], end: int) -> tuple[list[int], np.ndarray]:
    """The greedy tokens and, for each, the logits [vocabulary] that chose it: from one pass over prompt and answer."""
    ids, past, step = list(prompt), None, torch.tensor([prompt])
    while len(ids) < len(prompt) + NEW_TOKENS and (len(ids) == len(prompt) or ids[-1] != end):
        with torch.no_grad():
            out = model(step, past_key_values=past, use_cache=True)
        past, step = out.past_key_values, out.logits[:, -1:].argmax(-1)
        ids.append(int(step))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(prompt) - 1:-1].numpy()
    assert ids[len(prompt):] == logits.argmax(-1).tolist()
    return ids[len(prompt):], logits


def main() -> None:
    reader = gguf.GGUFReader(sys.argv[1])
    output = pathlib.Path(sys.argv[2])
    if len(sys.argv) > 3:
        check_tokenizer(reader, pathlib.Path(sys.argv[3]))
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(contents(reader, "tokenizer.chat_template"))
    tokenizer, model = load_tokenizer(reader, True), load_model(reader)
    end = contents(reader, "tokenizer.ggml.eos_token_id")
    chats, samples = [], {}
    for number, messages in enumerate(CHATS):
        text = template.render(messages=messages, add_generation_prompt=True)
        prompt = tokenizer.encode(text).ids
        ids, logits = answer(model, prompt, end)
        steps = []
        for step, row in enumerate(logits):
            top = np.argsort(-row, kind="stable")[:5]
            steps.append({"top_ids": top.tolist(), "top_logits": [round(float(row[t]), 5) for t in top],
                          "max_abs": round(float(np.abs(row).max()), 5)})
            if number < SAMPLED_CHATS and step < STRIDE:
                samples[f"chat{number}_step{step}"] = np.ascontiguousarray(row[step::STRIDE])
        chats.append({"messages": messages, "prompt_ids": prompt, "answer_ids": ids, "answer": tokenizer.decode(ids), "steps": steps})
        margin = min(s["top_logits"][0] - s["top_logits"][1] for s in steps)
        print(f"{number}: {len(prompt)} + {len(ids)} tokens, smallest margin {margin:.4f}: {chats[-1]['answer'][:70]!r}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in chats)
    (output / "chats.json").write_text(f"[\n{rows}\n]\n")
    save_file(samples, output / "logit_samples.safetensors")


if __name__ == "__main__":
    main()
