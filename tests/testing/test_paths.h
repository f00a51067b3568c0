// Where the files that tests read lie: kept in the tree, beside the checkout, or in the cache outside both.
#pragma once

#include <string>
#include <string_view>

namespace quantd::testing {

// A file of the tree, by its path from the repository root.
std::string SourcePath(std::string_view path);
// A file of the folder of test data beside the checkout; it may be absent: GTEST_SKIP() << "data: ...".
std::string SharedPath(std::string_view path);
// SmolLM2-135M-Instruct as GGUF where tools/fetch_demo_model.sh puts it; it may be absent.
std::string DemoModelPath();
bool FileExists(const std::string& path);

}  // namespace quantd::testing
