// Scratch memory of a step: one buffer, handed out by a bump pointer.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "kernels/buffer.h"
#include "kernels/tensor.h"

namespace quantd {

// A Scope gives back at its end what was handed out since its start. Without a buffer (a dry run) tensors have no
// memory and only `high_water_bytes` counts: the size that the real one needs. Not thread-safe.
class Workspace {
 public:
  Workspace() = default;
  explicit Workspace(Buffer buffer) : buffer_(std::move(buffer)), measuring_(buffer_.data() == nullptr) {}

  class Scope {
   public:
    explicit Scope(Workspace& w) : workspace_(w), mark_(w.used_) {}
    ~Scope() { workspace_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    int64_t mark_;
  };

  Tensor New(DType dtype, Shape shape) {
    int64_t begin = used_;
    used_ += (shape.elements() * SizeOf(dtype) + 63) / 64 * 64;
    high_water_ = std::max(high_water_, used_);
    if (measuring_) return Tensor(nullptr, dtype, shape);
    QD_CHECK(used_ <= buffer_.bytes());  // the dry run of the largest step sized it
    return Tensor(static_cast<char*>(buffer_.data()) + begin, dtype, shape);
  }
  int64_t high_water_bytes() const { return high_water_; }

 private:
  Buffer buffer_;
  int64_t used_ = 0, high_water_ = 0;
  bool measuring_ = true;
};

}  // namespace quantd
