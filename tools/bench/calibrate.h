// What the machine can do, measured in the same run as the benchmark that is judged by it: shared hosts change by the
// minute.
#pragma once

#include <immintrin.h>

#include <sys/mman.h>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

namespace quantd::bench {

inline double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Ceilings {
  double read_bytes_per_second = 0;  // DRAM, all threads, four streams a thread over huge pages
  double f32_flops_per_second = 0;   // FMA on 256-bit vectors (2 operations each)
  double int8_ops_per_second = 0;    // maddubs + madd + add on 256-bit vectors (2 operations a multiply-add)
};

namespace internal {

template <typename Fn>
double OnAllThreads(int threads, const Fn& fn) {  // seconds until the last is done
  std::vector<std::thread> others;
  double begin = Seconds();
  for (int t = 1; t < threads; ++t) others.emplace_back([&fn, t] { fn(t); });
  fn(0);
  for (std::thread& t : others) t.join();
  return Seconds() - begin;
}

__attribute__((target("avx2"))) inline uint64_t ReadAll(const uint8_t* data, size_t bytes) {
  __m256i sum[4] = {};
  const size_t stream = bytes / 4;
  for (size_t i = 0; i + 64 <= stream; i += 64) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const uint8_t* p = data + static_cast<size_t>(s) * stream + i;
      __m256i both = _mm256_xor_si256(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)),
                                      _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32)));
      sum[s] = _mm256_add_epi64(sum[s], both);
      _mm_prefetch(reinterpret_cast<const char*>(p + 2048), _MM_HINT_T0);
    }
  }
  __m256i all = _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
  alignas(32) uint64_t parts[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(parts), all);
  return parts[0] + parts[1] + parts[2] + parts[3];
}

__attribute__((target("avx2,fma"))) inline float FmaLoop(int64_t rounds) {
  __m256 acc[10];
  for (int i = 0; i < 10; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-6f);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 10  // or the sums live in memory at -O2
    for (int i = 0; i < 10; ++i) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
    asm volatile("" : "+x"(a));
  }
  for (int i = 1; i < 10; ++i) acc[0] = _mm256_add_ps(acc[0], acc[i]);
  return _mm256_cvtss_f32(acc[0]);
}

__attribute__((target("avx2"))) inline int Int8Loop(int64_t rounds) {
  __m256i acc[8] = {}, w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      asm volatile("" : "+x"(x));  // the product is not a constant
      acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
    }
  }
  for (int i = 1; i < 8; ++i) acc[0] = _mm256_add_epi32(acc[0], acc[i]);
  return _mm256_extract_epi32(acc[0], 0);
}

}  // namespace internal

// Best of a few rounds with `threads` threads; about half a second. Zeros where there is no AVX2.
inline Ceilings Calibrate(int threads) {
  Ceilings c;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return c;
  constexpr size_t kBytes = size_t{128} << 20;  // a thread: far beyond any share of a last-level cache
  std::vector<uint8_t*> data;
  for (int t = 0; t < threads; ++t) {
    void* p = std::aligned_alloc(size_t{2} << 20, kBytes);
    madvise(p, kBytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < kBytes; i += 4096) static_cast<uint8_t*>(p)[i] = 1;
    data.push_back(static_cast<uint8_t*>(p));
  }
  volatile uint64_t sink = 0;
  for (int round = 0; round < 4; ++round) {
    double s =
        internal::OnAllThreads(threads, [&](int t) { sink = internal::ReadAll(data[static_cast<size_t>(t)], kBytes); });
    c.read_bytes_per_second = std::max(c.read_bytes_per_second, static_cast<double>(kBytes) * threads / s);
    constexpr int64_t kRounds = 4'000'000;
    s = internal::OnAllThreads(threads, [&](int) { sink = static_cast<uint64_t>(internal::FmaLoop(kRounds)); });
    c.f32_flops_per_second = std::max(c.f32_flops_per_second, static_cast<double>(kRounds) * 10 * 8 * 2 * threads / s);
    s = internal::OnAllThreads(threads, [&](int) { sink = static_cast<uint64_t>(internal::Int8Loop(kRounds)); });
    c.int8_ops_per_second = std::max(c.int8_ops_per_second, static_cast<double>(kRounds) * 8 * 32 * 2 * threads / s);
  }
  for (uint8_t* p : data) std::free(p);
  return c;
}

}  // namespace quantd::bench
