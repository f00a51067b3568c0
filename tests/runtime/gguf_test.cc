#include "runtime/gguf.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/generation_config.h"
#include "runtime/gguf_checkpoint.h"
#include "runtime/json.h"
#include "runtime/llama_config.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::AddTinyLlamaMetadata;
using ::testing::ElementsAre;
using testing::GgufString;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::LittleEndian;
using Writer = GgufWriter;

absl::Status Parse(const std::string& bytes) { return ParseGguf(*MemorySource("x.gguf", bytes)).status(); }

absl::StatusOr<GgufModel> Open(const std::string& bytes) { return OpenGguf(MemorySource("x.gguf", bytes)); }

std::vector<float> Dequantize(const QuantizedMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.n * matrix.k));
  for (int64_t row = 0; row < matrix.n; ++row) DequantizeRow(matrix.view(), row, values.data() + row * matrix.k);
  return values;
}

std::string F32Bytes(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4);
}

std::vector<float> Iota(size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

TEST(Gguf, ReadsValuesOfEveryKind) {
  Writer writer;
  writer.AddRaw("u8", 0, LittleEndian<uint8_t>(200));
  writer.AddRaw("i8", 1, LittleEndian<int8_t>(-100));
  writer.AddRaw("u16", 2, LittleEndian<uint16_t>(60000));
  writer.AddRaw("i16", 3, LittleEndian<int16_t>(-30000));
  writer.AddU32("u32", 4000000000u);
  writer.AddRaw("i32", 5, LittleEndian<int32_t>(-2000000000));
  writer.AddF32("f32", 0.5f);
  writer.AddBool("bool", true);
  writer.AddString("string", "text");
  writer.AddRaw("u64", 10, LittleEndian<uint64_t>(1ull << 40));
  writer.AddRaw("i64", 11, LittleEndian<int64_t>(-(1ll << 40)));
  writer.AddRaw("f64", 12, LittleEndian<double>(0.1));
  writer.AddStrings("strings", {"a", ""});
  writer.AddI32s("ints", {-1, 2});
  writer.AddF32s("floats", {1.5f});
  writer.AddRaw("bools", Writer::kArray,
                LittleEndian(Writer::kBool) + LittleEndian<uint64_t>(2) + std::string("\1\0", 2));
  writer.AddStrings("none", {});
  const std::string bytes = writer.Finish();
  const absl::StatusOr<GgufFile> file = ParseGguf(*MemorySource("x.gguf", bytes));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto is = [&](const char* key, auto expected) {
    const auto* value = std::get_if<decltype(expected)>(&file->metadata.find(key)->second.value);
    return value != nullptr && *value == expected;
  };
  EXPECT_TRUE(is("u8", int64_t{200}));
  EXPECT_TRUE(is("i8", int64_t{-100}));
  EXPECT_TRUE(is("u16", int64_t{60000}));
  EXPECT_TRUE(is("i16", int64_t{-30000}));
  EXPECT_TRUE(is("u32", int64_t{4000000000}));
  EXPECT_TRUE(is("i32", int64_t{-2000000000}));
  EXPECT_TRUE(is("f32", 0.5));
  EXPECT_TRUE(is("bool", true));
  EXPECT_TRUE(is("string", std::string("text")));
  EXPECT_TRUE(is("u64", int64_t{1} << 40));
  EXPECT_TRUE(is("i64", -(int64_t{1} << 40)));
  EXPECT_TRUE(is("f64", 0.1));
  EXPECT_TRUE(is("strings", (std::vector<std::string>{"a", ""})));
  EXPECT_TRUE(is("ints", (std::vector<int64_t>{-1, 2})));
  EXPECT_TRUE(is("floats", std::vector<double>{1.5}));
  EXPECT_TRUE(is("bools", (std::vector<bool>{true, false})));
  EXPECT_TRUE(is("none", std::vector<std::string>{}));
}

TEST(Gguf, PlacesTensorsByTheFilesAlignment) {
  Writer writer;
  writer.alignment = 64;
  writer.AddU32("general.alignment", 64);
  writer.AddTensor("a", {3}, 0, F32Bytes(Iota(3)));
  writer.AddTensor("b", {2, 2}, 0, F32Bytes(Iota(4)));
  const std::string bytes = writer.Finish();
  const absl::StatusOr<GgufFile> file = ParseGguf(*MemorySource("x.gguf", bytes));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors.size(), 2u);
  EXPECT_EQ(file->tensors[0].shape, Shape({3}));
  EXPECT_EQ(file->tensors[1].shape, Shape({2, 2}));
  EXPECT_EQ(file->tensors[1].offset, file->tensors[0].offset + 64);
  EXPECT_EQ(file->tensors[1].offset + file->tensors[1].bytes, static_cast<int64_t>(bytes.size()));
}

