// Any bytes as model.safetensors.index.json: tensors in files whose names stay in the folder, or a Status.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  const auto index = ParseSafetensorsIndex({reinterpret_cast<const char*>(data), size}, "index");
  QD_CHECK(!absl::IsInternal(index.status()));
  if (!index.ok()) return 0;
  QD_CHECK(!index->empty());
  for (const auto& [tensor, file] : *index) {
    QD_CHECK(file.find('/') == file.npos && file.find('\0') == file.npos && file.ends_with(".safetensors"));
  }
  return 0;
}
