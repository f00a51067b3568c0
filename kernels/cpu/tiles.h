// What all tiles share: rows whose length is no multiple of the lanes, and the exponential. No include guard and no
// includes: an isa_*.cc includes this inside its namespace, after its `struct Ops`. No lambdas either: a target pragma
// does not reach them.
//
// A tail is padded to whole vectors, so every element sees the same arithmetic wherever in a row it lies.

using F = Ops::F;
using I = Ops::I;
inline constexpr int kLanes = Ops::kLanes;
inline constexpr int kVectors = kPanel / kLanes;  // of a panel
static_assert(kPanel % kLanes == 0);

// Up to kLanes elements, `count` of them from memory and zeros beyond. T: float, uint16_t (bf16), int8_t.
template <typename T>
inline F LoadSome(const T* p, int64_t count) {
  if (count >= kLanes) return Ops::Load(p);
  T part[kLanes] = {};
  if (count > 0) std::memcpy(part, p, static_cast<size_t>(count) * sizeof(T));
  return Ops::Load(part);
}

template <typename T>
inline void StoreSome(T* p, F v, int64_t count) {
  if (count >= kLanes) return Ops::Store(p, v);
  T part[kLanes];
  Ops::Store(part, v);
  if (count > 0) std::memcpy(p, part, static_cast<size_t>(count) * sizeof(T));
}

// Fetches `bytes` at p ahead of use. Beyond the end of an allocation it does nothing. Always inline: g++ 12 takes a
// function that only prefetches for one without effect and drops the call.
[[gnu::always_inline]] inline void PrefetchBytes(const uint8_t* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) Ops::Prefetch(p + i);
}
// How far ahead of the codes in use: a panel is read in short stretches, which the processor's own prefetch does not
// follow.
inline constexpr int64_t kPrefetchAhead = 2048;

template <typename T>
inline F RoundTo(F v) {
  if constexpr (sizeof(T) == 2) return Ops::RoundToBf16(v);
  return v;
}

// Within 2 ulp for x in [-87.3, 88], constant outside; exactly 1 at 0; NaN stays NaN. The polynomial is that of Cephes'
// expf.
inline F Exp(F x) {
  x = Ops::Min(Ops::Set(88.0f), Ops::Max(Ops::Set(-87.33654f), x));
  F n = Ops::Round(Ops::Mul(x, Ops::Set(1.44269504088896341f)));
  F r = Ops::MulAdd(n, Ops::Set(-0.693359375f), x);  // ln 2 in two parts, the first exact in few bits
  r = Ops::MulAdd(n, Ops::Set(2.12194440e-4f), r);
  F p = Ops::Set(1.9875691500e-4f);
  p = Ops::MulAdd(p, r, Ops::Set(1.3981999507e-3f));
  p = Ops::MulAdd(p, r, Ops::Set(8.3334519073e-3f));
  p = Ops::MulAdd(p, r, Ops::Set(4.1665795894e-2f));
  p = Ops::MulAdd(p, r, Ops::Set(1.6666665459e-1f));
  p = Ops::MulAdd(p, r, Ops::Set(5.0000001201e-1f));
  p = Ops::Add(Ops::MulAdd(p, Ops::Mul(r, r), r), Ops::Set(1.0f));
  return Ops::Mul(p, Ops::Pow2(n));
}

inline F Silu(F x) { return Ops::Div(x, Ops::Add(Ops::Set(1.0f), Exp(Ops::Sub(Ops::Zero(), x)))); }