struct BadFile {
  const char* what;
  std::function<void(Writer&)> write;
  absl::StatusCode code;
  const char* message;
};
constexpr absl::StatusCode kDataLoss = absl::StatusCode::kDataLoss;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;
constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

std::vector<BadFile> BadContainers() {
  const std::string one = F32Bytes({1});
  return {
      {"magic", [](Writer& w) { w.magic = "GGML"; }, kInvalid, "no GGUF file"},
      {"version 0", [](Writer& w) { w.version = 0; }, kDataLoss, "version 0"},
      {"version 1", [](Writer& w) { w.version = 1; }, kUnimplemented, "version 1"},
      {"version 4", [](Writer& w) { w.version = 4; }, kUnimplemented, "version 4, supported are 2 and 3"},
      {"big endian", [](Writer& w) { w.version = 3u << 24; }, kUnimplemented, "big-endian"},
      {"2^64-1 tensors", [](Writer& w) { w.tensors = ~uint64_t{0}; }, kDataLoss, "18446744073709551615 tensors"},
      {"2^63 keys", [](Writer& w) { w.keys = uint64_t{1} << 63; }, kDataLoss, "metadata keys"},
      {"more tensors than there are", [](Writer& w) { w.tensors = 3; }, kDataLoss, "tensor name"},
      {"empty key", [](Writer& w) { w.AddU32("", 1); }, kDataLoss, "empty metadata key"},
      {"key twice",
       [](Writer& w) {
         w.AddU32("a.b", 1);
         w.AddU32("a.b", 2);
       },
       kDataLoss, "key a.b is there twice"},
      {"value type 13", [](Writer& w) { w.AddRaw("a", 13, ""); }, kDataLoss, "unknown value type 13"},
      {"boolean 2", [](Writer& w) { w.AddRaw("a", Writer::kBool, "\2"); }, kDataLoss, "boolean 2"},
      {"u64 beyond int64", [](Writer& w) { w.AddRaw("a", Writer::kU64, LittleEndian(~uint64_t{0})); }, kDataLoss,
       "beyond 2^63"},
      {"string of 2^63 bytes", [](Writer& w) { w.AddRaw("a", Writer::kString, LittleEndian(uint64_t{1} << 63)); },
       kDataLoss, "a string of 9223372036854775808 bytes"},
      {"string longer than the file", [](Writer& w) { w.AddRaw("a", Writer::kString, LittleEndian<uint64_t>(5000)); },
       kDataLoss, "a string of 5000 bytes"},
      {"array of arrays",
       [](Writer& w) { w.AddRaw("a", Writer::kArray, LittleEndian(Writer::kArray) + LittleEndian<uint64_t>(1)); },
       kDataLoss, "array of arrays"},
      {"array of type 99",
       [](Writer& w) { w.AddRaw("a", Writer::kArray, LittleEndian<uint32_t>(99) + LittleEndian<uint64_t>(1)); },
       kDataLoss, "unknown element type 99"},
      {"array of 2^62 integers",
       [](Writer& w) { w.AddRaw("a", Writer::kArray, LittleEndian(Writer::kU32) + LittleEndian(uint64_t{1} << 62)); },
       kDataLoss, "4611686018427387904 elements"},
      {"array of 2^61 strings",
       [](Writer& w) {
         w.AddRaw("a", Writer::kArray, LittleEndian(Writer::kString) + LittleEndian(uint64_t{1} << 61));
       },
       kDataLoss, "2305843009213693952 elements"},
      {"array longer than the file",
       [](Writer& w) { w.AddRaw("a", Writer::kArray, LittleEndian(Writer::kU8) + LittleEndian<uint64_t>(4096)); },
       kDataLoss, "an array of 4096 elements"},
      {"9 million array elements",
       [](Writer& w) {
         w.AddRaw("a", Writer::kArray,
                  LittleEndian(Writer::kU8) + LittleEndian<uint64_t>(9 << 20) + std::string(9 << 20, '\0'));
       },
       kDataLoss, "array elements"},
      {"alignment 0", [](Writer& w) { w.AddU32("general.alignment", 0); }, kDataLoss, "general.alignment is 0"},
      {"alignment 48", [](Writer& w) { w.AddU32("general.alignment", 48); }, kDataLoss, "general.alignment is 48"},
      {"alignment 2^31", [](Writer& w) { w.AddU32("general.alignment", 1u << 31); }, kDataLoss, "general.alignment"},
      {"alignment a string", [](Writer& w) { w.AddString("general.alignment", "32"); }, kDataLoss,
       "expected an integer"},
      {"alignment that the file does not keep",
       [one](Writer& w) {
         w.AddU32("general.alignment", 64);
         w.AddTensor("a", {1}, 0, one);
         w.AddTensor("b", {1}, 0, one);
       },
       kDataLoss, "tensor b: at data offset 32, expected 64"},
      {"empty tensor name", [one](Writer& w) { w.AddTensor("", {1}, 0, one); }, kDataLoss, "empty tensor name"},
      {"tensor name of 65 bytes", [one](Writer& w) { w.AddTensor(std::string(65, 'a'), {1}, 0, one); }, kDataLoss,
       "65 bytes"},
      {"control character in a name", [one](Writer& w) { w.AddTensor("a\nb", {1}, 0, one); }, kDataLoss, "a\\x0ab"},
      {"tensor twice",
       [one](Writer& w) {
         w.AddTensor("a", {1}, 0, one);
         w.AddTensor("a", {1}, 0, one);
       },
       kDataLoss, "tensor a is there twice"},
      {"no dimension", [one](Writer& w) { w.AddTensor("a", {}, 0, one); }, kDataLoss, "0 dimensions"},
      {"five dimensions",
       [one](Writer& w) {
         w.AddTensor("a", {1, 1, 1, 1, 1}, 0, one);
       },
       kDataLoss, "5 dimensions"},
      {"dimension 0",
       [](Writer& w) {
         w.AddTensor("a", {4, 0}, 0, "");
       },
       kDataLoss, "dimension 1 is 0"},
      {"negative dimension", [](Writer& w) { w.AddTensorEntry("a", {~uint64_t{0}}, 0, 0); }, kDataLoss, "2^48"},
      {"product overflows",
       [](Writer& w) {
         w.AddTensorEntry("a", {1ull << 32, 1ull << 32}, 0, 0);
       },
       kDataLoss, "2^48"},
      {"product overflows to 0",
       [](Writer& w) {
         w.AddTensorEntry("a", {1ull << 40, 1ull << 24, 2, 2}, 0, 0);
       },
       kDataLoss, "2^48"},
      {"Q4_K", [](Writer& w) { w.AddTensor("a", {256}, 12, std::string(144, 'x')); }, kUnimplemented, "tensor a: Q4_K"},
      {"Q6_K", [](Writer& w) { w.AddTensor("a", {256}, 14, std::string(210, 'x')); }, kUnimplemented, "Q6_K"},
      {"two types",
       [one](Writer& w) {
         w.AddTensor("a", {1}, 0, one);
         w.AddTensor("b", {256}, 14, std::string(210, 'x'));
         w.AddTensor("c", {256}, 12, std::string(144, 'x'));
         w.AddTensor("d", {256}, 12, std::string(144, 'x'));
       },
       kUnimplemented,
       "tensor b: Q6_K is not supported (F32, F16, BF16, Q8_0, Q4_0, Q4_1); the file has Q4_K in 2 tensors, Q6_K in 1 "
       "tensor"},
      {"MXFP4", [](Writer& w) { w.AddTensor("a", {32}, 39, std::string(17, 'x')); }, kUnimplemented, "MXFP4"},
      {"withdrawn type 4", [one](Writer& w) { w.AddTensor("a", {1}, 4, one); }, kDataLoss, "unknown type 4"},
      {"type 2^32-1", [one](Writer& w) { w.AddTensor("a", {1}, ~0u, one); }, kDataLoss, "unknown type 4294967295"},
      {"row that is no multiple of a block",
       [](Writer& w) {
         w.AddTensor("a", {33, 2}, 8, std::string(80, 'x'));
       },
       kDataLoss, "rows of 33 values, Q8_0 needs a multiple of 32"},
      {"offset 2^64-1", [](Writer& w) { w.AddTensorEntry("a", {1}, 0, ~uint64_t{0}); }, kDataLoss,
       "offset 18446744073709551615"},
      {"unaligned offset",
       [one](Writer& w) {
         w.AddTensor("a", {1}, 0, one);
         w.AddTensorEntry("b", {1}, 0, 4);
       },
       kDataLoss, "tensor b: at data offset 4, expected 32"},
      {"overlap",
       [one](Writer& w) {
         w.AddTensor("a", {1}, 0, one);
         w.AddTensorEntry("b", {1}, 0, 0);
       },
       kDataLoss, "at data offset 0, expected 32"},
      {"gap",
       [one](Writer& w) {
         w.AddTensor("a", {1}, 0, one + std::string(40, '\0'));
         w.AddTensor("b", {1}, 0, one);
       },
       kDataLoss, "at data offset 64, expected 32"},
      {"data cut off", [](Writer& w) { w.AddTensor("a", {100}, 0, "too few"); }, kDataLoss, "tensor a: 400 bytes"},
      {"exabytes in a small file", [](Writer& w) { w.AddTensorEntry("a", {1ull << 47}, 0, 0); }, kDataLoss, "tensor a"},
  };
}

