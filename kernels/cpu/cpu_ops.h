// What the instruction sets implement: a table of kernels, and the plain structs that the kernels take. Everything
// above (shapes, work split, memory) is the same for all of them.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"

namespace quantd::cpu {

// A packed weight W[N, K]: panels of kPanel output lanes, K inside. One output is thus one lane, and it is summed over
// k in one fixed order however many rows of x there are. 16 lanes are one AVX-512 vector or two of AVX2: how many
// panels a tile takes at a time is up to the instruction set.
//
// A panel is its codes, then its parameters, then padding to 64 bytes. K is padded to a multiple of kKStep with zeros,
// N to whole panels. Codes by format (n = lane, little endian):
inline constexpr int kPanel = 16;
inline constexpr int kKStep = 8;
inline constexpr int kMinGroup = 32, kMaxGroup = 256;
enum class PanelFormat : uint8_t {
  kF32,      // [K][16]
  kF16,      // [K][16]
  kBF16,     // [K/2][16][2], even k first
  kInt8,     // [K][16]
  kInt4,     // [K/8][16] of u32, k + j in bits 4j..4j+3
  kInt8Dot,  // [K/4][16][4]: four k of a lane in one dword, for integer dot products
};
// Parameters: [G][16] scales where ZeroKind is kNone, else [G][2][16] scales and zeros, in param_dtype.
struct PanelView {
  const uint8_t* data = nullptr;
  PanelFormat format = PanelFormat::kF32;
  int64_t n = 0, k = 0;  // as the model has them
  int64_t k_padded = 0;
  int64_t panel_bytes = 0;    // from one panel to the next
  int64_t params_offset = 0;  // of the parameters in a panel
  int64_t group = 0;          // k that share a scale: 32 to kMaxGroup, a power of two; 0 for a whole row
  DType param_dtype = DType::kF32;
  ZeroKind zero = ZeroKind::kNone;
  bool quantized = false;  // has parameters
  int64_t panels() const { return (n + kPanel - 1) / kPanel; }
};

// out[T, N] = act(x W^T + bias) + residual. Strides are in elements.
struct LinearJob {
  PanelView w;
  const void* x = nullptr;  // f32 or bf16 [T, K]; kInt8Dot: i8
  int64_t rows = 0;         // T
  DType x_dtype = DType::kF32;
  int64_t x_stride = 0;
  const float* x_scales = nullptr;  // [T], kInt8Dot only
  const float* bias = nullptr;      // [N] or null
  const void* residual = nullptr;   // out's dtype, or null; may be out
  int64_t residual_stride = 0;
  void* out = nullptr;  // f32 or bf16
  DType out_dtype = DType::kF32;
  int64_t out_stride = 0;
  ActivationKind activation = ActivationKind::kNone;
};
// The most rows and panels of one call of CpuOps::linear: what the scratch of a thread holds.
inline constexpr int kMaxTileRows = 96;
inline constexpr int kMaxTilePanels = 8;

// The forms of one row, null where absent. The quantized form is that of the values rounded to their dtype.
struct RowForms {
  void* values = nullptr;
  int8_t* quantized = nullptr;
  float* scale = nullptr;
};

// Attention over a paged cache. Query row i of a KV head is head i % (H / H_kv) of that KV head's group and token
// i / (H / H_kv): all of them read the same keys and values.
struct AttentionJob {
  const void* q = nullptr;    // f32 or bf16 [T, H, D]
  DType dtype = DType::kF32;  // of q and out
  int64_t q_stride = 0;       // elements from one token to the next
  void* out = nullptr;        // [T, H*D]
  int64_t out_stride = 0;
  const int32_t* positions = nullptr;  // [T]
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 1;
  KvFormat key_format = KvFormat::kF32, value_format = KvFormat::kF32;
  const uint8_t* keys = nullptr;  // [blocks, H_kv, 32, D]
  const uint8_t* values = nullptr;
  const float* key_scales = nullptr;  // [blocks, H_kv, 32]
  const float* value_scales = nullptr;
};
inline constexpr int kMaxHeadDim = 256;
// Query rows that one pass over the cache serves.
inline constexpr int kAttentionRows = 48;

// Working memory of one thread, of fixed size: no op allocates.
struct alignas(64) LinearScratch {
  // k that all panels and rows of a call pass before the next: x of a tile of rows stays in L1. Holds any group.
  static constexpr int kBlock = kMaxGroup;
  static constexpr int kGroups = kBlock / kMinGroup;
  static constexpr int kParamPanels = 4;
  float x[kMaxTileRows * kBlock];
  float x_sums[kMaxTileRows * kGroups];
  float y[kMaxTileRows * kMaxTilePanels * kPanel];
  float params[kParamPanels * kGroups * 2 * kPanel];
};
struct alignas(64) AttentionScratch {
  float q[kAttentionRows * kMaxHeadDim];
  float out[kAttentionRows * kMaxHeadDim];
  float scores[kAttentionRows * kKvBlockTokens];
  float keys[kMaxHeadDim * kKvBlockTokens];    // [2][D][16]: a block transposed to two panels of tokens
  float values[kMaxHeadDim * kKvBlockTokens];  // [D/16][32][16]
  float max[kAttentionRows], sum[kAttentionRows];
};
union ThreadScratch {
  LinearScratch linear;
  AttentionScratch attention;
};

struct CpuOps {
  const char* name;
  // Rows [row_begin, row_end) of panels [panel_begin, panel_end), within the maxima above.
  void (*linear)(const LinearJob& job, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end,
                 LinearScratch& scratch);
  int single_row_panels;  // panels that a single row takes at a time

  void (*rms_norm)(const void* x, DType dtype, const float* weight, float eps, int64_t k, DType out_dtype,
                   const RowForms& out);
  void (*gated)(ActivationKind kind, const void* gate, const void* up, DType dtype, int64_t k, const RowForms& out);
  void (*quantize)(const void* x, DType dtype, int64_t k, int8_t* quantized, float* scale);
  // One head in place: pairs (i, i + half), `cos_sin` holds half cosines and half sines.
  void (*rope)(void* x, DType dtype, const float* cos_sin, int64_t half);
  void (*convert)(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count);  // f32 and bf16
  // Up to kAttentionRows query rows of one sequence; `blocks` is its row of the block table.
  void (*attention)(const AttentionJob& job, int64_t row_begin, int64_t row_end, int64_t kv_head, const int32_t* blocks,
                    AttentionScratch& scratch);
};

// What an op runs on.
struct Cpu {
  const CpuOps& ops;
  ThreadPool& pool;
  ThreadScratch* scratch;  // [pool.size()]
};

const CpuOps& PortableOps();
const CpuOps& Avx2Ops();

}  // namespace quantd::cpu
