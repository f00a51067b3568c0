#include "runtime/gguf_blocks.h"

#include <bit>

#include <gtest/gtest.h>

#include "runtime/gguf_checkpoint.h"
#include "tests/testing/golden_tensors.h"
#include "tests/testing/test_paths.h"

namespace quantd {
namespace {

using testing::GoldenTensor;
using testing::ReadGoldenTensors;
using testing::SourcePath;

void ExpectSameBits(const QuantizedMatrix& matrix, const std::vector<float>& expected, const std::string& what) {
  ASSERT_TRUE(Validate(matrix.view()).ok()) << what << ": " << Validate(matrix.view());
  ASSERT_EQ(static_cast<size_t>(matrix.n * matrix.k), expected.size()) << what;
  std::vector<float> row(static_cast<size_t>(matrix.k));
  for (int64_t r = 0; r < matrix.n; ++r) {
    DequantizeRow(matrix.view(), r, row.data());
    for (int64_t c = 0; c < matrix.k; ++c) {
      const size_t i = static_cast<size_t>(r * matrix.k + c);
      ASSERT_EQ(std::bit_cast<uint32_t>(row[static_cast<size_t>(c)]), std::bit_cast<uint32_t>(expected[i]))
          << what << " [" << r << ", " << c << "]: " << row[static_cast<size_t>(c)] << ", expected " << expected[i];
    }
  }
}

class GgufBlocks : public ::testing::TestWithParam<std::pair<const char*, GgmlType>> {};

TEST_P(GgufBlocks, DequantizeAsTheGgufPackageDoes) {
  const auto [name, type] = GetParam();
  const auto goldens = ReadGoldenTensors(SourcePath("tests/goldens/gguf/blocks.safetensors"));
  const GoldenTensor& blocks = goldens.at(std::string(name) + ".blocks");
  const std::vector<uint8_t> bytes(blocks.i32.begin(), blocks.i32.end());
  const GoldenTensor& values = goldens.at(std::string(name) + ".values");
  QuantizedMatrix matrix = NewQuantizedMatrix(SchemeOf(type), values.shape[0], values.shape[1]);
  const size_t row_bytes = static_cast<size_t>(RowBytes(type, matrix.k));
  ASSERT_EQ(row_bytes, static_cast<size_t>(blocks.shape[1]));
  for (int64_t row = 0; row < matrix.n; ++row)
    UnpackRow(type, std::span(bytes).subspan(row * row_bytes, row_bytes), row, matrix);
  ExpectSameBits(matrix, values.f32, name);
}

INSTANTIATE_TEST_SUITE_P(Types, GgufBlocks,
                         ::testing::Values(std::pair("f32", GgmlType::kF32), std::pair("f16", GgmlType::kF16),
                                           std::pair("bf16", GgmlType::kBF16), std::pair("q8_0", GgmlType::kQ8_0),
                                           std::pair("q4_0", GgmlType::kQ4_0), std::pair("q4_1", GgmlType::kQ4_1)),
                         [](const auto& test) { return std::string(test.param.first); });

TEST(GgufTypes, NamesWhatIsNotSupported) {
  bool known = false;
  EXPECT_EQ(GgmlTypeName(12, &known), "Q4_K");
  EXPECT_TRUE(known);
  EXPECT_EQ(GgmlTypeName(20), "IQ4_NL");
  EXPECT_EQ(GgmlTypeName(29), "IQ1_M");
  EXPECT_EQ(GgmlTypeName(30), "BF16");
  EXPECT_EQ(GgmlTypeName(39), "MXFP4");
  EXPECT_EQ(GgmlTypeName(4, &known), "type 4");
  EXPECT_FALSE(known);
  EXPECT_FALSE(SupportedGgmlType(12).has_value());
}

// A whole model: every weight in HF's place and order, as the gguf package and llama.cpp's permutation give it.
TEST(GgufModels, WeightsEqualThoseOfTransformers) {
  const std::string folder = SourcePath("tests/goldens/gguf/");
  absl::StatusOr<GgufModel> model = OpenGguf(*OpenFile(folder + "mixed_tied_gpt2.gguf"));
  ASSERT_TRUE(model.ok()) << model.status();
  size_t weights = 0;
  for (const auto& [name, golden] : ReadGoldenTensors(folder + "mixed_tied_gpt2.golden.safetensors")) {
    if (name.rfind("weight.", 0) != 0) continue;
    ++weights;
    const absl::StatusOr<QuantizedMatrix> matrix = model->weights->Read(name.substr(7));
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    ExpectSameBits(*matrix, golden.f32, name);
  }
  EXPECT_EQ(weights, model->weights->tensors().size());
}

}  // namespace
}  // namespace quantd