TEST(Gguf, RefusesBadFiles) {
  for (const BadFile& bad : BadContainers()) {
    Writer writer;
    bad.write(writer);
    const absl::Status status = Parse(writer.Finish());
    EXPECT_EQ(status.code(), bad.code) << bad.what << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message)) << bad.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr("x.gguf")) << bad.what;
  }
}

TEST(Gguf, RefusesAKeyOfExabytes) {
  const std::string bytes = "GGUF" + LittleEndian<uint32_t>(3) + LittleEndian<uint64_t>(0) + LittleEndian<uint64_t>(1) +
                            LittleEndian(uint64_t{1} << 60) + std::string(100, 'k');
  EXPECT_THAT(std::string(Parse(bytes).message()), HasSubstr("a string of 1152921504606846976 bytes"));
}

TEST(Gguf, RefusesEveryTruncation) {
  Writer writer;
  AddTinyLlamaMetadata(writer);
  writer.AddStrings("strings", {"one", "two"});
  writer.AddTensor("output_norm.weight", {64}, 0, F32Bytes(Iota(64)));
  const std::string bytes = writer.Finish();
  ASSERT_TRUE(Parse(bytes).ok()) << Parse(bytes);
  for (size_t size = 0; size < bytes.size(); ++size) {
    const absl::Status status = Parse(bytes.substr(0, size));
    EXPECT_EQ(status.code(), size < 4 ? kInvalid : kDataLoss) << size << ": " << status;
  }
}

