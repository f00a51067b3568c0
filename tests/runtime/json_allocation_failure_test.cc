// Memory that ends while a JSON text is parsed, or while what it gave is destroyed.
#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/allocation_failure.h"
#include "runtime/json.h"
#include "tests/testing/failing_allocator.h"

namespace quantd {
namespace {
using testing::FailAllocation;

constexpr char kNested[] =
    R"({"a":[1,[2,{"b":["text that is too long for a string's own room"]}],{"c":{}}],"d":{"e":[{"f":[[]]}]}})";

TEST(JsonAllocationFailure, ADocumentIsDestroyedWithoutMemory) {
  std::optional<JsonDocument> document = *ParseJson(kNested, "x.json");
  FailAllocation failure(1, FailAllocation::kAllThatFollow);
  document.reset();
  EXPECT_FALSE(failure.failed());
}

TEST(JsonAllocationFailure, ParsingThatFindsNoMemoryFails) {
  int64_t n = 1;
  for (bool failed = true; failed; ++n) {
    for (const int64_t in_a_row : {int64_t{1}, FailAllocation::kAllThatFollow}) {
      absl::Status status;
      {
        FailAllocation failure(n, in_a_row);
        status = CatchAllocationFailure([] { return ParseJson(kNested, "x.json").status(); });
        failed = failure.failed();
      }
      EXPECT_EQ(status.ok(), !failed) << n << " " << status;
    }
  }
  EXPECT_GT(n, 10);
}

}  // namespace
}  // namespace quantd
