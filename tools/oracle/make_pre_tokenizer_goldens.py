#!/usr/bin/env python3
"""Writes tests/goldens/tokenizer/pre_tokenizers.json: where the pre-tokenizers that a GGUF names (tokenizer.ggml.pre) cut text.

  pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36     # its sdist holds llama.cpp
  tools/oracle/make_pre_tokenizer_goldens.py llama_cpp_python-0.3.36.tar.gz tests/goldens/tokenizer

Two oracles. `llama_cpp` is llama.cpp's own splitter (src/unicode.cpp, compiled here) with the patterns of src/llama-vocab.cpp.
`published` is Hugging Face `tokenizers` with the patterns of the models' own tokenizer.json, where they are known: those that
llama-vocab.cpp quotes beside one that its engine can run, and those of DeepSeek, which it runs as they are (but takes any white space
beyond ASCII for U+000B, which no range of characters holds). Each is a list of byte offsets, those at which a piece begins.
"""
import ast
import json
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import tempfile

from tokenizers import Regex, pre_tokenizers

NAMES = {  # of tokenizer.ggml.pre: what llama-vocab.cpp calls its patterns
    "llama-bpe": "LLAMA3", "smollm": "SMOLLM", "gpt-2": "GPT2", "qwen2": "QWEN2", "tekken": "TEKKEN", "gpt-4o": "GPT4O",
    "deepseek-v3": "DEEPSEEK3_LLM", "deepseek-coder": "DEEPSEEK_CODER", "seed-coder": "SEED_CODER", "falcon": "FALCON", "default": None,
}
AS_PUBLISHED = ["deepseek-v3", "deepseek-coder"]  # each pattern a Split of tokenizer.json (there single digits are Digits)
TEXTS = [
    "Hello world", " Hello  world ", "it's we'RE I'Ll they'd'VE", "don\u2019t 'S'tx", "a1b22c333d4444e55555", "12345678 3.14 1,000",
    "\u0663\u0664\u0665\u0666 \u00bd\u2167\u00b2", "\u6f22\u5b57\u304b\u306a\u30ab\u30ca", "abc\u6f22\u5b57 12\u6f22", "\u4e00\u9fa5\u9fa6\u3400x", "\ud55c\uad6d\uc5b4 \uac00\ud7a3",
    "\u3042\u3044\u3001\u3046\u3002\u30fc\u30fb", "\U0001f600\U0001f44d\U0001f3fd ok", "\U0001f469\u200d\U0001f680x", "\U0001f1e9\U0001f1ea \u2764\ufe0f", "e\u0301a\u0308 \u0300x", "\u0928\u093f\u0930\u094d \u0939\u093f",
    "\u0e01\u0e33\u0e44\u0e17\u0e22", "\u0627\u064e\u0644\u0652\u0639", "\u05e9\u05b8\u05dc", "   three", "a   b    c", "tab\tx\t\ty", "a\nb\n\nc", "a\r\nb\r\n\r\nc", " \n \n x", "\n\n\n", "  \n", "x  \n  y", "\r\r\n\n\r",
    "\u00a0x\u00a0\u00a0y", "\u3000\u4e2d\u3000", "\u2028x\u2029\u0085y", "\u200bx\u200c\ufeffy", "camelCaseHTTPServer", "ABCdefGHI jKL", "\u00c9cole \u00c9COLE \u00e9\u00c9\u00e9", "\u01c5\u02b0\u00aa \u1e9e\u00df", "\u0394\u03b5\u03bb \u0416\u0443\u043a",
    "!!!...???", "foo(bar)[0]{x}", "a+b=c<d>e^f~g|h`i", "$5.00 \u20ac7 \u00a39%", "#tag @me _x_ __y__", "//path/to/x", "x/\n/y", "\"q\" 'r' \u00abs\u00bb\u2026\u2014", "\uff01\uff08\u5168\u89d2\uff09\uff11\uff12", "\\n \\\\ \\t",
    "http://a.b/c?d=e&f", "<|x|> </s> [INST]", "if(x){return 1;}//ok", "1st 2nd 10th x1y", "a_b-c.d,e;f:g", "\u2460\u2461 \u00b9\u00b2\u00b3 \u215b", "\u0e53\u0966\u17e0 7\u0663", "\u20dd\u0300 \u0301a\u0302", "'t 'm'", "\u2581x\u2581 y", "\x00\x01a\x7f",
    "'\u017f \u212a's", "a\u0301\u0301B\u0301c", "\u1e69S\u0323X", "0" * 13, "a" * 20, " " * 9 + "a", ". . .", "a.\nb!\n\nC?\r\n d",
]