TEST(GgufModel, RefusesWhatIsNoLlama) {
  struct Case {
    const char* what;
    std::function<void(Writer&)> write;
    absl::StatusCode code;
    const char* message;
  };
  const auto tiny = [](Writer& w) { AddTinyLlamaMetadata(w); };
  const std::string row(64 * 4, '\0');
  const Case cases[] = {
      {"no architecture", [](Writer& w) { w.AddU32("a", 1); }, kDataLoss, "general.architecture is missing"},
      {"architecture a number", [](Writer& w) { w.AddU32("general.architecture", 1); }, kDataLoss, "expected string"},
      {"qwen2", [](Writer& w) { w.AddString("general.architecture", "qwen2"); }, kUnimplemented,
       "architecture \"qwen2\" is not supported (llama)"},
      {"flux", [](Writer& w) { w.AddString("general.architecture", "flux"); }, kUnimplemented,
       "architecture \"flux\" is a diffusion model, which is not built yet"},
      {"split",
       [&](Writer& w) {
         tiny(w);
         w.AddU32("split.count", 3);
       },
       kUnimplemented, "split"},
      {"experts",
       [&](Writer& w) {
         tiny(w);
         w.AddU32("llama.expert_count", 8);
       },
       kUnimplemented, "experts"},
      {"missing key", [](Writer& w) { w.AddString("general.architecture", "llama"); }, kDataLoss,
       "llama.embedding_length is missing"},
      {"heads per layer",
       [](Writer& w) {
         w.AddString("general.architecture", "llama");
         w.AddI32s("llama.attention.head_count", {1, 2});
         w.AddU32("llama.embedding_length", 64);
       },
       kDataLoss, "llama.attention.head_count differs between layers"},
      {"heads 0",
       [](Writer& w) {
         w.AddString("general.architecture", "llama");
         w.AddU32("llama.attention.head_count", 0);
         w.AddU32("llama.embedding_length", 64);
       },
       kDataLoss, "llama.attention.head_count is 0"},
      {"partial rotation",
       [&](Writer& w) {
         tiny(w);
         w.AddU32("llama.rope.dimension_count", 16);
       },
       kUnimplemented, "partial rotation"},
      {"longrope",
       [&](Writer& w) {
         tiny(w);
         w.AddString("llama.rope.scaling.type", "longrope");
       },
       kUnimplemented, "\"longrope\" is not supported (none, linear, yarn)"},
      {"scaled cosines without yarn",
       [&](Writer& w) {
         tiny(w);
         w.AddF32("llama.rope.scaling.attn_factor", 0.5f);
       },
       kUnimplemented, "llama.rope.scaling.attn_factor 0.5 without yarn is not supported"},
      {"yarn_attn_factor",
       [&](Writer& w) {
         tiny(w);
         w.AddF32("llama.rope.scaling.yarn_attn_factor", 1.5f);
       },
       kUnimplemented, "llama.rope.scaling.yarn_attn_factor 1.5 is not supported"},
      {"a part of a split file that says nothing else", [](Writer& w) { w.AddU32("split.count", 3); }, kUnimplemented,
       "split"},
      {"soft cap",
       [&](Writer& w) {
         tiny(w);
         w.AddF32("llama.final_logit_softcapping", 30);
       },
       kUnimplemented, "llama.final_logit_softcapping 30 is not supported"},
      {"attention scale",
       [&](Writer& w) {
         tiny(w);
         w.AddF32("llama.attention.scale", 0.5f);
       },
       kUnimplemented, "llama.attention.scale 0.5 is not supported"},
      {"attention to both sides",
       [&](Writer& w) {
         tiny(w);
         w.AddBool("llama.attention.causal", false);
       },
       kUnimplemented, "llama.attention.causal 0"},
      {"value size",
       [&](Writer& w) {
         tiny(w);
         w.AddU32("llama.attention.value_length", 16);
       },
       kUnimplemented, "value_length 16"},
      {"unknown tensor",
       [&](Writer& w) {
         tiny(w);
         w.AddTensor("blk.0.attn_qkv.weight", {64}, 0, row);
       },
       kDataLoss, "tensor blk.0.attn_qkv.weight"},
      {"layer beyond",
       [&](Writer& w) {
         tiny(w);
         w.AddTensor("blk.1.attn_norm.weight", {64}, 0, row);
       },
       kDataLoss, "tensor blk.1.attn_norm.weight"},
      {"layer with a leading zero",
       [&](Writer& w) {
         tiny(w);
         w.AddTensor("blk.00.attn_norm.weight", {64}, 0, row);
       },
       kDataLoss, "tensor blk.00"},
      {"bias of a norm",
       [&](Writer& w) {
         tiny(w);
         w.AddTensor("blk.0.attn_norm.bias", {64}, 0, row);
       },
       kDataLoss, "attn_norm.bias"},
      {"rows that are no heads",
       [&](Writer& w) {
         tiny(w);
         w.AddTensor("blk.0.attn_q.weight", {64, 1}, 0, row);
       },
       kDataLoss, "1 rows do not divide into 2 heads"},
      {"tokens missing",
       [&](Writer& w) {
         tiny(w);
         w.AddString("tokenizer.ggml.model", "gpt2");
       },
       kDataLoss, "tokenizer.ggml.tokens"},
      {"scores of another length",
       [&](Writer& w) {
         tiny(w);
         w.AddString("tokenizer.ggml.model", "llama");
         w.AddStrings("tokenizer.ggml.tokens", {"a", "b", "c"});
         w.AddF32s("tokenizer.ggml.scores", {1});
       },
       kDataLoss, "tokenizer.ggml.scores: 1 entries for 3 tokens"},
      {"token type 7",
       [&](Writer& w) {
         tiny(w);
         w.AddString("tokenizer.ggml.model", "gpt2");
         w.AddStrings("tokenizer.ggml.tokens", {"a"});
         w.AddI32s("tokenizer.ggml.token_type", {7});
       },
       kDataLoss, "token_type[0] is 7, expected 0 to 6"},
      {"tokens not strings",
       [&](Writer& w) {
         tiny(w);
         w.AddString("tokenizer.ggml.model", "gpt2");
         w.AddI32s("tokenizer.ggml.tokens", {1});
       },
       kDataLoss, "expected array of strings"},
  };
  for (const Case& c : cases) {
    Writer writer;
    c.write(writer);
    const absl::Status status = Open(writer.Finish()).status();
    EXPECT_EQ(status.code(), c.code) << c.what << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.what;
  }
}

