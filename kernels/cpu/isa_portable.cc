// The tiles on four lanes of plain C++: what runs where nothing better does.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/dtype.h"

namespace quantd::cpu::portable {

struct Ops {
  static constexpr const char* kName = "portable";
  static constexpr int kLanes = 4;
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  typedef uint32_t U __attribute__((vector_size(16)));
  static constexpr int kTileRows = 4;  // of one panel that keep their sums in registers
  static constexpr int kDotRows = 2;
  static constexpr int Panels(int) { return 1; }  // taken at a time by tiles of so many rows

  [[gnu::always_inline]] static void Prefetch(const void* p) { __builtin_prefetch(p); }
  static F Zero() { return F{}; }
  static F Set(float v) { return F{v, v, v, v}; }
  static F Load(const float* p) {
    F v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static F Load(const uint16_t* p) {  // bf16
    return F{Bf16ToF32(p[0]), Bf16ToF32(p[1]), Bf16ToF32(p[2]), Bf16ToF32(p[3])};
  }
  static F Load(const int8_t* p) {
    return F{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])};
  }
  static F LoadF16(const uint16_t* p) { return F{F16ToF32(p[0]), F16ToF32(p[1]), F16ToF32(p[2]), F16ToF32(p[3])}; }
  static void Store(float* p, F v) { std::memcpy(p, &v, sizeof(v)); }
  static void Store(uint16_t* p, F v) {
    for (int i = 0; i < kLanes; ++i) p[i] = F32ToBf16(v[i]);
  }
  static void Store(int8_t* p, F v) {  // integers already
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(v[i]);
  }
  static F RoundToBf16(F v) {
    for (int i = 0; i < kLanes; ++i) v[i] = Bf16ToF32(F32ToBf16(v[i]));
    return v;
  }
  static F Add(F a, F b) { return a + b; }
  static F Sub(F a, F b) { return a - b; }
  static F Mul(F a, F b) { return a * b; }
  static F Div(F a, F b) { return a / b; }
  static F MulAdd(F a, F b, F c) { return a * b + c; }
  static F Max(F a, F b) { return a > b ? a : b; }  // b where either is not a number
  static F Min(F a, F b) { return a < b ? a : b; }
  static F Abs(F a) { return std::bit_cast<F>(std::bit_cast<I>(a) & 0x7fffffff); }
  static F Round(F a) {
    for (int i = 0; i < kLanes; ++i) a[i] = std::nearbyint(a[i]);
    return a;
  }
  static F Pow2(F n) {  // of integers in [-126, 127]
    return std::bit_cast<F>((__builtin_convertvector(n, I) + 127) << 23);
  }
  // The lanes below `count` of v, zero elsewhere.
  static F Keep(F v, int count) {
    for (int i = 0; i < kLanes; ++i) v[i] = i < count ? v[i] : 0;
    return v;
  }
  static float Sum(F v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static float MaxOf(F v) { return std::max(std::max(v[0], v[1]), std::max(v[2], v[3])); }

  static I LoadInts(const void* p) {
    I v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static F EvenBf16(I v) { return std::bit_cast<F>(v << 16); }
  static F OddBf16(I v) { return std::bit_cast<F>(v & static_cast<int32_t>(0xffff0000)); }
  // Code j of eight in a dword, as an integer times 1/kInt4Scale[j]. The tiles multiply x by kInt4Scale, a power of
  // two, so that no code needs a shift; the products are exact all the same.
  template <int j>
  static F Int4(I v) {
    if constexpr (j == 7) return __builtin_convertvector(std::bit_cast<I>(std::bit_cast<U>(v) >> 28), F);
    return __builtin_convertvector(v & (15 << 4 * (j % 7)), F);
  }
  static constexpr float kInt4Scale[8] = {1, 0x1p-4f, 0x1p-8f, 0x1p-12f, 0x1p-16f, 0x1p-20f, 0x1p-24f, 1};

  // Sums of four products of bytes a lane.
  static I ZeroInts() { return I{}; }
  struct DotWeight {
    I w;
  };
  static DotWeight LoadDot(const void* p) { return {LoadInts(p)}; }
  static I Dot(I sum, const DotWeight& weight, int32_t x) {
    for (int i = 0; i < kLanes; ++i) {
      for (int b = 0; b < 32; b += 8) {
        sum[i] += static_cast<int8_t>(weight.w[i] >> b) * static_cast<int8_t>(x >> b);
      }
    }
    return sum;
  }
  static F ToFloat(I v) { return __builtin_convertvector(v, F); }

  // out[i * stride] = column i of the kLanes rows.
  static void Transpose(const F* rows, float* out, int64_t stride) {
    for (int i = 0; i < kLanes; ++i) Store(out + i * stride, F{rows[0][i], rows[1][i], rows[2][i], rows[3][i]});
  }
};

// In order of use; blank lines keep it.
#include "kernels/cpu/tiles.h"

#include "kernels/cpu/tiles_linear.h"
#include "kernels/cpu/tiles_rows.h"

#include "kernels/cpu/tiles_attention.h"

#include "kernels/cpu/tiles_table.h"

}  // namespace quantd::cpu::portable

namespace quantd::cpu {
const CpuOps& PortableOps() { return portable::kOps; }
}  // namespace quantd::cpu
