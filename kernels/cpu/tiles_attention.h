// Attention of some query rows over the cache of one sequence and KV head, blocks of 32 in order, by online softmax
// (Milakov and Gimelshein 2018; FlashAttention). See tiles.h for how this is included.
//
// A row's own arithmetic never depends on the rows beside it: what lies beyond its position has weight exactly 0, and
// adding 0 * v changes nothing while v is finite; values that are not are kept from the rows before them
// (WeighValuesRowByRow). Keys of a block are transposed to panels of tokens and values taken as panels of
// channels, so scores and outputs are the same tiles as Linear's.

inline int64_t PadHeadDim(int64_t d) {
  constexpr int64_t kPad = kLanes > kKStep ? kLanes : kKStep;
  return (d + kPad - 1) / kPad * kPad;
}

// [32][d] -> two panels [d_padded][16] of f32; tokens from `count` on are zeros.
template <typename T>
void TransposeKeys(const T* keys, int64_t count, int64_t d, float* out) {
  int64_t d_padded = PadHeadDim(d);
  for (int64_t t = 0; t < kKvBlockTokens; t += kLanes) {
    float* panel = out + t / kPanel * d_padded * kPanel + t % kPanel;
    for (int64_t i = 0; i < d_padded; i += kLanes) {
      F rows[kLanes];
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j) rows[j] = t + j < count ? LoadSome(keys + (t + j) * d + i, d - i) : Ops::Zero();
      Ops::Transpose(rows, panel + i * kPanel, kPanel);
    }
  }
}

// [32][d] -> panels [d / 16][32][16] of f32, the last one padded; tokens from `count` on are zeros.
template <typename T>
void PanelValues(const T* values, int64_t count, int64_t d, float* out) {
  for (int64_t i = 0; i < d; i += kLanes) {
    float* panel = out + i / kPanel * kKvBlockTokens * kPanel + i % kPanel;
    for (int64_t t = 0; t < count; ++t) Ops::Store(panel + t * kPanel, LoadSome(values + t * d + i, d - i));
    for (int64_t t = count; t < kKvBlockTokens; ++t) Ops::Store(panel + t * kPanel, Ops::Zero());
  }
}

// A head's part of a block lies far from that of the next block.
[[gnu::always_inline]] inline void PrefetchBlock(const AttentionJob& job, int64_t block_head) {
  int64_t elements = kKvBlockTokens * job.head_dim;
  int64_t key_bytes = elements * KvElementBytes(job.key_format),
          value_bytes = elements * KvElementBytes(job.value_format);
  PrefetchBytes(job.keys + block_head * key_bytes, key_bytes);
  PrefetchBytes(job.values + block_head * value_bytes, value_bytes);
}

inline void LoadBlock(const AttentionJob& job, int64_t block_head, int64_t count, AttentionScratch& scratch) {
  int64_t d = job.head_dim, offset = block_head * kKvBlockTokens * d;
  const uint8_t* keys = job.keys + offset * KvElementBytes(job.key_format);
  const uint8_t* values = job.values + offset * KvElementBytes(job.value_format);
  switch (job.key_format) {
    case KvFormat::kF32:
      TransposeKeys(reinterpret_cast<const float*>(keys), count, d, scratch.keys);
      break;
    case KvFormat::kBF16:
      TransposeKeys(reinterpret_cast<const uint16_t*>(keys), count, d, scratch.keys);
      break;
    case KvFormat::kInt8:
      TransposeKeys(reinterpret_cast<const int8_t*>(keys), count, d, scratch.keys);
      break;
  }
  switch (job.value_format) {
    case KvFormat::kF32:
      PanelValues(reinterpret_cast<const float*>(values), count, d, scratch.values);
      break;
    case KvFormat::kBF16:
      PanelValues(reinterpret_cast<const uint16_t*>(values), count, d, scratch.values);
      break;
    case KvFormat::kInt8:
      PanelValues(reinterpret_cast<const int8_t*>(values), count, d, scratch.values);
      break;
  }
}