// Row r of a head of D rows stands at 2r (first half) or 2r - D + 1 (second half) in the file.
TEST(GgufModel, UndoesThePermutationOfQAndK) {
  constexpr int64_t kHeads = 2, kHeadDim = 32, kHidden = 64;
  std::vector<float> q(kHidden * kHidden), bias(kHidden);
  for (int64_t h = 0; h < kHeads; ++h) {
    for (int64_t r = 0; r < kHeadDim; ++r) {
      const int64_t hf = h * kHeadDim + r;
      const int64_t file = h * kHeadDim + (r < kHeadDim / 2 ? 2 * r : 2 * r - kHeadDim + 1);
      for (int64_t c = 0; c < kHidden; ++c) q[file * kHidden + c] = static_cast<float>(hf);
      bias[file] = static_cast<float>(hf);
    }
  }
  Writer writer;
  AddTinyLlamaMetadata(writer);
  writer.AddTensor("blk.0.attn_q.weight", {64, 64}, 0, F32Bytes(q));
  writer.AddTensor("blk.0.attn_q.bias", {64}, 0, F32Bytes(bias));
  writer.AddTensor("blk.0.attn_v.bias", {64}, 0, F32Bytes(bias));
  const std::string bytes = writer.Finish();
  absl::StatusOr<GgufModel> model = Open(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  const QuantizedMatrix weight = *model->weights->Read("model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(weight.n, 64);
  const std::vector<float> values = Dequantize(weight);
  for (int64_t row = 0; row < 64; ++row) EXPECT_EQ(values[row * 64], static_cast<float>(row));
  EXPECT_EQ(Dequantize(*model->weights->Read("model.layers.0.self_attn.q_proj.bias")), Iota(64));
  EXPECT_EQ(Dequantize(*model->weights->Read("model.layers.0.self_attn.v_proj.bias")), bias);
  EXPECT_EQ(model->weights->Read("nothing").status().code(), absl::StatusCode::kNotFound);
}

TEST(GgufModel, ScaleThatIsNotFiniteIsDataLoss) {
  Writer writer;
  AddTinyLlamaMetadata(writer);
  std::string blocks(4 * 2 * 20, '\0');  // Q4_1 [4, 64]
  blocks[2 * 40 + 20 + 3] = 0x7c;        // the minimum of row 2's second block: infinity
  writer.AddTensor("output.weight", {64, 4}, 3, blocks);
  const std::string bytes = writer.Finish();
  absl::StatusOr<GgufModel> model = Open(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::Status status = model->weights->Read("lm_head.weight").status();
  EXPECT_EQ(status.code(), kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("lm_head.weight: the zero in row 2, group 1 is inf"));
}

TEST(GgufModel, HyperparameterThatIsNotFiniteIsDataLoss) {
  for (const char* key : {"llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"}) {
    for (float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Writer writer;
      AddTinyLlamaMetadata(writer, key == std::string("llama.rope.freq_base") ? 1e-5f : value);
      if (key == std::string("llama.rope.freq_base")) writer.AddF32(key, value);
      writer.AddTensor("output.weight", {64, 4}, 0, F32Bytes(Iota(256)));
      const absl::Status status = Open(writer.Finish()).status();
      EXPECT_EQ(status.code(), kDataLoss) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(key) + " is"));
    }
  }
}

TEST(GgufModel, WritesHfConfig) {
  Writer writer;
  AddTinyLlamaMetadata(writer);
  writer.AddF32("llama.rope.freq_base", 500000);
  writer.AddString("llama.rope.scaling.type", "linear");
  writer.AddF32("llama.rope.scaling.factor", 4);
  writer.AddString("tokenizer.ggml.model", "gpt2");
  writer.AddStrings("tokenizer.ggml.tokens", {"<s>", "</s>", "a", "<eot>"});
  writer.AddU32("tokenizer.ggml.bos_token_id", 0);
  writer.AddU32("tokenizer.ggml.eos_token_id", 1);
  writer.AddU32("tokenizer.ggml.padding_token_id", 2);
  writer.AddU32("tokenizer.ggml.seperator_token_id", 4294967295);  // as published files have it: none
  writer.AddU32("tokenizer.ggml.mask_token_id", 4);
  writer.AddString("tokenizer.ggml.cls_token_id", "<s>");  // for templates alone, and none
  writer.AddU32("tokenizer.ggml.eot_token_id", 3);
  writer.AddString("tokenizer.chat_template", "{{ 1 }}");
  writer.AddStrings("tokenizer.chat_templates", {"tool_use", "no such"});
  writer.AddString("tokenizer.chat_template.tool_use", "{{ 2 }}");
  writer.AddString("tokenizer.chat_template.empty", "");
  writer.AddU32("tokenizer.chat_template.rag", 7);
  writer.AddString("tokenizer.chat_template.", "nameless");
  writer.AddTensor("output.weight", {64, 4}, 0, F32Bytes(Iota(256)));
  absl::StatusOr<GgufModel> model = Open(writer.Finish());
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(model->config_json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->intermediate_size, 96);
  EXPECT_EQ(config->layers, 1);
  EXPECT_EQ(config->heads, 2);
  EXPECT_EQ(config->kv_heads, 1);
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->max_position, 128);
  EXPECT_EQ(config->vocab_size, 4);
  EXPECT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->rope.theta, 500000.0f);
  EXPECT_EQ(config->rope.scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(config->rope.scaling.factor, 4.0f);
  EXPECT_EQ(config->eos_token_ids, (std::vector<int32_t>{1, 3}));
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_FALSE(config->attention_bias);
  EXPECT_EQ(model->special_tokens,
            (std::map<std::string, std::string>{{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "a"}}));
  EXPECT_EQ(model->chat_templates,
            (ChatTemplateSources{
                {"default", "{{ 1 }}"},
                {"tool_use", "{{ 2 }}"},
                {"rag", absl::DataLossError("tokenizer.chat_template.rag is of kind integer, expected string")}}));
  ASSERT_TRUE(model->vocab.has_value());
  EXPECT_EQ(model->vocab->tokens.size(), 4u);
}

