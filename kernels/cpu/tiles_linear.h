// Linear: R rows of x times P panels of W, sums in registers. See tiles.h for how this is included.
//
// An output is summed over k in ascending order, and the arithmetic of one output is the same in every tile, so a row's
// result does not depend on the rows beside it. With groups, codes q are summed first:  a = sum_{k in group} x_k q_k,
// X = sum x_k,
//   y += s a + c X,   c = 0 (int8),  -8 s (int4),  z - 8 s (int4, float zero),  z (int4, min).
// Without groups y += x_k q_k, and a scale of the whole row multiplies at the end.

// How eight steps of k of one panel give vectors of codes as f32: At<j> is vector v of k + j.
struct F32Codes {
  static constexpr int64_t kStepBytes = kKStep * kPanel * 4;
  static constexpr bool kScaled = false;
  template <int j>
  static F At(const uint8_t* p, int v) {
    return Ops::Load(reinterpret_cast<const float*>(p) + j * kPanel + v * kLanes);
  }
};
struct F16Codes {
  static constexpr int64_t kStepBytes = kKStep * kPanel * 2;
  static constexpr bool kScaled = false;
  template <int j>
  static F At(const uint8_t* p, int v) {
    return Ops::LoadF16(reinterpret_cast<const uint16_t*>(p) + j * kPanel + v * kLanes);
  }
};
struct Bf16Codes {
  static constexpr int64_t kStepBytes = kKStep * kPanel * 2;
  static constexpr bool kScaled = false;
  template <int j>
  static F At(const uint8_t* p, int v) {
    I pair = Ops::LoadInts(p + j / 2 * kPanel * 4 + v * kLanes * 4);
    if constexpr (j % 2 == 0) return Ops::EvenBf16(pair);
    return Ops::OddBf16(pair);
  }
};
struct Int8Codes {
  static constexpr int64_t kStepBytes = kKStep * kPanel;
  static constexpr bool kScaled = false;
  template <int j>
  static F At(const uint8_t* p, int v) {
    return Ops::Load(reinterpret_cast<const int8_t*>(p) + j * kPanel + v * kLanes);
  }
};
struct Int4Codes {
  static constexpr int64_t kStepBytes = kPanel * 4;
  static constexpr bool kScaled = true;  // x comes multiplied by Ops::kInt4Scale
  template <int j>
  static F At(const uint8_t* p, int v) {
    return Ops::template Int4<j>(Ops::LoadInts(p + v * kLanes * 4));
  }
};

// A stretch of k: `groups` groups of `length`, or one stretch where there are no groups.
struct Block {
  int64_t groups, length;
  int64_t k() const { return groups * length; }
};

inline Block BlockAt(const PanelView& w, int64_t k) {
  int64_t count = std::min<int64_t>(LinearScratch::kBlock, w.k_padded - k);
  return w.group == 0 ? Block{1, count} : Block{count / w.group, w.group};
}

struct TileArgs {
  const float* x;  // [R], x_stride apart
  int64_t x_stride;
  const float* x_sums;  // [R][kGroups]; grouped only
  const uint8_t* w;     // P panels, panel_bytes apart
  int64_t panel_bytes;
  Block block;
  const float* params;  // [P][groups][s, c][kPanel]; grouped only
  float* y;             // [R][P][kPanel], rows y_stride apart; added to
  int64_t y_stride;
};

template <typename Codes, int R, int P, int j>
[[gnu::always_inline]] inline void TileStep(F (&sums)[R][P * kVectors], const float* x, int64_t x_stride,
                                            const uint8_t* w, int64_t panel_bytes) {
  if constexpr (R == 1) {
    F x0 = Ops::Set(x[j]);
#pragma GCC unroll 16
    for (int v = 0; v < P * kVectors; ++v) {
      sums[0][v] = Ops::MulAdd(x0, Codes::template At<j>(w + v / kVectors * panel_bytes, v % kVectors), sums[0][v]);
    }
  } else {
    F codes[P * kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < P * kVectors; ++v)
      codes[v] = Codes::template At<j>(w + v / kVectors * panel_bytes, v % kVectors);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      F xr = Ops::Set(x[r * x_stride + j]);
#pragma GCC unroll 16
      for (int v = 0; v < P * kVectors; ++v) sums[r][v] = Ops::MulAdd(xr, codes[v], sums[r][v]);
    }
  }
}