// Scores of one row and block become weights, in place; returns what the sums so far shrink by. `count` tokens are the
// row's.
inline float SoftmaxBlock(float* scores, int64_t count, const float* key_scales, const float* value_scales, float& max,
                          float& sum) {
  if (key_scales != nullptr) {
    for (int64_t t = 0; t < kKvBlockTokens; t += kLanes) {
      Ops::Store(scores + t, Ops::Mul(Ops::Load(scores + t), Ops::Load(key_scales + t)));
    }
  }
  for (int64_t t = count; t < kKvBlockTokens; ++t) scores[t] = -std::numeric_limits<float>::infinity();
  F block_max = Ops::Load(scores);
  for (int64_t t = kLanes; t < kKvBlockTokens; t += kLanes) block_max = Ops::Max(block_max, Ops::Load(scores + t));
  float new_max = std::max(max, Ops::MaxOf(block_max)), shrink = 1;
  if (new_max != max) {
    float lanes[kLanes];
    Ops::Store(lanes, Exp(Ops::Set(max - new_max)));
    shrink = lanes[0];
  }
  F block_sum = Ops::Zero();
  for (int64_t t = 0; t < kKvBlockTokens; t += kLanes) {
    int own = static_cast<int>(std::clamp<int64_t>(count - t, 0, kLanes));
    F weight = Ops::Keep(Exp(Ops::Sub(Ops::Load(scores + t), Ops::Set(new_max))), own);
    block_sum = Ops::Add(block_sum, weight);
    if (value_scales != nullptr) weight = Ops::Keep(Ops::Mul(weight, Ops::Load(value_scales + t)), own);
    Ops::Store(scores + t, weight);
  }
  sum = sum * shrink + Ops::Sum(block_sum);
  max = new_max;
  return shrink;
}

// Whether the values of the first `count` tokens, panels as PanelValues lays them out, are finite: the sum of 0 * v is
// 0 then, and NaN else.
inline bool ValuesAreFinite(const float* values, int64_t count, int64_t d) {
  F sum = Ops::Zero();
  for (int64_t i = 0; i < d; i += kLanes) {
    const float* panel = values + i / kPanel * kKvBlockTokens * kPanel + i % kPanel;
    for (int64_t t = 0; t < count; ++t) sum = Ops::Add(sum, Ops::Mul(Ops::Load(panel + t * kPanel), Ops::Zero()));
  }
  return Ops::Sum(sum) == 0;
}

// out += weights * values, a row at a time and the last row first: what lies beyond a row's own tokens is cleared
// before its turn, for 0 * inf is not 0. `own` counts a row's tokens in the block and does not fall from row to row.
inline void WeighValuesRowByRow(TileArgs a, int64_t rows, int64_t panels, const int64_t* own, float* values) {
  int64_t kept = kKvBlockTokens;
  const float* weights = a.x;
  float* out = a.y;
  for (int64_t r = rows - 1; r >= 0; --r) {
    for (int64_t p = 0; p < panels; ++p) {
      float* panel = values + p * kKvBlockTokens * kPanel;
      std::fill_n(panel + own[r] * kPanel, (kept - own[r]) * kPanel, 0.0f);
    }
    kept = own[r];
    a.x = weights + r * a.x_stride;
    a.y = out + r * a.y_stride;
    Tiles<F32Codes, false>(a, 1, panels);
  }
}

template <typename T>
void LoadQueries(const AttentionJob& job, int64_t row_begin, int64_t rows, int64_t kv_head, AttentionScratch& scratch) {
  int64_t group = job.heads / job.kv_heads, d = job.head_dim, d_padded = PadHeadDim(d);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t token = (row_begin + r) / group, head = kv_head * group + (row_begin + r) % group;
    const T* q = static_cast<const T*>(job.q) + token * job.q_stride + head * d;
    for (int64_t i = 0; i < d_padded; i += kLanes) {
      Ops::Store(scratch.q + r * d_padded + i, Ops::Mul(LoadSome(q + i, d - i), Ops::Set(job.scale)));
    }
  }
}

template <typename T>
void StoreOutputs(const AttentionJob& job, int64_t row_begin, int64_t rows, int64_t kv_head, int64_t out_stride,
                  const AttentionScratch& scratch) {
  int64_t group = job.heads / job.kv_heads, d = job.head_dim;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t token = (row_begin + r) / group, head = kv_head * group + (row_begin + r) % group;
    T* out = static_cast<T*>(job.out) + token * job.out_stride + head * d;
    for (int64_t i = 0; i < d; i += kLanes) {
      StoreSome(out + i, Ops::Div(Ops::Load(scratch.out + r * out_stride + i), Ops::Set(scratch.sum[r])), d - i);
    }
  }
}

