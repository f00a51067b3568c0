// The GGUF reader over arbitrary bytes: the container, then the model in it. Whatever it accepts, it must be able to
// read, and the config that it writes must be one that the config parser can judge.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/gguf_checkpoint.h"
#include "runtime/llama_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quantd;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto model = OpenGguf(MemorySource("file", bytes));
  if (!model.ok()) return 0;
  int64_t total = 0;
  for (const TensorInfo& info : model->weights->tensors()) {
    const absl::StatusOr<QuantizedMatrix> matrix = model->weights->Read(info.name);
    total += info.file_bytes;
    if (absl::IsDataLoss(matrix.status())) continue;  // a value or a scale that is not finite
    QD_CHECK(matrix.ok());
    QD_CHECK(Validate(matrix->view()).ok());
  }
  QD_CHECK(total <= static_cast<int64_t>(size));
  QD_CHECK(ParseLlamaConfig(model->config_json).status().code() != absl::StatusCode::kDataLoss);
  return 0;
}