TEST(GgufModel, WritesYarnAsLlamaCppScalesIt) {
  Writer writer;
  AddTinyLlamaMetadata(writer);
  writer.AddString("llama.rope.scaling.type", "yarn");
  writer.AddF32("llama.rope.scaling.factor", 4);
  writer.AddU32("llama.rope.scaling.original_context_length", 32);
  writer.AddF32("llama.rope.scaling.attn_factor", 0.5f);
  writer.AddF32("llama.rope.scaling.yarn_beta_fast", 16);
  absl::StatusOr<GgufModel> model = Open(writer.Finish());
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(model->config_json);
  ASSERT_TRUE(config.ok()) << config.status();
  const RopeScaling& scaling = config->rope.scaling;
  EXPECT_EQ(scaling.kind, RopeScaling::Kind::kYarn);
  EXPECT_EQ(scaling.factor, 4.0f);
  EXPECT_EQ(scaling.original_max_position, 32);
  EXPECT_FLOAT_EQ(scaling.attention_factor, 0.5f * (1 + 0.1f * std::log(4.0f)));
  EXPECT_EQ(scaling.beta_fast, 16.0f);
  EXPECT_EQ(scaling.beta_slow, 1.0f);
}

TEST(GgufModel, AYarnThatDoesNotStretchDoesNotScaleCosines) {
  for (const float factor : {1.0f, 0.5f}) {
    Writer writer;
    AddTinyLlamaMetadata(writer);
    writer.AddString("llama.rope.scaling.type", "yarn");
    writer.AddF32("llama.rope.scaling.factor", factor);
    writer.AddF32("llama.rope.scaling.yarn_attn_factor", 1);
    absl::StatusOr<GgufModel> model = Open(writer.Finish());
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(ParseLlamaConfig(model->config_json)->rope.scaling.attention_factor, 1.0f) << factor;
  }
}

