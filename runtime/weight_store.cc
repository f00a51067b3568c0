#include "runtime/weight_store.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

// Infinities and NaNs have an exponent of all ones. Both constants stand for as many values as 64 bits hold.
struct ExponentBits {
  uint64_t all;
  uint64_t lowest;
};
ExponentBits ExponentOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {0x7f8000007f800000, 0x0080000000800000};
    case DType::kBF16:
      return {0x7f807f807f807f80, 0x0080008000800080};
    default:
      return {0x7c007c007c007c00, 0x0400040004000400};
  }
}

// The first of `values` (f32, bf16 or f16) that is not finite, or -1.
int64_t FindNonFinite(const std::vector<uint8_t>& values, DType dtype) {
  const ExponentBits exponent = ExponentOf(dtype);
  uint64_t carries = 0;  // an exponent of all ones, plus its lowest bit, carries into the sign
  const auto take = [&](size_t begin, size_t bytes) {
    uint64_t word = 0;
    std::memcpy(&word, values.data() + begin, bytes);
    carries |= (word & exponent.all) + exponent.lowest;
  };
  size_t i = 0;
  for (; i + 8 <= values.size(); i += 8) take(i, 8);
  if (i < values.size()) take(i, values.size() - i);
  const uint64_t signs = (exponent.all + exponent.lowest) & ~exponent.all;
  if ((carries & signs) == 0) return -1;
  int64_t at = 0;
  while (std::isfinite(LoadFloat(values.data(), dtype, at))) ++at;
  return at;
}

absl::Status CheckFinite(const QuantizedMatrix& matrix) {
  struct Part {
    const std::vector<uint8_t>& values;
    DType dtype;
    const char* name;
    const char* unit;  // what a row has several of
  };
  const auto check = [&](const Part& part) -> absl::Status {
    const int64_t at = FindNonFinite(part.values, part.dtype);
    if (at < 0) return absl::OkStatus();
    const int64_t per_row = static_cast<int64_t>(part.values.size()) / SizeOf(part.dtype) / matrix.n;
    return absl::DataLossError(absl::StrCat("the ", part.name, " in row ", at / per_row, ", ", part.unit, " ",
                                            at % per_row, " is ", LoadFloat(part.values.data(), part.dtype, at),
                                            ", expected a finite one"));
  };
  const QuantScheme& scheme = matrix.scheme;
  if (!scheme.quantized()) return check({matrix.data, WeightDType(scheme.weight), "value", "column"});
  QD_RETURN_IF_ERROR(check({matrix.scales, scheme.param_dtype, "scale", "group"}));
  return check({matrix.zeros, scheme.param_dtype, "zero", "group"});
}

}  // namespace

const TensorInfo* WeightStore::Find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

absl::StatusOr<QuantizedMatrix> WeightStore::Read(std::string_view name) const {
  const TensorInfo* info = Find(name);
  if (info == nullptr) return absl::NotFoundError(absl::StrCat("no tensor ", ToAbsl(name)));
  if (!info->unsupported.empty()) {
    return absl::UnimplementedError(absl::StrCat("tensor ", info->name, ": ", info->unsupported));
  }
  absl::StatusOr<QuantizedMatrix> matrix = ReadItem(*info);
  const absl::Status status = matrix.ok() ? CheckFinite(*matrix) : matrix.status();
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat("tensor ", info->name, ": ", status.message()));
  return matrix;
}

void WeightStore::Finish() { std::ranges::sort(tensors_, {}, &TensorInfo::name); }

}  // namespace quantd