template <typename Codes, int R, int P>
[[gnu::always_inline]] inline void TileSum(F (&sums)[R][P * kVectors], const float* x, int64_t x_stride,
                                           const uint8_t* w, int64_t panel_bytes, int64_t k_count) {
  for (int64_t k = 0; k < k_count; k += kKStep, x += kKStep, w += Codes::kStepBytes) {
    if constexpr (!std::is_same_v<Codes, F32Codes>) {  // which come from scratch, as a rule
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) PrefetchBytes(w + p * panel_bytes + kPrefetchAhead, Codes::kStepBytes);
    }
    TileStep<Codes, R, P, 0>(sums, x, x_stride, w, panel_bytes);
    TileStep<Codes, R, P, 1>(sums, x, x_stride, w, panel_bytes);
    TileStep<Codes, R, P, 2>(sums, x, x_stride, w, panel_bytes);
    TileStep<Codes, R, P, 3>(sums, x, x_stride, w, panel_bytes);
    TileStep<Codes, R, P, 4>(sums, x, x_stride, w, panel_bytes);
    TileStep<Codes, R, P, 5>(sums, x, x_stride, w, panel_bytes);
    TileStep<Codes, R, P, 6>(sums, x, x_stride, w, panel_bytes);
    TileStep<Codes, R, P, 7>(sums, x, x_stride, w, panel_bytes);
  }
}

template <typename Codes, bool kGrouped, int R, int P>
void Tile(const TileArgs& a) {
  constexpr int V = P * kVectors;
  F sums[R][V];
  if constexpr (!kGrouped) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sums[r][v] = Ops::Load(a.y + r * a.y_stride + v * kLanes);
    }
    TileSum<Codes, R, P>(sums, a.x, a.x_stride, a.w, a.panel_bytes, a.block.length);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) Ops::Store(a.y + r * a.y_stride + v * kLanes, sums[r][v]);
    }
    return;
  }
  const float* x = a.x;
  const uint8_t* w = a.w;
  for (int64_t g = 0; g < a.block.groups; ++g) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sums[r][v] = Ops::Zero();
    }
    TileSum<Codes, R, P>(sums, x, a.x_stride, w, a.panel_bytes, a.block.length);
    x += a.block.length;
    w += a.block.length / kKStep * Codes::kStepBytes;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const float* params = a.params + (v / kVectors * a.block.groups + g) * 2 * kPanel + v % kVectors * kLanes;
      F scale = Ops::Load(params), offset = Ops::Load(params + kPanel);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* y = a.y + r * a.y_stride + v * kLanes;
        F x_sum = Ops::Set(a.x_sums[r * LinearScratch::kGroups + g]);
        Ops::Store(y, Ops::MulAdd(offset, x_sum, Ops::MulAdd(scale, sums[r][v], Ops::Load(y))));
      }
    }
  }
}

// R rows of `panels` panels.
template <typename Codes, bool kGrouped, int R>
void TilePanels(TileArgs a, int64_t panels) {
  constexpr int P = Ops::Panels(R);
  while (panels > 0) {
    int64_t taken = panels >= P ? P : 1;
    if (taken == P) {
      Tile<Codes, kGrouped, R, P>(a);
    } else {
      Tile<Codes, kGrouped, R, 1>(a);
    }
    a.w += taken * a.panel_bytes;
    a.params += taken * a.block.groups * 2 * kPanel;
    a.y += taken * kPanel;
    panels -= taken;
  }
}

template <typename Codes, bool kGrouped, int R = Ops::kTileRows>
void TileRows(const TileArgs& a, int64_t rows, int64_t panels) {
  if (rows == R) return TilePanels<Codes, kGrouped, R>(a, panels);
  if constexpr (R > 1) TileRows<Codes, kGrouped, R - 1>(a, rows, panels);
}

// Any number of rows.
template <typename Codes, bool kGrouped>
void Tiles(TileArgs a, int64_t rows, int64_t panels) {
  for (int64_t tiles = (rows + Ops::kTileRows - 1) / Ops::kTileRows; tiles > 0; --tiles) {
    int64_t taken = (rows + tiles - 1) / tiles;  // of about the same height: low tiles keep few sums in flight
    TileRows<Codes, kGrouped>(a, taken, panels);
    a.x += taken * a.x_stride;
    a.x_sums += taken * LinearScratch::kGroups;
    a.y += taken * a.y_stride;
    rows -= taken;
  }
}

// kInt4Scale, repeated so that whole vectors load from any multiple of the lanes.
struct Int4Scales {
  float scales[16] = {Ops::kInt4Scale[0], Ops::kInt4Scale[1], Ops::kInt4Scale[2], Ops::kInt4Scale[3],
                      Ops::kInt4Scale[4], Ops::kInt4Scale[5], Ops::kInt4Scale[6], Ops::kInt4Scale[7],
                      Ops::kInt4Scale[0], Ops::kInt4Scale[1], Ops::kInt4Scale[2], Ops::kInt4Scale[3],
                      Ops::kInt4Scale[4], Ops::kInt4Scale[5], Ops::kInt4Scale[6], Ops::kInt4Scale[7]};
};
inline constexpr Int4Scales kInt4Scales;

