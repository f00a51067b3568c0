#!/usr/bin/env python3
"""Plants one violation of each row of the table of floors and asserts that tools/check_layers.py finds exactly it."""
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import check_layers  # noqa: E402

# file -> includes it may not have.
VIOLATIONS = {
    "base/a.h": ["kernels/tensor.h", "runtime/tokenizer.h", "scheduler/request.h", "server/outbox.h", "grpcpp/grpcpp.h",
                 "nlohmann/json.hpp", "thread", "../base/log.h"],
    "kernels/a.h": ["runtime/tokenizer.h", "scheduler/request.h", "server/outbox.h", "grpcpp/grpcpp.h",
                    "google/protobuf/message.h", "prometheus/registry.h", "nlohmann/json.hpp", "nlohmann/json_fwd.hpp",
                    "cuda_runtime.h", "cublasLt.h", "cutlass/cutlass.h", "immintrin.h", "thread", "mutex", "base/mutex.h",
                    "base/clock.h", "kernels/cuda/plugin.h", "pcre2.h", "quantd/v1/generation.pb.h"],
    "kernels/cpu/a.cc": ["cuda.h", "cublasLt.h", "nlohmann/json.hpp", "runtime/tokenizer.h", "kernels/cuda/plugin.h"],
    "kernels/reference/a.cc": ["immintrin.h", "arm_neon.h", "thread", "condition_variable"],
    "kernels/cuda/a.cu": ["immintrin.h", "nlohmann/json.hpp", "runtime/tokenizer.h", "grpcpp/grpcpp.h"],
    "runtime/a.h": ["scheduler/request.h", "server/outbox.h", "grpcpp/grpcpp.h", "google/protobuf/message.h",
                    "prometheus/registry.h", "cuda_runtime.h", "thread", "future", "mutex", "shared_mutex",
                    "condition_variable", "chrono", "base/mutex.h", "base/clock.h", "absl/synchronization/mutex.h",
                    "absl/time/clock.h", "nlohmann/json.hpp", "runtime/json.h", "pcre2.h", "utf8proc.h", "kernels/cpu/gemm.h",
                    "httplib.h", "yaml-cpp/yaml.h", "CLI/CLI.hpp"],
    "runtime/a.cc": ["grpcpp/grpcpp.h", "thread", "mutex", "chrono", "base/mutex.h", "base/clock.h", "cublasLt.h"],
    "scheduler/a.cc": ["server/outbox.h", "grpcpp/grpcpp.h", "google/protobuf/message.h", "google/rpc/status.pb.h",
                       "quantd/v1/generation.pb.h", "prometheus/registry.h", "cuda_runtime.h", "nlohmann/json.hpp",
                       "runtime/json.h", "kernels/cpu/gemm.h", "kernels/cuda/plugin.h", "runtime/llama.h", "httplib.h"],
    "server/a.cc": ["cuda_runtime.h", "cublasLt.h", "kernels/cpu/gemm.h", "kernels/cuda/plugin.h", "runtime/llama.h",
                    "immintrin.h", "loadtest/client.h", "boost/asio.hpp", "tests/testing/fake.h"],
    "server/edge/a.cc": ["server/options.h", "scheduler/worker.h", "grpcpp/grpcpp.h", "prometheus/registry.h"],
    "loadtest/a.cc": ["base/log.h", "kernels/tensor.h", "runtime/tokenizer.h", "scheduler/request.h", "server/outbox.h",
                      "cuda_runtime.h"],
}
ALLOWED = {
    "base/a.h": ["base/check.h", "absl/status/status.h", "vector", "mutex", "chrono"],
    "kernels/a.h": ["base/check.h", "kernels/tensor.h", "absl/status/statusor.h"],
    "kernels/backend.cc": ["kernels/cpu/cpu_backend.h"],
    "kernels/cpu/a.cc": ["immintrin.h", "thread", "base/mutex.h", "sys/mman.h"],
    "kernels/cuda/a.cu": ["cuda_runtime.h", "cublasLt.h", "cutlass/cutlass.h"],
    "runtime/a.cc": ["nlohmann/json.hpp", "runtime/json.h", "pcre2.h", "utf8proc.h", "runtime/llama.h", "kernels/backend.h"],
    "runtime/a.h": ["nlohmann/json_fwd.hpp", "atomic"],
    "runtime/json.h": ["nlohmann/json.hpp"],
    "scheduler/a.cc": ["runtime/language_model.h", "thread", "base/mutex.h", "base/clock.h", "chrono"],
    "server/a.cc": ["grpcpp/grpcpp.h", "quantd/v1/generation.grpc.pb.h", "prometheus/registry.h", "httplib.h",
                    "yaml-cpp/yaml.h", "CLI/CLI.hpp", "scheduler/worker.h", "runtime/text_codec.h", "kernels/backend.h"],
    "server/edge/a.cc": ["server/edge/limits.h", "base/clock.h", "absl/status/statusor.h", "sys/epoll.h", "thread"],
    "loadtest/a.cc": ["grpcpp/grpcpp.h", "quantd/v1/generation.grpc.pb.h"],
}


def plant(root: str, path: str, includes: list[str]) -> None:
    file = pathlib.Path(root) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#pragma once\n" + "".join(f"#include <{i}>\n" for i in includes))


class CheckLayers(unittest.TestCase):
    def test_finds_each_planted_violation(self):
        for path, includes in VIOLATIONS.items():
            for include in includes:
                with self.subTest(path=path, include=include), tempfile.TemporaryDirectory() as root:
                    plant(root, path, [include])
                    found = check_layers.check(pathlib.Path(root))
                    self.assertEqual(len(found), 1, found)
                    self.assertIn(f"{path}: includes {include}:", found[0])

    def test_allows_what_the_table_allows(self):
        with tempfile.TemporaryDirectory() as root:
            for path, includes in ALLOWED.items():
                plant(root, path, includes)
            self.assertEqual(check_layers.check(pathlib.Path(root)), [])

    def test_the_tree_holds(self):
        self.assertEqual(check_layers.check(ROOT), [])


if __name__ == "__main__":
    unittest.main()
