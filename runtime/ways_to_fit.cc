#include "runtime/ways_to_fit.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/strings.h"

namespace quantd {
namespace {

class Search {
 public:
  Search(const Checkpoint& checkpoint, std::string_view backend_kind, const BackendOptions& options, int64_t available)
      : checkpoint_(checkpoint), backend_kind_(backend_kind), options_(options), available_(available) {}

  // Whether `changed` fits; then it is one of the ways.
  bool Try(const LoadSpec& changed, std::string_view setting, const std::string& value) {
    const absl::StatusOr<MemoryPlan> plan = PlanModel(checkpoint_, changed, backend_kind_, options_);
    if (!plan.ok() || plan->use.total() > available_) return false;
    ways_.push_back({std::string(setting), value, plan->use.total()});
    return true;
  }
  std::vector<WayToFit> Take() { return std::move(ways_); }

 private:
  const Checkpoint& checkpoint_;
  std::string_view backend_kind_;
  const BackendOptions& options_;
  int64_t available_;
  std::vector<WayToFit> ways_;
};

// The largest whole number of MiB, or of blocks where that is none, that leaves the rest its room.
void TryCacheBytes(const LoadSpec& spec, const MemoryPlan& plan, int64_t available, Search& search) {
  const int64_t cache = plan.use.bytes[static_cast<size_t>(MemoryComponent::kKvCache)];
  const int64_t block = plan.kv_bytes_per_token * kKvBlockTokens, room = available - (plan.use.total() - cache);
  constexpr int64_t kMiB = 1 << 20;
  LoadSpec changed = spec;
  changed.kv_cache_bytes = room >= std::max(block, kMiB) ? room / kMiB * kMiB : room / block * block;
  if (changed.kv_cache_bytes < block) return;
  const bool whole = changed.kv_cache_bytes % kMiB == 0;
  search.Try(changed, "kv_cache_bytes",
             whole ? absl::StrCat(changed.kv_cache_bytes / kMiB, "MiB") : absl::StrCat(changed.kv_cache_bytes));
}

// Powers of two below what there is, the largest that fits.
template <typename Field>
void TryHalves(const LoadSpec& spec, Field field, int64_t from, int64_t least, std::string_view setting,
               Search& search) {
  int64_t value = 1;
  while (value * 2 < from) value *= 2;
  for (; value >= least; value /= 2) {
    LoadSpec changed = spec;
    changed.*field = value;
    if (search.Try(changed, setting, std::to_string(value))) return;
  }
}

}  // namespace

std::vector<WayToFit> WaysToFit(const Checkpoint& checkpoint, const LoadSpec& spec, const MemoryPlan& plan,
                                std::string_view backend_kind, const BackendOptions& backend_options,
                                int64_t available_bytes) {
  constexpr int64_t kLeastContext = 256;  // less is of no use to anybody
  if (plan.use.total() <= available_bytes) return {};
  Search search(checkpoint, backend_kind, backend_options, available_bytes);
  TryCacheBytes(spec, plan, available_bytes, search);
  // With a cache of a given size these change little else.
  if (spec.kv_cache_bytes == 0) {
    TryHalves(spec, &LoadSpec::max_context, plan.max_context, kLeastContext, "max_context", search);
    TryHalves(spec, &LoadSpec::max_sequences, spec.max_sequences, 1, "max_sequences", search);
  }
  if (spec.keys != KvFormat::kInt8 || spec.values != KvFormat::kInt8) {
    LoadSpec changed = spec;
    changed.keys = changed.values = KvFormat::kInt8;
    search.Try(changed, "kv_cache_dtype", "int8");
  }
  for (const char* scheme : {"int8_weight_only", "int4_weight_only,group_size=32"}) {
    LoadSpec changed = spec;
    changed.weights = scheme;
    if (spec.weights != scheme && search.Try(changed, "quantize", scheme)) break;
  }
  return search.Take();
}

}  // namespace quantd
