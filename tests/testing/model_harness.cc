#include "tests/testing/model_harness.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/status_macros.h"

namespace quantd::testing {

absl::StatusOr<std::unique_ptr<ModelHarness>> ModelHarness::Open(const std::string& path, LoadSpec spec,
                                                                 int64_t max_tokens, const std::string& backend,
                                                                 BackendOptions options) {
  auto harness = std::make_unique<ModelHarness>();
  QD_ASSIGN_OR_RETURN(harness->backend_, CreateBackend(backend, options));
  QD_ASSIGN_OR_RETURN(harness->checkpoint_, OpenCheckpoint(path));
  spec.path = path;
  spec.max_context = max_tokens;
  spec.max_sequences = spec.max_batch_tokens = kMostRows;
  spec.kv_cache_bytes = int64_t{1} << 40;  // corrected below: whole blocks for max_tokens
  QD_ASSIGN_OR_RETURN(LlamaConfig config, ParseLlamaConfig(harness->checkpoint_.config_json));
  KvCacheConfig cache{config.layers, config.kv_heads, config.head_dim, 0, spec.keys, spec.values};
  spec.kv_cache_bytes = (max_tokens + kKvBlockTokens - 1) / kKvBlockTokens * cache.bytes_per_block();
  QD_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanModel(harness->checkpoint_, spec, backend, options));
  QD_ASSIGN_OR_RETURN(harness->loaded_, LoadModel(harness->checkpoint_, spec, plan, *harness->backend_, 1, {}));
  return harness;
}

std::vector<float> ModelHarness::Logits(std::span<const int32_t> ids, int64_t chunk) {
  const int64_t total = static_cast<int64_t>(ids.size());
  std::vector<float> logits(static_cast<size_t>(total * vocab()));
  std::vector<int32_t> blocks(static_cast<size_t>((total + kKvBlockTokens - 1) / kKvBlockTokens));
  std::iota(blocks.begin(), blocks.end(), 0);
  for (int64_t begin = 0; begin < total; begin += chunk) {
    const int64_t count = std::min(chunk, total - begin);
    std::vector<int32_t> positions(static_cast<size_t>(count)), rows(static_cast<size_t>(count));
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
    std::iota(rows.begin(), rows.end(), 0);
    const int32_t starts[] = {0, static_cast<int32_t>(count)};
    LlmStepInput input;
    input.token_ids = ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
    input.positions = positions;
    input.seq_starts = starts;
    input.block_tables = blocks;
    input.block_table_width = static_cast<int64_t>(blocks.size());
    input.logit_rows = rows;
    absl::Status status = loaded_.runner->StepLogits(
        input, std::span(logits).subspan(static_cast<size_t>(begin * vocab()), static_cast<size_t>(count * vocab())));
    if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    QD_CHECK(status.ok());
  }
  return logits;
}

Likelihood NegativeLogLikelihood(std::span<const float> logits, std::span<const int32_t> ids, int64_t vocab) {
  Likelihood sum;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    std::span<const float> row = logits.subspan(i * static_cast<size_t>(vocab), static_cast<size_t>(vocab));
    const double most = *std::max_element(row.begin(), row.end());
    double total = 0;
    for (float x : row) total += std::exp(x - most);
    sum.negative_log -= row[static_cast<size_t>(ids[i + 1])] - most - std::log(total);
    ++sum.tokens;
  }
  return sum;
}

}  // namespace quantd::testing