TEST(GgufModel, RopeScalingHasLlamaCppsDefaults) {
  struct Case {
    const char* what;
    std::function<void(Writer&)> write;
    RopeScaling::Kind kind;
  };
  const Case cases[] = {
      {"a factor alone is linear", [](Writer& w) { w.AddF32("llama.rope.scaling.factor", 4); },
       RopeScaling::Kind::kLinear},
      {"so is the old key", [](Writer& w) { w.AddF32("llama.rope.scale_linear", 4); }, RopeScaling::Kind::kLinear},
      {"0 is no factor", [](Writer& w) { w.AddF32("llama.rope.scaling.factor", 0); }, RopeScaling::Kind::kNone},
      {"none is never scaled",
       [](Writer& w) {
         w.AddString("llama.rope.scaling.type", "none");
         w.AddF32("llama.rope.scaling.factor", 4);
       },
       RopeScaling::Kind::kNone},
  };
  for (const Case& c : cases) {
    Writer writer;
    AddTinyLlamaMetadata(writer);
    c.write(writer);
    absl::StatusOr<GgufModel> model = Open(writer.Finish());
    ASSERT_TRUE(model.ok()) << c.what << model.status();
    const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(model->config_json);
    ASSERT_TRUE(config.ok()) << c.what << config.status();
    EXPECT_EQ(config->rope.scaling.kind, c.kind) << c.what;
    EXPECT_EQ(config->rope.scaling.factor, c.kind == RopeScaling::Kind::kLinear ? 4.0f : RopeScaling().factor)
        << c.what;
  }
}

TEST(GgufModel, OddMetadataThatMeansTheSameLoads) {
  Writer writer;
  AddTinyLlamaMetadata(writer);
  writer.AddU32("llama.rope.freq_base", 20000);        // a whole number where a float is usual
  writer.AddI32s("llama.attention.key_length", {32});  // one number for each layer
  writer.AddBool("llama.attention.causal", true);
  writer.AddF32("llama.logit_scale", 1);
  writer.AddU32("llama.attention.sliding_window", 64);
  writer.AddU32("llama.frobnicate", 7);
  writer.AddTensor("blk.0.attn_rot_embd.weight", {16}, 0, F32Bytes(Iota(16)));
  writer.version = 2;  // the same layout
  absl::StatusOr<GgufModel> model = Open(writer.Finish());
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(model->config_json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.theta, 20000.0f);
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->sliding_window, 64);
  EXPECT_THAT(model->weights->warnings(), ElementsAre(HasSubstr("unknown key llama.frobnicate"),
                                                      HasSubstr("1 tensors attn_rot_embd are not used")));
}

TEST(GgufModel, SamplingDefaultsOfTheFileAreAGenerationConfig) {
  Writer writer;
  AddTinyLlamaMetadata(writer);
  writer.AddF32("general.sampling.temp", 0.6f);
  writer.AddU32("general.sampling.top_k", 20);
  writer.AddF32("general.sampling.penalty_repeat", 1.1f);
  writer.AddU32("general.sampling.mirostat", 2);
  absl::StatusOr<GgufModel> model = Open(writer.Finish());
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::StatusOr<GenerationDefaults> defaults = ParseGenerationConfig(model->generation_config_json, 4);
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->temperature, 0.6f);
  EXPECT_EQ(defaults->top_k, 20);
  EXPECT_EQ(defaults->top_p, 0.95f);
  EXPECT_EQ(defaults->min_p, 0.05f);
  EXPECT_EQ(defaults->repetition_penalty, 1.1f);
  EXPECT_THAT(model->weights->warnings(), ElementsAre(HasSubstr("penalty_repeat"), HasSubstr("mirostat")));
  Writer bare;
  AddTinyLlamaMetadata(bare);
  EXPECT_EQ(Open(bare.Finish())->generation_config_json, "");
}

