#include "runtime/gguf_blocks.h"

#include <cstring>

#include "base/check.h"

namespace quantd {
namespace {
constexpr int64_t kBlock = 32;  // QK8_0, QK4_0, QK4_1

// A block holds element j in the low and element j + 16 in the high nibble of its byte j; ours holds elements 2i and 2i
// + 1 in byte i.
void RepackNibbles(const uint8_t* block, uint8_t* out) {
  for (int i = 0; i < 8; ++i) {
    const uint8_t even = block[2 * i], odd = block[2 * i + 1];
    out[i] = static_cast<uint8_t>((even & 15) | (odd << 4));
    out[i + 8] = static_cast<uint8_t>((even >> 4) | (odd & 0xf0));
  }
}
}  // namespace

std::optional<GgmlType> SupportedGgmlType(uint32_t number) {
  switch (static_cast<GgmlType>(number)) {
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kQ4_0:
    case GgmlType::kQ4_1:
    case GgmlType::kQ8_0:
    case GgmlType::kBF16:
      return static_cast<GgmlType>(number);
  }
  return std::nullopt;
}

std::string GgmlTypeName(uint32_t number, bool* known) {
  // enum ggml_type of ggml.h; null where a number was withdrawn.
  static constexpr const char* kNames[] = {
      "F32",    "F16",   "Q4_0",  "Q4_1",   nullptr, nullptr, "Q5_0",    "Q5_1",   "Q8_0",    "Q8_1",
      "Q2_K",   "Q3_K",  "Q4_K",  "Q5_K",   "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
      "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8",    "I16",   "I32",     "I64",    "F64",     "IQ1_M",
      "BF16",   nullptr, nullptr, nullptr,  "TQ1_0", "TQ2_0", nullptr,   nullptr,  nullptr,   "MXFP4"};
  const bool found = number < std::size(kNames) && kNames[number] != nullptr;
  if (known != nullptr) *known = found;
  return found ? kNames[number] : "type " + std::to_string(number);
}

int64_t BlockElements(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      return 1;
    case GgmlType::kQ4_0:
    case GgmlType::kQ4_1:
    case GgmlType::kQ8_0:
      return kBlock;
  }
  return 1;
}

int64_t BlockBytes(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return 4;
    case GgmlType::kF16:
    case GgmlType::kBF16:
      return 2;
    case GgmlType::kQ4_0:
      return 2 + kBlock / 2;  // f16 d, nibbles
    case GgmlType::kQ4_1:
      return 2 + 2 + kBlock / 2;  // f16 d, f16 m, nibbles
    case GgmlType::kQ8_0:
      return 2 + kBlock;  // f16 d, int8
  }
  return 0;
}

QuantScheme SchemeOf(GgmlType type) {
  QuantScheme scheme;
  scheme.param_dtype = DType::kF16;
  scheme.group_k = kBlock;
  switch (type) {
    case GgmlType::kF32:
      return {.weight = WeightFormat::kF32};
    case GgmlType::kF16:
      return {.weight = WeightFormat::kF16};
    case GgmlType::kBF16:
      return {.weight = WeightFormat::kBF16};
    case GgmlType::kQ8_0:
      scheme.weight = WeightFormat::kInt8;
      break;
    case GgmlType::kQ4_0:
      scheme.weight = WeightFormat::kInt4;
      break;
    case GgmlType::kQ4_1:
      scheme.weight = WeightFormat::kInt4;
      scheme.zero = ZeroKind::kMin;
      break;
  }
  return scheme;
}

void UnpackRow(GgmlType type, std::span<const uint8_t> blocks, int64_t row, QuantizedMatrix& matrix) {
  const int64_t k = matrix.k, groups = k / kBlock;
  QD_CHECK(static_cast<int64_t>(blocks.size()) == RowBytes(type, k) && row >= 0 && row < matrix.n);
  const uint8_t* block = blocks.data();
  if (BlockElements(type) == 1) {
    if (!blocks.empty()) std::memcpy(matrix.data.data() + row * blocks.size(), block, blocks.size());
    return;
  }
  uint8_t* scales = matrix.scales.data() + row * groups * 2;
  uint8_t* zeros = matrix.zeros.data() + (type == GgmlType::kQ4_1 ? row * groups * 2 : 0);
  uint8_t* data = matrix.data.data() + row * (type == GgmlType::kQ8_0 ? k : k / 2);
  for (int64_t g = 0; g < groups; ++g, block += BlockBytes(type)) {
    std::memcpy(scales + g * 2, block, 2);
    switch (type) {
      case GgmlType::kQ8_0:
        std::memcpy(data + g * kBlock, block + 2, kBlock);
        break;
      case GgmlType::kQ4_0:
        RepackNibbles(block + 2, data + g * kBlock / 2);
        break;
      case GgmlType::kQ4_1:
        std::memcpy(zeros + g * 2, block + 2, 2);
        RepackNibbles(block + 4, data + g * kBlock / 2);
        break;
      default:
        break;
    }
  }
}

}  // namespace quantd
