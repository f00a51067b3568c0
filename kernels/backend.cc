#include "kernels/backend.h"

#include "base/strings.h"
#include "kernels/cpu_backend_factory.h"
#include "kernels/reference/reference_backend.h"

namespace quantd {

void Buffer::Free() {
  if (backend_ != nullptr) backend_->Free(data_, bytes_, tag_);
  backend_ = nullptr;
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(std::string_view kind, const BackendOptions& options) {
  if (kind == "reference") return CreateReferenceBackend(options);
  if (kind == "cpu") return CreateCpuBackend(options);
  return absl::InvalidArgumentError(
      absl::StrCat("backend \"", ToAbsl(kind), "\" is unknown; there are: cpu, reference"));
}

}  // namespace quantd