// One row of a block of x as f32, its groups' sums, zeros where K is padded.
template <typename T, bool kScaled>
inline void PrepareRow(const T* x, int64_t k_left, Block block, float* out, float* sums) {
  for (int64_t g = 0; g < block.groups; ++g) {
    F sum = Ops::Zero();
    for (int64_t k = 0; k < block.length; k += kLanes) {
      F v = LoadSome(x + k, std::min(k_left, block.length) - k);
      sum = Ops::Add(sum, v);
      if constexpr (kScaled) v = Ops::Mul(v, Ops::Load(kInt4Scales.scales + k % kKStep));
      Ops::Store(out + k, v);
    }
    *sums++ = Ops::Sum(sum);
    x += block.length;
    out += block.length;
    k_left -= block.length;
  }
}

template <bool kScaled>
void PrepareRows(const LinearJob& job, int64_t row_begin, int64_t rows, int64_t k, Block block,
                 LinearScratch& scratch) {
  for (int64_t r = 0; r < rows; ++r) {
    int64_t offset = (row_begin + r) * job.x_stride + k;
    float* out = scratch.x + r * LinearScratch::kBlock;
    float* sums = scratch.x_sums + r * LinearScratch::kGroups;
    if (job.x_dtype == DType::kF32) {
      PrepareRow<float, kScaled>(static_cast<const float*>(job.x) + offset, job.w.k - k, block, out, sums);
    } else {
      PrepareRow<uint16_t, kScaled>(static_cast<const uint16_t*>(job.x) + offset, job.w.k - k, block, out, sums);
    }
  }
}

inline F LoadParam(const uint8_t* p, DType dtype, int64_t index) {
  if (dtype == DType::kF32) return Ops::Load(reinterpret_cast<const float*>(p) + index);
  if (dtype == DType::kBF16) return Ops::Load(reinterpret_cast<const uint16_t*>(p) + index);
  return Ops::LoadF16(reinterpret_cast<const uint16_t*>(p) + index);
}

template <DType kDtype>
inline F LoadParam(const uint8_t* p) {
  if constexpr (kDtype == DType::kF32) return Ops::Load(reinterpret_cast<const float*>(p));
  if constexpr (kDtype == DType::kBF16) return Ops::Load(reinterpret_cast<const uint16_t*>(p));
  return Ops::LoadF16(reinterpret_cast<const uint16_t*>(p));
}

template <DType kDtype, bool kZeros>
void UnpackParamsOf(const uint8_t* params, int64_t groups, float shift, float* out) {
  constexpr int64_t kSize = kDtype == DType::kF32 ? 4 : 2, kStrip = kPanel * kSize, kGroup = (kZeros ? 2 : 1) * kStrip;
  for (int64_t g = 0; g < groups; ++g, params += kGroup, out += 2 * kPanel) {
    PrefetchBytes(params + groups * kGroup, kGroup);  // for the next block
    for (int v = 0; v < kPanel; v += kLanes) {
      F scale = LoadParam<kDtype>(params + v * kSize), zero = Ops::Zero();
      if constexpr (kZeros) zero = LoadParam<kDtype>(params + kStrip + v * kSize);
      Ops::Store(out + v, scale);
      Ops::Store(out + kPanel + v, Ops::MulAdd(Ops::Set(shift), scale, zero));
    }
  }
}

template <bool kZeros>
void UnpackParamsOf(DType dtype, const uint8_t* params, int64_t groups, float shift, float* out) {
  if (dtype == DType::kF32) return UnpackParamsOf<DType::kF32, kZeros>(params, groups, shift, out);
  if (dtype == DType::kBF16) return UnpackParamsOf<DType::kBF16, kZeros>(params, groups, shift, out);
  UnpackParamsOf<DType::kF16, kZeros>(params, groups, shift, out);
}

// s and c of the groups of a block of one panel; out [groups][s, c][kPanel].
inline void UnpackParams(const PanelView& w, const uint8_t* panel, int64_t k, int64_t groups, float* out) {
  bool zeros = w.zero != ZeroKind::kNone;
  float shift = w.format == PanelFormat::kInt4 && w.zero != ZeroKind::kMin ? -8.0f : 0.0f;
  const uint8_t* params = panel + w.params_offset + k / w.group * (zeros ? 2 : 1) * kPanel * SizeOf(w.param_dtype);
  if (zeros) return UnpackParamsOf<true>(w.param_dtype, params, groups, shift, out);
  UnpackParamsOf<false>(w.param_dtype, params, groups, shift, out);
}