PARTS = ["a", "Bc", "DE", " ", "  ", "\n", "\r\n", "\t", "1", "23", "456", ".", "!?", "'s", "'LL", "-", "(", "/", "_", "\u00e9", "\u00dc", "\u0301", "\u6f22", "\u304b", "\u30ab",
         "\uac00", "\u0416", "\u0663", "\u00bd", "\U0001f600", "\u200d", "\u00a0", "\u3000", "\u3001", "\u20ac", "+", "=", "`", "$", "\u0e33", "\u0939\u093f"]


def random_texts():
    rng = random.Random(8)
    texts = ["".join(rng.choice(PARTS) for _ in range(rng.randint(2, 12))) for _ in range(120)]
    return [text for text in texts if len(text.encode()) <= 32]  # the test's vocabulary has every part of a text


MAIN = r"""
#include "unicode.h"
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
int main(int argc, char ** argv) {  // patterns in the arguments, texts in a file, each ended by 0xFF; a line of the pieces' bytes each
    std::ifstream in(argv[1], std::ios::binary);
    for (std::string text; std::getline(in, text, '\xff');) {
        for (const auto & piece : unicode_regex_split(text, {argv + 2, argv + argc}, /*byte_encode=*/true)) {
            size_t bytes = 0;
            for (size_t i = 0; i < piece.size(); i += unicode_len_utf8(piece[i])) ++bytes;  // a character for each byte
            std::printf("%zu ", bytes);
        }
        std::printf("\n");
    }
}
"""


def literals(block):
    """The C++ string literals of a block, each as the text that it stands for, and those of its comments."""
    code, comments = [], []
    for line in block.splitlines():
        comment = line.strip().startswith("//")
        for text in re.findall(r'"(?:[^"\\]|\\.)*"', line):
            (comments if comment else code).append(ast.literal_eval(text))
    return code, comments


def patterns(source, name):
    body = source[source.index("struct llm_tokenizer_bpe : "):source.index("struct llm_tokenizer_bpe_session")]
    label = "default:" if name is None else f"case LLAMA_VOCAB_PRE_TYPE_{name}:"
    begin = body.index(label)
    return literals(body[begin:body.index("break;", begin)])


def offsets(sizes):
    out, at = [], 0
    for size in sizes:
        out.append(at)
        at += size
    return out


def published(text, regexes):
    """Byte offsets at which the pieces of a Sequence of Splits begin."""
    pieces = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r), "isolated") for r in regexes]).pre_tokenize_str(text)
    return [len(text[:begin].encode()) for _, (begin, _) in pieces]


def main():
    archive, out = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                if re.search(r"vendor/llama\.cpp/src/(unicode.*|llama-vocab\.cpp)$", member.name):
                    (folder / pathlib.Path(member.name).name).write_bytes(tar.extractfile(member).read())
        (folder / "main.cpp").write_text(MAIN)
        program = folder / "split"
        subprocess.run(["c++", "-std=c++17", "-O1", "-o", program, folder / "main.cpp", folder / "unicode.cpp", folder / "unicode-data.cpp"], check=True)
        source = (folder / "llama-vocab.cpp").read_text()
        texts = TEXTS + random_texts()
        (folder / "texts").write_bytes(b"".join(text.encode() + b"\xff" for text in texts))
        cases = []
        for pre, name in NAMES.items():
            code, comments = patterns(source, name)
            entry = {"pre": pre}
            if comments or pre in AS_PUBLISHED:
                entry["published"] = [published(text, comments[:1] or code) for text in texts]
            told = subprocess.run([program, folder / "texts", *code], check=True, capture_output=True, text=True).stdout
            entry["llama_cpp"] = [offsets(map(int, line.split())) for line in told.splitlines()]
            assert len(entry["llama_cpp"]) == len(texts)
            cases.append(entry)
    (out / "pre_tokenizers.json").write_text(json.dumps({"texts": texts, "pre_tokenizers": cases}, separators=(",", ":")) + "\n")
    for case in cases:
        differ = [t for t, a, b in zip(texts, case["llama_cpp"], case.get("published", case["llama_cpp"])) if a != b]
        print(case["pre"], len(differ), "texts differ between the two:" if differ else "", differ)


main()
