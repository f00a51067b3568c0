#!/usr/bin/env python3
"""Makes tests/goldens/sampling: rows of logits after the processors of transformers, in the order of generate().

usage: make_sampling_goldens.py OUTPUT_FOLDER TINY_LLAMA_FOLDER

`generate.safetensors`: what generate() gives with a tiny Llama, greedy, by settings.

transformers has no presence and frequency penalties: their formula is vLLM's (vllm/model_executor/layers/utils.py,
apply_penalties), in f32 after the repetition penalty. Case NN holds: logits, prompt, output, suppressed, params (repetition,
frequency, presence, no_repeat_ngram_size, temperature, top_k, top_p, min_p), `processed` after the processors and `kept`, 1 for
each token that the filters leave.
"""
import itertools
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList
from transformers import RepetitionPenaltyLogitsProcessor

VOCAB = 48


class OutputPenalties(LogitsProcessor):
    def __init__(self, output: list[int], frequency: float, presence: float):
        self.counts = torch.bincount(torch.tensor(output, dtype=torch.long), minlength=VOCAB).float()
        self.frequency, self.presence = frequency, presence

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores - self.frequency * self.counts
        return scores - self.presence * (self.counts > 0).float()


def processors(model: LlamaForCausalLM, config: GenerationConfig, prompt: list[int], output: list[int],
               frequency: float, presence: float) -> LogitsProcessorList:
    """Those of generate(); the output's penalties follow the repetition penalty, or come first without one."""
    made = model._get_logits_processor(config, input_ids_seq_length=len(prompt), device="cpu")
    at = max((i + 1 for i, p in enumerate(made) if isinstance(p, RepetitionPenaltyLogitsProcessor)), default=0)
    made.insert(at, OutputPenalties(output, frequency, presence))
    return made


GENERATE = {
    "none": {},
    "repetition_up": {"repetition_penalty": 1.3},
    "repetition_down": {"repetition_penalty": 0.7},
    "bigrams": {"no_repeat_ngram_size": 2},
    "trigrams_repetition": {"no_repeat_ngram_size": 3, "repetition_penalty": 1.1},
    "suppress": {"suppress": "suppress_tokens"},
    "begin_suppress": {"suppress": "begin_suppress_tokens"},
}


def generated(folder: str) -> dict[str, np.ndarray]:
    """Prompt, suppressed ids and new ids of each setting; a prompt where the choice is never closer than 1e-3."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tensors = {}
    for number, (name, setting) in enumerate(GENERATE.items()):
        for seed in itertools.count(1000 * number):
            rng = np.random.default_rng(seed)
            prompt = torch.tensor(rng.integers(3, model.config.vocab_size, size=12))[None]

            def run(**more: object) -> tuple[list[int], float]:
                out = model.generate(prompt, do_sample=False, max_new_tokens=24, min_new_tokens=24, eos_token_id=[],
                                     pad_token_id=0, output_scores=True, return_dict_in_generate=True, **more)
                best = torch.stack(out.scores)[:, 0].topk(2).values
                return out.sequences[0, prompt.shape[1]:].tolist(), float((best[:, 0] - best[:, 1]).min())

            plain, _ = run()
            suppressed = sorted({plain[0], plain[5], plain[11]})
            more = {setting["suppress"]: suppressed} if "suppress" in setting else setting
            ids, margin = run(**more)
            if margin > 1e-3 and (ids != plain) == bool(setting):
                break
        tensors[name + ".prompt"] = prompt[0].to(torch.int32).numpy()
        tensors[name + ".suppressed"] = np.array(suppressed, np.int32)
        tensors[name + ".ids"] = np.array(ids, np.int32)
    return tensors


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                         num_attention_heads=1, max_position_embeddings=64))
    tensors = {}
    grid = itertools.product((1.0, 1.25, 0.8), ((0.0, 0.0), (0.5, 0.25), (-0.5, 1.0)), (0, 1, 2, 3), (False, True))
    for number, (repetition, (frequency, presence), ngram, first) in enumerate(grid):
        words = rng.integers(0, VOCAB, size=6).tolist()  # few words, so that n-grams repeat
        prompt = [words[i] for i in rng.integers(0, len(words), size=20)]
        output = [] if first else [words[i] for i in rng.integers(0, len(words), size=15)]
        suppressed = sorted(set(rng.integers(0, VOCAB, size=3).tolist()))
        filters = {"temperature": float(rng.choice([0.5, 1.0, 2.0])), "top_k": int(rng.choice([5, 20, VOCAB])),
                   "top_p": float(rng.choice([0.4, 0.9, 1.0])), "min_p": float(rng.choice([0.0, 0.05, 0.2]))}
        config = GenerationConfig(repetition_penalty=repetition, no_repeat_ngram_size=ngram, max_length=64,
                                  **({"begin_suppress_tokens": suppressed} if first else {"suppress_tokens": suppressed}))
        sampling = GenerationConfig(do_sample=True, max_length=64, **filters)
        logits = rng.normal(scale=2, size=VOCAB).astype(np.float32)
        logits[rng.integers(0, VOCAB)] = 0
        ids = torch.tensor([prompt + output])
        processed = processors(model, config, prompt, output, frequency, presence)(ids, torch.tensor(logits)[None])
        warped = model._get_logits_processor(sampling, input_ids_seq_length=len(prompt), device="cpu")(ids, processed.clone())
        case = f"{number:02}."
        tensors[case + "logits"] = logits
        tensors[case + "prompt"] = np.array(prompt, np.int32)
        tensors[case + "output"] = np.array(output or [-1], np.int32)  # -1: none yet
        tensors[case + "suppressed"] = np.array(suppressed, np.int32)
        tensors[case + "params"] = np.array([repetition, frequency, presence, ngram, *filters.values()], np.float32)
        tensors[case + "processed"] = processed[0].numpy()
        tensors[case + "kept"] = torch.isfinite(warped[0]).to(torch.uint8).numpy()
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "processors.safetensors")
    save_file(generated(sys.argv[2]), folder / "generate.safetensors")


if __name__ == "__main__":
    main()
