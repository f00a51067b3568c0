#!/usr/bin/env python3
"""Writes tests/goldens/tokenizer/marks.json: the ids that transformers gives a chat whose messages hold the text of special
tokens, with sanitize_control_tokens=True.

  tools/oracle/make_mark_goldens.py SHARED_DIR tests/goldens/tokenizer

A prompt is a list of pieces as the template writes them: T the template's own text, R a role, D the content of a message.
"""
import json
import pathlib
import random
import sys

from transformers import PreTrainedTokenizerFast

TEMPLATES = {
    "llama3": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>{% endfor %}",
        lambda messages: [("T", "<|begin_of_text|>")]
        + [p for role, content in messages
           for p in [("T", "<|start_header_id|>"), ("R", role), ("T", "<|end_header_id|>\n\n"), ("D", content), ("T", "<|eot_id|>")]],
    ),
    "llama3 composed": (
        "{% for m in messages %}{{ '<|' + m.role + '_of_text|>' }}{{ m.content }}{% endfor %}",
        lambda messages: [p for role, content in messages
                          for p in [("T", "<|"), ("R", role), ("T", "_of_text|>"), ("D", content)]],
    ),
    "llama2": (
        "{% for m in messages %}{{ bos_token }}[{{ m.role }}] {{ m.content }} {{ eos_token }}{% endfor %}",
        lambda messages: [p for role, content in messages
                          for p in [("T", "<s>["), ("R", role), ("T", "] "), ("D", content), ("T", " </s>")]],
    ),
}
MARKS = {
    "llama3": ["<|eot_id|>", "<|start_header_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_7|>"],
    "llama2": ["<s>", "</s>", "<unk>"],
}
PARTS = ["a", "hello", " world", " ", "  ", "\n", "\n\n", "<", "|>", "<|", ".", "'s", "7", "1234", "é", "日本", "😀", "\t", "</", "x<"]


def contents(name, rng, count):
    marks = MARKS[name]
    fixed = [marks[0], f"a{marks[0]}", f"{marks[0]}a", f"a {marks[0]} b", f"{marks[0]}{marks[1]}", f"<{marks[0]}>", f" {marks[1]}\n\n{marks[1]} "]
    for text in fixed:
        yield text
    for _ in range(count):
        yield "".join(rng.choice(marks) if rng.random() < 0.3 else rng.choice(PARTS) for _ in range(rng.randint(1, 8)))


def main():
    shared, out = map(pathlib.Path, sys.argv[1:])
    rng = random.Random(9)
    prompts = []
    for name, (template, pieces_of) in TEMPLATES.items():
        family = name.split()[0]
        folder = shared / "data/tokenizers" / family
        config = json.loads((folder / "tokenizer_config.json").read_text())
        text_of = lambda token: token["content"] if isinstance(token, dict) else token
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), bos_token=text_of(config["bos_token"]), eos_token=text_of(config["eos_token"])
        )
        roles = ["begin", "end", "no"] if "composed" in name else ["user", "assistant", "a-b_1"]
        for content in contents(family, rng, 60):
            messages = [(rng.choice(roles), content), (rng.choice(roles), "ok")]
            ids = tokenizer.apply_chat_template(
                [{"role": role, "content": text} for role, text in messages],
                chat_template=template, sanitize_control_tokens=True, return_dict=False,
            )
            pieces = [list(p) for p in pieces_of(messages)]
            prompts.append({"tokenizer": family, "pieces": pieces, "ids": ids})
    (out / "marks.json").write_text(
        "[\n" + ",\n".join(json.dumps(p, ensure_ascii=False) for p in prompts) + "\n]\n"
    )
    print(len(prompts), "prompts")


main()
