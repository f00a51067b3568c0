#!/usr/bin/env python3
"""What a checkpoint's generation_config.json says of sampling and length, as `quantd chat` and `quantd generate` use it: it wins over
the defaults of the command line, and a flag wins over both.

usage: checkpoint_defaults_test.py QUANTD
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import polling

QUANTD = sys.argv[1]
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "hostile"))
import tiny_model  # noqa: E402

LIMIT_S = 60
CHAT = "{% for m in messages %}{{ m.content }}{% endfor %}"
OWN = ["--temperature", "0.8", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.05", "--repetition-penalty", "1.1"]  # of the command line
GREEDY = ["--temperature", "0"]
MODELS = {  # what generation_config.json says, and the flags that say the same
    "nothing": ({}, OWN),
    "sampled": ({"do_sample": True, "temperature": 3.0, "top_p": 0.9},
                ["--temperature", "3", "--top-p", "0.9", "--top-k", "50", "--min-p", "0", "--repetition-penalty", "1"]),
    "sampled_plainly": ({"do_sample": True},
                        ["--temperature", "1", "--top-p", "1", "--top-k", "50", "--min-p", "0", "--repetition-penalty", "1"]),
    "top_k_off": ({"do_sample": True, "temperature": 5.0, "top_k": 0},
                  ["--temperature", "5", "--top-p", "1", "--top-k", "0", "--min-p", "0", "--repetition-penalty", "1"]),
    "penalized": ({"do_sample": True, "temperature": 2.0, "repetition_penalty": 1.5},
                  ["--temperature", "2", "--top-p", "1", "--top-k", "50", "--min-p", "0", "--repetition-penalty", "1.5"]),
    "greedy": ({"do_sample": False}, GREEDY),
    "greedy_with_leftovers": ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, GREEDY),
    "no_choice": ({"temperature": 3.0, "top_p": 0.9}, OWN),  # without do_sample transformers samples with neither
    "null": ({"do_sample": None, "temperature": None}, OWN),
    "penalty_alone": ({"repetition_penalty": 1.7}, OWN[:-1] + ["1.7"]),
    "short": ({"do_sample": True, "max_new_tokens": 3},
              ["--temperature", "1", "--top-p", "1", "--top-k", "50", "--min-p", "0", "--repetition-penalty", "1", "--max-tokens", "3"]),
}


class CheckpointDefaults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        folder = pathlib.Path(temporary.name)
        args = []
        for name, (generation, _) in MODELS.items():
            tiny_model.make(folder / name, chat_template=CHAT, generation=generation)
            args += ["--model", folder / name]
        ready = folder / "ready.json"
        cls.log = open(folder / "log", "wb")
        cls.addClassCleanup(cls.log.close)
        cls.daemon = subprocess.Popen([QUANTD, "serve", *map(str, args), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                                       "--kv-cache-bytes", "1MiB", "--ready-file", str(ready)], stderr=cls.log)
        cls.addClassCleanup(cls.daemon.wait)
        cls.addClassCleanup(cls.daemon.kill)
        polling.wait_until(ready.exists, "the daemon is ready", LIMIT_S)
        cls.address = json.loads(ready.read_text())["grpc"]

    def ask(self, model: str, *args, command: str = "chat", seed: int = 5) -> str:
        result = subprocess.run([QUANTD, command, "ab hello", "--address", self.address, "--model", model, "--seed", str(seed), *args],
                                stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.decode(errors="surrogateescape")

    def test_a_checkpoint_wins_over_the_defaults_of_the_command_line(self):
        for name, (_, flags) in MODELS.items():
            for command in ["chat", "generate"]:
                with self.subTest(name, command=command):
                    self.assertEqual(self.ask(name, command=command), self.ask(name, *flags, command=command))

    def test_the_settings_make_a_difference(self):
        said = {name: self.ask(name) for name in MODELS}
        for name in ["sampled", "sampled_plainly", "top_k_off", "penalized", "greedy", "short"]:
            self.assertNotEqual(said[name], said["nothing"], name)  # the models are the same but for this file
        self.assertNotEqual(said["sampled"], self.ask("sampled", seed=6))

    def test_do_sample_false_is_greedy_whatever_the_seed(self):
        for name in ["greedy", "greedy_with_leftovers"]:
            self.assertEqual(self.ask(name, seed=1), self.ask(name, seed=2))

    def test_a_flag_wins_over_the_checkpoint(self):
        self.assertEqual(self.ask("sampled", *GREEDY), self.ask("greedy"))
        self.assertEqual(self.ask("greedy", "--temperature", "3"), self.ask("nothing", "--temperature", "3", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--repetition-penalty", "1"))
        self.assertEqual(self.ask("short", "--max-tokens", "7"), self.ask("sampled_plainly", "--max-tokens", "7"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
