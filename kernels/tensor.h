// Tensor: a view of memory with a dtype and a shape. It owns nothing and must not outlive what it views.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/check.h"
#include "kernels/dtype.h"

namespace quantd {

// Up to four dimensions, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    QD_CHECK(dims.size() <= dims_.size());
    for (int64_t d : dims) dims_[rank_++] = d;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i]; }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  bool operator==(const Shape& o) const { return rank_ == o.rank_ && dims_ == o.dims_; }

 private:
  std::array<int64_t, 4> dims_{};
  int rank_ = 0;
};

std::string ToString(const Shape& shape);  // "[2, 3]"

// Dense in all dimensions but the outermost, whose stride (in elements) may be larger than the rows below it: so a
// slice of columns of a matrix (q of a fused qkv) is a Tensor too. In a dry run `data` is null while `present()` is
// true.
class Tensor {
 public:
  Tensor() = default;  // absent
  Tensor(void* data, DType dtype, Shape shape) : Tensor(data, dtype, shape, RowElements(shape)) {}
  Tensor(void* data, DType dtype, Shape shape, int64_t row_stride)
      : data_(data), shape_(shape), row_stride_(row_stride), dtype_(dtype), present_(true) {}

  bool present() const { return present_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t rows() const { return shape_.rank() == 0 ? 1 : shape_[0]; }
  int64_t row_elements() const { return RowElements(shape_); }
  int64_t row_stride() const { return row_stride_; }  // elements from one row to the next
  bool contiguous() const { return row_stride_ == RowElements(shape_); }
  int64_t bytes() const { return shape_.elements() * SizeOf(dtype_); }  // of the elements, gaps aside

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    QD_CHECK(static_cast<int64_t>(sizeof(T)) == SizeOf(dtype_));
    return static_cast<T*>(data_);
  }
  void* row(int64_t r) const { return static_cast<char*>(data_) + r * row_stride_ * SizeOf(dtype_); }

  // Rows [begin, begin + count) of the outermost dimension.
  Tensor Rows(int64_t begin, int64_t count) const;
  // Columns [begin, begin + count) of a matrix [rows, columns].
  Tensor Columns(int64_t begin, int64_t count) const;
  // The same elements under another shape; the outermost dimension stays unless the tensor is contiguous.
  Tensor Reshape(Shape shape) const;

 private:
  static int64_t RowElements(const Shape& s) {
    int64_t n = 1;
    for (int i = 1; i < s.rank(); ++i) n *= s[i];
    return n;
  }
  void* data_ = nullptr;
  Shape shape_;
  int64_t row_stride_ = 0;
  DType dtype_ = DType::kF32;
  bool present_ = false;
};

}  // namespace quantd