// Codes turn into f32 in registers, once a tile of rows: beside the tile's products that costs next to nothing, and
// less than writing them to memory and reading them back for every tile.
template <typename Codes, bool kGrouped>
void MultiplyBlock(const LinearJob& job, int64_t rows, int64_t panel_begin, int64_t panels, int64_t k, Block block,
                   LinearScratch& scratch) {
  constexpr int64_t kAtATime = LinearScratch::kParamPanels;
  TileArgs a{scratch.x, LinearScratch::kBlock,  scratch.x_sums, nullptr, job.w.panel_bytes, block, scratch.params,
             nullptr,   kMaxTilePanels * kPanel};
  for (int64_t p = 0; p < panels; p += kAtATime) {
    int64_t taken = std::min(kAtATime, panels - p);
    const uint8_t* panel = job.w.data + (panel_begin + p) * job.w.panel_bytes;
    if constexpr (kGrouped) {
      for (int64_t i = 0; i < taken; ++i) {
        UnpackParams(job.w, panel + i * job.w.panel_bytes, k, block.groups,
                     scratch.params + i * block.groups * 2 * kPanel);
      }
    }
    a.w = panel + k / kKStep * Codes::kStepBytes;
    a.y = scratch.y + p * kPanel;
    Tiles<Codes, kGrouped>(a, rows, taken);
  }
}

template <typename Codes, bool kGrouped>
void MultiplyFloat(const LinearJob& job, int64_t row_begin, int64_t rows, int64_t panel_begin, int64_t panels,
                   LinearScratch& scratch) {
  for (int64_t r = 0; r < rows; ++r) {
    std::memset(scratch.y + r * kMaxTilePanels * kPanel, 0, static_cast<size_t>(panels * kPanel) * sizeof(float));
  }
  for (int64_t k = 0; k < job.w.k_padded;) {
    Block block = BlockAt(job.w, k);
    PrepareRows<Codes::kScaled>(job, row_begin, rows, k, block, scratch);
    MultiplyBlock<Codes, kGrouped>(job, rows, panel_begin, panels, k, block, scratch);
    k += block.k();
  }
}

// Four bytes of a row of x; zeros where the row ends.
inline int32_t FourBytes(const int8_t* x, int64_t left) {
  int32_t four = 0;
  std::memcpy(&four, x, left >= 4 ? 4 : static_cast<size_t>(left));
  return four;
}

// y = float(sum qx qw) * (sx sw): the integer sum is exact.
template <int R, int P>
void DotTile(const LinearJob& job, int64_t row, int64_t panel, float* y) {
  constexpr int V = P * kVectors;
  const uint8_t* w = job.w.data + panel * job.w.panel_bytes;
  const int8_t* x = static_cast<const int8_t*>(job.x) + row * job.x_stride;
  I sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sums[r][v] = Ops::ZeroInts();
  }
  int64_t k = 0;
  for (; k + 4 <= job.w.k; k += 4) {
    for (int p = 0; p < P; ++p) Ops::Prefetch(w + p * job.w.panel_bytes + k * kPanel + kPrefetchAhead);
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      auto codes = Ops::LoadDot(w + v / kVectors * job.w.panel_bytes + k * kPanel + v % kVectors * kLanes * 4);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sums[r][v] = Ops::Dot(sums[r][v], codes, FourBytes(x + r * job.x_stride + k, 4));
    }
  }
  if (k < job.w.k) {
    for (int v = 0; v < V; ++v) {
      auto codes = Ops::LoadDot(w + v / kVectors * job.w.panel_bytes + k * kPanel + v % kVectors * kLanes * 4);
      for (int r = 0; r < R; ++r)
        sums[r][v] = Ops::Dot(sums[r][v], codes, FourBytes(x + r * job.x_stride + k, job.w.k - k));
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    const uint8_t* params = w + v / kVectors * job.w.panel_bytes + job.w.params_offset;
    F scale = LoadParam(params, job.w.param_dtype, v % kVectors * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      F both = Ops::Mul(Ops::Set(job.x_scales[row + r]), scale);
      Ops::Store(y + r * kMaxTilePanels * kPanel + v * kLanes, Ops::Mul(Ops::ToFloat(sums[r][v]), both));
    }
  }
}