// Published conversions say 4294967295, or the size of the vocabulary, where there is no such token.
TEST(GgufModel, ASpecialIdBeyondTheVocabularyNamesNoToken) {
  for (const char* kind : {"gpt2", "llama"}) {
    for (const char* key : {"bos", "eos", "unknown", "eot", "eom", "fim_pad", "fim_rep", "fim_sep", "fim_pre",
                            "padding", "seperator", "cls", "mask"}) {
      for (const uint32_t id : {4u, 4294967295u}) {
        Writer writer;
        AddTinyLlamaMetadata(writer);
        writer.AddString("tokenizer.ggml.model", kind);
        writer.AddStrings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a"});
        writer.AddF32s("tokenizer.ggml.scores", {0, 0, 0, -1});
        writer.AddI32s("tokenizer.ggml.token_type", {2, 3, 3, 1});
        writer.AddU32("tokenizer.ggml." + std::string(key) + "_token_id", id);
        writer.AddTensor("output.weight", {64, 4}, 0, F32Bytes(Iota(256)));
        absl::StatusOr<GgufModel> model = Open(writer.Finish());
        ASSERT_TRUE(model.ok()) << key << ": " << model.status();
        const bool has_defaults = kind == std::string("llama");  // llama.cpp's, for this kind alone
        EXPECT_EQ(model->vocab->bos_id, has_defaults ? std::optional<int32_t>(1) : std::nullopt) << key;
        EXPECT_EQ(model->vocab->eos_id, has_defaults ? std::optional<int32_t>(2) : std::nullopt) << key;
        const auto tokenizer = MakeGgufTokenizer(*model->vocab);
        ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
        EXPECT_EQ((*tokenizer)->end_ids().front(), 2) << "by its text";
      }
    }
  }
}

TEST(GgufModel, FileThatShrinksUnderTheReaderIsDataLoss) {
  testing::TempDir folder;
  Writer writer;
  AddTinyLlamaMetadata(writer);
  writer.AddTensor("output_norm.weight", {64}, 0, F32Bytes(Iota(64)));
  const std::string path = folder.Write("x.gguf", writer.Finish());
  absl::StatusOr<GgufModel> model = OpenGguf(*OpenFile(path));
  ASSERT_TRUE(model.ok()) << model.status();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  const absl::Status status = model->weights->Read("model.norm.weight").status();
  EXPECT_EQ(status.code(), kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.norm.weight"));
}

TEST(GgufModel, OpensSmolLm2) {
  const std::string path = testing::DemoModelPath();
  if (!testing::FileExists(path)) GTEST_SKIP() << "data: " << path;
  absl::StatusOr<GgufModel> model = OpenGguf(*OpenFile(path));
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::StatusOr<LlamaConfig> config = ParseLlamaConfig(model->config_json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers, 30);
  EXPECT_EQ(config->head_dim, 64);
  EXPECT_EQ(config->vocab_size, 49152);
  EXPECT_EQ(config->rope.theta, 100000.0f);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(model->weights->tensors().size(), 272u);
  EXPECT_EQ(model->weights->Find("model.embed_tokens.weight")->scheme.weight, WeightFormat::kInt8);
  for (const char* part : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    const std::string name = std::string("model.layers.29.") + part + ".weight";
    const TensorInfo* info = model->weights->Find(name);
    ASSERT_NE(info, nullptr) << name;
    EXPECT_EQ(info->scheme.zero, ZeroKind::kMin) << name;
    EXPECT_EQ(info->scheme.param_dtype, DType::kF16) << name;
  }
  EXPECT_EQ(model->vocab->tokens.size(), 49152u);
  EXPECT_EQ(model->vocab->merges.size(), 48900u);
  EXPECT_EQ(model->special_tokens.at("bos_token"), "<|im_start|>");
  EXPECT_EQ(model->special_tokens.at("eos_token"), "<|im_end|>");
  EXPECT_THAT(model->chat_templates.at("default").value(), HasSubstr("<|im_start|>assistant"));
  for (const TensorInfo& info : model->weights->tensors()) {
    EXPECT_TRUE(model->weights->Read(info.name).ok()) << info.name;
  }
}

}  // namespace
}  // namespace quantd
