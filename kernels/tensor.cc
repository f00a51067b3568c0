#include "kernels/tensor.h"

namespace quantd {

std::string ToString(const Shape& shape) {
  std::string s = "[";
  for (int i = 0; i < shape.rank(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + "]";
}

namespace {
void* Offset(const Tensor& t, int64_t elements) {
  return t.data() == nullptr ? nullptr : static_cast<char*>(t.data()) + elements * SizeOf(t.dtype());
}
Shape WithRows(const Shape& s, int64_t rows) {
  switch (s.rank()) {
    case 1:
      return {rows};
    case 2:
      return {rows, s[1]};
    case 3:
      return {rows, s[1], s[2]};
    default:
      return {rows, s[1], s[2], s[3]};
  }
}
}  // namespace

Tensor Tensor::Rows(int64_t begin, int64_t count) const {
  QD_CHECK(shape_.rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0]);
  return Tensor(Offset(*this, begin * row_stride_), dtype_, WithRows(shape_, count), row_stride_);
}

Tensor Tensor::Columns(int64_t begin, int64_t count) const {
  QD_CHECK(shape_.rank() == 2 && begin >= 0 && count >= 0 && begin + count <= shape_[1]);
  return Tensor(Offset(*this, begin), dtype_, {shape_[0], count}, row_stride_);
}

Tensor Tensor::Reshape(Shape shape) const {
  QD_CHECK(shape.elements() == shape_.elements());
  if (contiguous()) return Tensor(data_, dtype_, shape);
  QD_CHECK(shape.rank() >= 1 && shape[0] == shape_[0]);
  return Tensor(data_, dtype_, shape, row_stride_);
}

}  // namespace quantd
