// The safetensors reader over arbitrary bytes: a file, and as text an index. Whatever it accepts, it must be able to
// read.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto index = ParseSafetensorsIndex(bytes, "index");
  QD_CHECK(!index.ok() || !index->empty());
  const auto store = OpenSafetensors(MemorySource("file", bytes));
  if (!store.ok()) return 0;
  int64_t total = 0;
  for (const TensorInfo& info : (*store)->tensors()) {
    const absl::StatusOr<QuantizedMatrix> matrix = (*store)->Read(info.name);
    total += info.file_bytes;
    if (absl::IsDataLoss(matrix.status())) continue;       // a value that is not finite
    if (absl::IsUnimplemented(matrix.status())) continue;  // a dtype that only matters to a model that has the tensor
    QD_CHECK(matrix.ok());
    QD_CHECK(static_cast<int64_t>(matrix->data.size()) == info.file_bytes);
    QD_CHECK(Validate(matrix->view()).ok() || info.file_bytes == 0);
  }
  QD_CHECK(total <= static_cast<int64_t>(size));
  return 0;
}
