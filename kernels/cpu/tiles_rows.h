// Ops on one row: norm, gated activation, rotary embedding, conversions, quantization. See tiles.h for how this is
// included.

// Writes the forms of a row of k values of type T. `at(i, n)` computes values [i, i + n), zeros beyond n.
// A value that is not finite makes the scale NaN, so that it cannot pass for a number further on; a NaN's code is -127.
template <typename T, typename At>
void WriteForms(const At& at, int64_t k, const RowForms& out) {
  T* values = static_cast<T*>(out.values);
  F amax = Ops::Zero(), nan = Ops::Zero();
  for (int64_t i = 0; i < k; i += kLanes) {
    F v = RoundTo<T>(at(i, k - i));
    if (values != nullptr) StoreSome(values + i, v, k - i);
    amax = Ops::Max(Ops::Abs(v), amax);
    nan = Ops::MulAdd(v, Ops::Zero(), nan);
  }
  if (out.quantized == nullptr) return;
  float scale = std::max(Ops::MaxOf(amax) / 127.0f, 1e-5f);
  F inverse = Ops::Set(1.0f / scale);
  for (int64_t i = 0; i < k; i += kLanes) {
    F v = values != nullptr ? LoadSome(values + i, k - i) : RoundTo<T>(at(i, k - i));
    F q = Ops::Round(Ops::Mul(v, inverse));
    StoreSome(out.quantized + i, Ops::Min(Ops::Max(q, Ops::Set(-127.0f)), Ops::Set(127.0f)), k - i);
  }
  *out.scale = scale + Ops::Sum(nan);
}

template <typename T>
struct NormalizedAt {
  const T* x;
  const float* weight;
  F inverse_rms;
  F operator()(int64_t i, int64_t n) const {
    return Ops::Mul(Ops::Mul(LoadSome(x + i, n), inverse_rms), LoadSome(weight + i, n));
  }
};

template <typename Out, typename T>
void RmsNormRow(const T* x, const float* weight, float eps, int64_t k, const RowForms& out) {
  F squares = Ops::Zero();
  for (int64_t i = 0; i < k; i += kLanes) {
    F v = LoadSome(x + i, k - i);
    squares = Ops::MulAdd(v, v, squares);
  }
  float mean = Ops::Sum(squares) / static_cast<float>(k);
  WriteForms<Out>(NormalizedAt<T>{x, weight, Ops::Set(1.0f / std::sqrt(mean + eps))}, k, out);
}

inline void RmsNorm(const void* x, DType dtype, const float* weight, float eps, int64_t k, DType out_dtype,
                    const RowForms& out) {
  if (dtype == DType::kBF16) return RmsNormRow<uint16_t>(static_cast<const uint16_t*>(x), weight, eps, k, out);
  if (out_dtype == DType::kBF16) return RmsNormRow<uint16_t>(static_cast<const float*>(x), weight, eps, k, out);
  RmsNormRow<float>(static_cast<const float*>(x), weight, eps, k, out);
}

template <typename T>
struct GatedAt {
  const T* gate;
  const T* up;
  bool silu;
  F operator()(int64_t i, int64_t n) const {
    F g = LoadSome(gate + i, n);
    return Ops::Mul(silu ? Silu(g) : g, LoadSome(up + i, n));
  }
};

inline void Gated(ActivationKind kind, const void* gate, const void* up, DType dtype, int64_t k, const RowForms& out) {
  bool silu = kind == ActivationKind::kSilu;
  if (dtype == DType::kF32) {
    return WriteForms<float>(GatedAt<float>{static_cast<const float*>(gate), static_cast<const float*>(up), silu}, k,
                             out);
  }
  using Bf16 = uint16_t;
  WriteForms<Bf16>(GatedAt<Bf16>{static_cast<const Bf16*>(gate), static_cast<const Bf16*>(up), silu}, k, out);
}

template <typename T>
struct RowAt {
  const T* x;
  F operator()(int64_t i, int64_t n) const { return LoadSome(x + i, n); }
};

inline void QuantizeRow(const void* x, DType dtype, int64_t k, int8_t* quantized, float* scale) {
  RowForms out{nullptr, quantized, scale};
  if (dtype == DType::kF32) return WriteForms<float>(RowAt<float>{static_cast<const float*>(x)}, k, out);
  WriteForms<uint16_t>(RowAt<uint16_t>{static_cast<const uint16_t*>(x)}, k, out);
}

template <typename T>
void RopeHead(T* x, const float* cos_sin, int64_t half) {
  for (int64_t i = 0; i < half; i += kLanes) {
    int64_t n = half - i;
    F a = LoadSome(x + i, n), b = LoadSome(x + half + i, n);
    F cosine = LoadSome(cos_sin + i, n), sine = LoadSome(cos_sin + half + i, n);
    StoreSome(x + i, Ops::Sub(Ops::Mul(a, cosine), Ops::Mul(b, sine)), n);
    StoreSome(x + half + i, Ops::Add(Ops::Mul(b, cosine), Ops::Mul(a, sine)), n);
  }
}

inline void Rope(void* x, DType dtype, const float* cos_sin, int64_t half) {
  if (dtype == DType::kF32) return RopeHead(static_cast<float*>(x), cos_sin, half);
  RopeHead(static_cast<uint16_t*>(x), cos_sin, half);
}

template <typename In, typename Out>
void ConvertRow(const In* in, Out* out, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) StoreSome(out + i, LoadSome(in + i, count - i), count - i);
}

inline void Convert(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count) {
  if (in_dtype == out_dtype) {
    std::memcpy(out, in, static_cast<size_t>(count * SizeOf(in_dtype)));
  } else if (in_dtype == DType::kF32) {
    ConvertRow(static_cast<const float*>(in), static_cast<uint16_t*>(out), count);
  } else {
    ConvertRow(static_cast<const uint16_t*>(in), static_cast<float*>(out), count);
  }
}
