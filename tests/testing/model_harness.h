// A loaded model for tests, with one sequence's blocks laid out in order: logits of token sequences, no scheduler.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/model_loader.h"
#include "tests/testing/test_paths.h"

namespace quantd::testing {

class ModelHarness {
 public:
  // Room for `max_tokens` tokens of one sequence.
  static absl::StatusOr<std::unique_ptr<ModelHarness>> Open(const std::string& path, LoadSpec spec, int64_t max_tokens,
                                                            const std::string& backend = "cpu",
                                                            BackendOptions options = {});
  // f32 [ids.size(), vocab]: the logits after each token, in steps of at most `chunk` tokens.
  std::vector<float> Logits(std::span<const int32_t> ids, int64_t chunk = kMostRows);
  int64_t vocab() const { return loaded_.model->shape().vocab_size; }
  const LoadedModel& loaded() const { return loaded_; }
  Checkpoint& checkpoint() { return checkpoint_; }
  Backend& backend() { return *backend_; }

  static constexpr int64_t kMostRows = 64;

 private:
  std::unique_ptr<Backend> backend_;
  Checkpoint checkpoint_;
  LoadedModel loaded_;
};

// exp of the mean negative log-likelihood of ids[1..] given what stands before each.
struct Likelihood {
  double negative_log = 0;
  int64_t tokens = 0;
};
Likelihood NegativeLogLikelihood(std::span<const float> logits, std::span<const int32_t> ids, int64_t vocab);

}  // namespace quantd::testing
