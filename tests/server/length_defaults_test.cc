#include "server/length_defaults.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/server/fakes.h"

namespace quantd {
namespace {

struct Lengths {
  int64_t max = 0, min = 0;
  bool operator==(const Lengths&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Lengths& l) { return out << "max " << l.max << ", min " << l.min; }

LlmLimits Limits() {
  LlmLimits limits;
  limits.max_context = 100;
  limits.kv_blocks = 10, limits.kv_block_tokens = 16;
  return limits;
}

// Of a request with a prompt of 10 tokens in a context of 100.
absl::StatusOr<Lengths> Apply(const GenerationDefaults& defaults, std::optional<int64_t> max = {},
                              std::optional<int64_t> min = {}) {
  ParsedGenerate parsed;
  parsed.request.prompt.assign(10, 1);
  parsed.request.stopping.max_new_tokens = max.value_or(0);
  parsed.request.stopping.min_new_tokens = min.value_or(0);
  parsed.min_new_tokens_given = min.has_value();
  absl::Status status = ApplyLengthDefaults(defaults, Limits(), parsed);
  if (!status.ok()) return status;
  return Lengths{parsed.request.stopping.max_new_tokens, parsed.request.stopping.min_new_tokens};
}

TEST(LengthDefaults, AFileThatSaysNothingLeavesTheContext) {
  EXPECT_EQ(*Apply({}), (Lengths{0, 0}));
  EXPECT_EQ(*Apply({}, 7, 3), (Lengths{7, 3}));
}

TEST(LengthDefaults, TheFilesNumbersAreForRequestsThatSayNone) {
  GenerationDefaults file;
  file.max_new_tokens = 30, file.min_new_tokens = 5;
  EXPECT_EQ(*Apply(file), (Lengths{30, 5}));
  EXPECT_EQ(*Apply(file, 60), (Lengths{60, 5}));
  EXPECT_EQ(*Apply(file, {}, 2), (Lengths{30, 2}));
  EXPECT_EQ(*Apply(file, {}, 0), (Lengths{30, 0}));
  EXPECT_EQ(*Apply(file, {}, 40), (Lengths{40, 40})) << "the request's own counts more";
}

TEST(LengthDefaults, LengthsCountThePromptAndGiveWayToNewTokens) {
  GenerationDefaults file;
  file.max_length = 50, file.min_length = 15;
  EXPECT_EQ(*Apply(file), (Lengths{40, 5}));
  EXPECT_EQ(*Apply(file, 60), (Lengths{60, 5}));
  file.max_new_tokens = 3, file.min_new_tokens = 2;
  EXPECT_EQ(*Apply(file), (Lengths{3, 2}));
  file = {};
  file.min_length = 4;
  EXPECT_EQ(*Apply(file), (Lengths{0, 0})) << "the prompt is longer";
}

TEST(LengthDefaults, ADefaultThatTheContextCutsShortFillsTheContext) {
  GenerationDefaults file;
  file.max_new_tokens = 91;
  EXPECT_EQ(*Apply(file), (Lengths{0, 0}));
  file.max_new_tokens = 90;
  EXPECT_EQ(*Apply(file), (Lengths{90, 0}));
  file = {};
  file.max_length = 4096;
  EXPECT_EQ(*Apply(file), (Lengths{0, 0}));
}

TEST(LengthDefaults, APromptThatReachesTheFilesMaxLengthIsRefusedByName) {
  GenerationDefaults file;
  file.max_length = 10;
  const absl::Status status = Apply(file).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status), "CONTEXT_TOO_LONG");
  EXPECT_EQ(GetField(status), "stopping.max_new_tokens");
  EXPECT_EQ(*Apply(file, 1), (Lengths{1, 0})) << "the request says how many it wants";
}

}  // namespace
}  // namespace quantd
