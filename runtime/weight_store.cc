#include "runtime/weight_store.h"

#include <algorithm>

namespace quantd {

const TensorInfo* WeightStore::Find(std::string_view name) const {
  const std::vector<TensorInfo>& all = tensors();
  const auto it = std::lower_bound(all.begin(), all.end(), name, [](const TensorInfo& tensor, std::string_view wanted) {
    return tensor.name < wanted;
  });
  return it != all.end() && it->name == name ? &*it : nullptr;
}

}  // namespace quantd
