#include "runtime/kv_cache.h"

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
int64_t KvCacheConfig::bytes_per_token() const {
  int64_t key = head_dim * KvElementBytes(keys) + KvScaleBytes(keys);
  int64_t value = head_dim * KvElementBytes(values) + KvScaleBytes(values);
  return layers * kv_heads * (key + value);
}

absl::StatusOr<KvFormat> ParseKvFormat(std::string_view name) {
  if (name == "f32") return KvFormat::kF32;
  if (name == "bf16") return KvFormat::kBF16;
  if (name == "int8") return KvFormat::kInt8;
  return absl::InvalidArgumentError(absl::StrCat("KV cache format '", ToAbsl(name), "': expected f32, bf16 or int8"));
}

std::string_view Name(KvFormat format) {
  switch (format) {
    case KvFormat::kF32:
      return "f32";
    case KvFormat::kBF16:
      return "bf16";
    case KvFormat::kInt8:
      return "int8";
  }
  return "?";
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(Backend& backend, const KvCacheConfig& config, MemoryTag tag) {
  auto cache = std::make_unique<KvCache>();
  cache->config_ = config;
  auto allocate = [&](DType dtype, Shape shape) -> absl::StatusOr<Tensor> {
    QD_ASSIGN_OR_RETURN(Buffer buffer, backend.Allocate(shape.elements() * SizeOf(dtype), tag));
    Tensor tensor(buffer.data(), dtype, shape);
    cache->buffers_.push_back(std::move(buffer));
    return tensor;
  };
  Shape values_shape = {config.blocks, config.kv_heads, kKvBlockTokens, config.head_dim};
  Shape scales_shape = {config.blocks, config.kv_heads, kKvBlockTokens};
  for (int64_t i = 0; i < config.layers; ++i) {
    PagedKv layer;
    layer.key_format = config.keys, layer.value_format = config.values;
    QD_ASSIGN_OR_RETURN(layer.keys, allocate(KvDType(config.keys), values_shape));
    QD_ASSIGN_OR_RETURN(layer.values, allocate(KvDType(config.values), values_shape));
    if (config.keys == KvFormat::kInt8) {
      QD_ASSIGN_OR_RETURN(layer.key_scales, allocate(DType::kF32, scales_shape));
    }
    if (config.values == KvFormat::kInt8) {
      QD_ASSIGN_OR_RETURN(layer.value_scales, allocate(DType::kF32, scales_shape));
    }
    cache->layers_.push_back(layer);
  }
  return cache;
}

}  // namespace quantd