inline void Attention(const AttentionJob& job, int64_t row_begin, int64_t row_end, int64_t kv_head,
                      const int32_t* blocks, AttentionScratch& scratch) {
  int64_t group = job.heads / job.kv_heads, rows = row_end - row_begin, d_padded = PadHeadDim(job.head_dim);
  int64_t value_panels = (job.head_dim + kPanel - 1) / kPanel, out_stride = value_panels * kPanel;
  if (job.dtype == DType::kF32) {
    LoadQueries<float>(job, row_begin, rows, kv_head, scratch);
  } else {
    LoadQueries<uint16_t>(job, row_begin, rows, kv_head, scratch);
  }
  std::fill_n(scratch.max, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(scratch.sum, rows, 0.0f);
  std::fill_n(scratch.out, rows * out_stride, 0.0f);
  int64_t last = 0;
  for (int64_t row = row_begin; row < row_end; ++row) last = std::max<int64_t>(last, job.positions[row / group]);

  for (int64_t block = 0; block <= last / kKvBlockTokens; ++block) {
    int64_t begin = block * kKvBlockTokens, count = std::min<int64_t>(last + 1 - begin, kKvBlockTokens);
    int64_t first = 0;  // rows before it have no token here
    while (job.positions[(row_begin + first) / group] < begin) ++first;
    int64_t block_head = blocks[block] * job.kv_heads + kv_head;
    LoadBlock(job, block_head, count, scratch);
    if (block < last / kKvBlockTokens) PrefetchBlock(job, blocks[block + 1] * job.kv_heads + kv_head);

    std::fill_n(scratch.scores + first * kKvBlockTokens, (rows - first) * kKvBlockTokens, 0.0f);
    TileArgs a{scratch.q + first * d_padded,
               d_padded,
               nullptr,
               reinterpret_cast<const uint8_t*>(scratch.keys),
               d_padded * kPanel * 4,
               {1, d_padded},
               nullptr,
               scratch.scores + first * kKvBlockTokens,
               kKvBlockTokens};
    Tiles<F32Codes, false>(a, rows - first, kKvBlockTokens / kPanel);

    const float* key_scales =
        job.key_format == KvFormat::kInt8 ? job.key_scales + block_head * kKvBlockTokens : nullptr;
    const float* value_scales =
        job.value_format == KvFormat::kInt8 ? job.value_scales + block_head * kKvBlockTokens : nullptr;
    int64_t own[kAttentionRows];  // tokens of the block that a row reads
    for (int64_t r = first; r < rows; ++r) {
      own[r] = std::clamp<int64_t>(job.positions[(row_begin + r) / group] + 1 - begin, 0, kKvBlockTokens);
      float shrink = SoftmaxBlock(scratch.scores + r * kKvBlockTokens, own[r], key_scales, value_scales, scratch.max[r],
                                  scratch.sum[r]);
      if (shrink == 1) continue;
      float* out = scratch.out + r * out_stride;
      for (int64_t i = 0; i < out_stride; i += kLanes)
        Ops::Store(out + i, Ops::Mul(Ops::Load(out + i), Ops::Set(shrink)));
    }

    TileArgs b{scratch.scores + first * kKvBlockTokens,
               kKvBlockTokens,
               nullptr,
               reinterpret_cast<const uint8_t*>(scratch.values),
               kKvBlockTokens * kPanel * 4,
               {1, (count + kKStep - 1) / kKStep * kKStep},
               nullptr,
               scratch.out + first * out_stride,
               out_stride};
    if (own[first] < count && !ValuesAreFinite(scratch.values, count, job.head_dim)) {
      WeighValuesRowByRow(b, rows - first, value_panels, own + first, scratch.values);
    } else {
      Tiles<F32Codes, false>(b, rows - first, value_panels);
    }
  }
  if (job.dtype == DType::kF32) {
    StoreOutputs<float>(job, row_begin, rows, kv_head, out_stride, scratch);
  } else {
    StoreOutputs<uint16_t>(job, row_begin, rows, kv_head, out_stride, scratch);
  }
}