template <int R>
void DotPanels(const LinearJob& job, int64_t row, int64_t panel, int64_t panels, float* y) {
  constexpr int P = Ops::Panels(R);
  for (; panels >= P; panels -= P, panel += P, y += P * kPanel) DotTile<R, P>(job, row, panel, y);
  if constexpr (P > 1) {
    for (; panels > 0; --panels, ++panel, y += kPanel) DotTile<R, 1>(job, row, panel, y);
  }
}

template <int R = Ops::kDotRows>
void DotRows(const LinearJob& job, int64_t row, int64_t rows, int64_t panel, int64_t panels, float* y) {
  if (rows == R) return DotPanels<R>(job, row, panel, panels, y);
  if constexpr (R > 1) DotRows<R - 1>(job, row, rows, panel, panels, y);
}

inline void MultiplyDot(const LinearJob& job, int64_t row_begin, int64_t rows, int64_t panel_begin, int64_t panels,
                        LinearScratch& scratch) {
  if (rows <= Ops::kDotRows) return DotRows<>(job, row_begin, rows, panel_begin, panels, scratch.y);
  for (int64_t p = 0; p < panels; ++p) {  // a panel stays in L1 or L2 while all rows pass
    int64_t tiles = (rows + Ops::kDotRows - 1) / Ops::kDotRows;
    for (int64_t r = 0, taken = 0; tiles > 0; --tiles, r += taken) {
      taken = (rows - r + tiles - 1) / tiles;
      DotRows<>(job, row_begin + r, taken, panel_begin + p, 1, scratch.y + (r * kMaxTilePanels + p) * kPanel);
    }
  }
}

// out = act(y * row scale + bias) + residual.
template <typename T>
void FinishRows(const LinearJob& job, int64_t row_begin, int64_t rows, int64_t panel_begin, int64_t panels,
                bool scale_rows, const LinearScratch& scratch) {
  int64_t n_begin = panel_begin * kPanel, n_end = std::min(job.w.n, (panel_begin + panels) * kPanel);
  for (int64_t r = 0; r < rows; ++r) {
    const float* y = scratch.y + r * kMaxTilePanels * kPanel;
    const T* residual = static_cast<const T*>(job.residual) + (row_begin + r) * job.residual_stride;
    T* out = static_cast<T*>(job.out) + (row_begin + r) * job.out_stride;
    for (int64_t n = n_begin; n < n_end; n += kLanes, y += kLanes) {
      int64_t count = n_end - n;
      F v = Ops::Load(y);
      if (scale_rows) {
        const uint8_t* params = job.w.data + n / kPanel * job.w.panel_bytes + job.w.params_offset;
        v = Ops::Mul(v, LoadParam(params, job.w.param_dtype, n % kPanel));
      }
      if (job.bias != nullptr) v = Ops::Add(v, LoadSome(job.bias + n, count));
      if (job.activation == ActivationKind::kSilu) v = Silu(v);
      if (job.residual != nullptr) v = Ops::Add(v, LoadSome(residual + n, count));
      StoreSome(out + n, v, count);
    }
  }
}

inline void Linear(const LinearJob& job, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end,
                   LinearScratch& scratch) {
  int64_t rows = row_end - row_begin, panels = panel_end - panel_begin;
  bool scale_rows = job.w.format == PanelFormat::kInt8 && job.w.group == 0;
  switch (job.w.format) {
    case PanelFormat::kF32:
      MultiplyFloat<F32Codes, false>(job, row_begin, rows, panel_begin, panels, scratch);
      break;
    case PanelFormat::kF16:
      MultiplyFloat<F16Codes, false>(job, row_begin, rows, panel_begin, panels, scratch);
      break;
    case PanelFormat::kBF16:
      MultiplyFloat<Bf16Codes, false>(job, row_begin, rows, panel_begin, panels, scratch);
      break;
    case PanelFormat::kInt8:
      if (job.w.group == 0) {
        MultiplyFloat<Int8Codes, false>(job, row_begin, rows, panel_begin, panels, scratch);
      } else {
        MultiplyFloat<Int8Codes, true>(job, row_begin, rows, panel_begin, panels, scratch);
      }
      break;
    case PanelFormat::kInt4:
      MultiplyFloat<Int4Codes, true>(job, row_begin, rows, panel_begin, panels, scratch);
      break;
    case PanelFormat::kInt8Dot:
      MultiplyDot(job, row_begin, rows, panel_begin, panels, scratch);
      break;
  }
  if (job.out_dtype == DType::kF32) {
    FinishRows<float>(job, row_begin, rows, panel_begin, panels, scale_rows, scratch);
  } else {
    FinishRows<uint16_t>(job, row_begin, rows, panel_begin, panels, scale_rows, scratch);
  }
}
