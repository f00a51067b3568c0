// ggml's tensor types: which of our schemes a type means, and its blocks as canonical rows (ggml-common.h,
// ggml-quants.c).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "kernels/quant.h"

namespace quantd {

enum class GgmlType : uint32_t { kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ8_0 = 8, kBF16 = 30 };

// The type with this number in a file; nothing where it is not one of the above.
std::optional<GgmlType> SupportedGgmlType(uint32_t number);
// "Q4_K"; "type 4" for a number that ggml does not use (any more). `known`, where not null, tells which.
std::string GgmlTypeName(uint32_t number, bool* known = nullptr);

int64_t BlockElements(GgmlType type);  // 1, or 32 for the block types
int64_t BlockBytes(GgmlType type);
inline int64_t RowBytes(GgmlType type, int64_t k) { return k / BlockElements(type) * BlockBytes(type); }

// What the type's values mean: a float format, or groups of 32 with f16 parameters.
QuantScheme SchemeOf(GgmlType type);

// Unpacks one row of `matrix.k` values, as the file has them, into row `row` of `matrix`, whose scheme is
// SchemeOf(type).
void UnpackRow(GgmlType type, std::span<const uint8_t> blocks, int64_t row, QuantizedMatrix& matrix);

}  // namespace quantd
