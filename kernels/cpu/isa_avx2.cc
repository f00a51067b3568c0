// The tiles on AVX2, FMA and F16C: eight lanes, sixteen registers.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/isa_target.h"
#include "kernels/dtype.h"

QD_ISA_BEGIN("avx2,fma,f16c")
namespace quantd::cpu::avx2 {

struct Ops {
  static constexpr const char* kName = "avx2";
  static constexpr int kLanes = 8;
  using F = __m256;
  using I = __m256i;
  static constexpr int kTileRows = 6;  // 12 sums, two weights, one x
  static constexpr int kDotRows = 4;   // 8 sums, two weights and their signs' magnitudes, temporaries
  // Eight independent sums hide the latency of FMA (4 cycles, two a cycle).
  static constexpr int Panels(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

  [[gnu::always_inline]] static void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
  static F Zero() { return _mm256_setzero_ps(); }
  static F Set(float v) { return _mm256_set1_ps(v); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static F Load(const uint16_t* p) {  // bf16
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load128(p)), 16));
  }
  static F Load(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F LoadF16(const uint16_t* p) { return _mm256_cvtph_ps(Load128(p)); }
  static void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static void Store(uint16_t* p, F v) {
    I high = _mm256_srli_epi32(_mm256_castps_si256(RoundToBf16(v)), 16);
    __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), halves);
  }
  static void Store(int8_t* p, F v) {  // integers already
    I ints = _mm256_cvtps_epi32(v);
    __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
  }
  // As F32ToBf16: to nearest even, a NaN stays one.
  static F RoundToBf16(F v) {
    I bits = _mm256_castps_si256(v);
    I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    I rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    I nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    I result = _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
    return _mm256_castsi256_ps(_mm256_and_si256(result, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
  }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F MulAdd(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }  // b where either is not a number
  static F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static F Abs(F a) { return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff))); }
  static F Round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F Pow2(F n) {  // of integers in [-126, 127]
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
  // The lanes below `count` of v, zero elsewhere.
  static F Keep(F v, int count) {
    I lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane)));
  }
  static float Sum(F v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  static float MaxOf(F v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }

  static I LoadInts(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static F EvenBf16(I v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }
  static F OddBf16(I v) {
    return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
  }
  // Code j of eight in a dword, as an integer times 1/kInt4Scale[j]. The tiles multiply x by kInt4Scale, a power of
  // two, so that no code but the last needs a shift; the products are exact all the same.
  template <int j>
  static F Int4(I v) {
    if constexpr (j == 7) return _mm256_cvtepi32_ps(_mm256_srli_epi32(v, 28));
    return _mm256_cvtepi32_ps(_mm256_and_si256(v, _mm256_set1_epi32(15 << 4 * (j % 7))));
  }
  static constexpr float kInt4Scale[8] = {1, 0x1p-4f, 0x1p-8f, 0x1p-12f, 0x1p-16f, 0x1p-20f, 0x1p-24f, 1};

  // Sums of four products of bytes a lane, exact: |w| as u8 times x with w's sign; two products are at most
  // 2 * 128 * 127 = 32512, which 16 bits hold.
  static I ZeroInts() { return _mm256_setzero_si256(); }
  struct DotWeight {
    I w, magnitude;
  };
  static DotWeight LoadDot(const void* p) {
    I w = LoadInts(p);
    return {w, _mm256_abs_epi8(w)};
  }
  static I Dot(I sum, const DotWeight& weight, int32_t x) {
    I pairs = _mm256_maddubs_epi16(weight.magnitude, _mm256_sign_epi8(_mm256_set1_epi32(x), weight.w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static F ToFloat(I v) { return _mm256_cvtepi32_ps(v); }

  // out[i * stride] = column i of the kLanes rows.
  static void Transpose(const F* rows, float* out, int64_t stride) {
    F a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      a[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
      a[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
      b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Store(out + i * stride, _mm256_permute2f128_ps(b[i], b[i + 4], 0x20));
      Store(out + (i + 4) * stride, _mm256_permute2f128_ps(b[i], b[i + 4], 0x31));
    }
  }

 private:
  static __m128i Load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
};

// In order of use; blank lines keep it.
#include "kernels/cpu/tiles.h"

#include "kernels/cpu/tiles_linear.h"
#include "kernels/cpu/tiles_rows.h"

#include "kernels/cpu/tiles_attention.h"

#include "kernels/cpu/tiles_table.h"

}  // namespace quantd::cpu::avx2
QD_ISA_END

namespace quantd::cpu {
const CpuOps& Avx2Ops() { return avx2::kOps; }
}  // namespace quantd::cpu
