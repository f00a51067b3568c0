// Tensors for tests of ops: memory that starts as NaN, gaps between rows and guards at the ends that no op may touch.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace quantd::testing {

using Rng = std::mt19937;

// Owns its memory, all bytes of which are 0xff at first: NaN in every float format. `gap` elements lie between rows.
class TestTensor {
 public:
  TestTensor(DType dtype, Shape shape, int64_t gap = 0);
  const Tensor& view() const { return view_; }
  bool GuardsIntact() const;           // every byte that belongs to no element still is 0xff
  std::vector<uint8_t> Bytes() const;  // of the elements, without gaps
  std::vector<float> Floats() const;   // the elements of a float tensor, or of an i8 one

 private:
  std::vector<uint8_t> memory_;
  Tensor view_;
};

TestTensor RandomFloats(Rng& rng, DType dtype, Shape shape, int64_t gap = 0, float spread = 1);
TestTensor Ints(const std::vector<int32_t>& values, Shape shape);
TestTensor Ints(const std::vector<int32_t>& values);  // a vector

// The cpu backend with this instruction set and two threads; null where the machine lacks it.
std::unique_ptr<Backend> CpuBackendOrNull(const std::string& isa);

// One weight, packed by two backends from the same canonical matrix.
struct WeightPair {
  QuantizedMatrix matrix;
  std::unique_ptr<DeviceWeight> a, b;
};
WeightPair PackForBoth(Backend& a, Backend& b, const Tensor& weights, const std::string& scheme);

// A paged cache with sequences whose blocks lie in no order, and the batch of some of their tokens.
class CacheCase {
 public:
  // Sequence s has tokens [begins[s], ends[s]) in the batch.
  CacheCase(Rng& rng, KvFormat key_format, KvFormat value_format, int64_t kv_heads, int64_t dim,
            const std::vector<int32_t>& begins, const std::vector<int32_t>& ends);
  const PagedKv& kv() const { return kv_; }
  const RaggedBatch& batch() const { return batch_; }
  // All bytes of keys, values and scales.
  std::vector<uint8_t> Contents() const;
  bool GuardsIntact() const;

 private:
  std::vector<std::unique_ptr<TestTensor>> tensors_;
  const Tensor& Own(TestTensor tensor);
  PagedKv kv_;
  RaggedBatch batch_;
};

}  // namespace quantd::testing
