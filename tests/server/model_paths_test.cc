#include "server/model_paths.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {
namespace fs = std::filesystem;
using quantd::testing::TempDir;

class ModelPathsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {"/models/sub", "/models2", "/other"}) fs::create_directories(At(folder));
    for (const char* file : {"/models/a.gguf", "/models/sub/b.gguf", "/models2/c.gguf", "/other/d.gguf"}) {
      std::ofstream(At(file)) << "x";
    }
  }
  std::string At(const std::string& path) const { return files_.path() + path; }
  void Link(const std::string& target, const std::string& link) { fs::create_symlink(target, At(link)); }
  std::optional<std::string> Resolve(const std::string& path) const { return ResolveBelow(path, {At("/models")}); }
  // Where it leads, below the temporary folder; "" where it is refused.
  std::string Short(const std::string& path) const {
    const std::optional<std::string> found = Resolve(At(path));
    return found.has_value() ? found->substr(fs::canonical(files_.path()).string().size()) : "";
  }

  const TempDir files_;
};

TEST_F(ModelPathsTest, TakesWhatLiesAtOrBelowARoot) {
  EXPECT_EQ(Short("/models"), "/models");
  EXPECT_EQ(Short("/models/"), "/models");
  EXPECT_EQ(Short("/models/a.gguf"), "/models/a.gguf");
  EXPECT_EQ(Short("/models/sub/../sub//./b.gguf"), "/models/sub/b.gguf");
  EXPECT_EQ(Short("/models/none"), "/models/none") << "what is missing is for the loader to say";
  EXPECT_EQ(ResolveBelow(At("/models/a.gguf"), {At("/models/")}), Resolve(At("/models/a.gguf")));
}

TEST_F(ModelPathsTest, RefusesWhatLiesOutside) {
  for (const char* path : {"/models2/c.gguf", "/models2", "/other/d.gguf", "", "/models/../other/d.gguf",
                           "/models/sub/../../models2/c.gguf"}) {
    EXPECT_EQ(Resolve(At(path)), std::nullopt) << path;
  }
  for (const char* path : {"/", "/etc/passwd", "", ".."}) EXPECT_EQ(Resolve(path), std::nullopt) << path;
  EXPECT_EQ(Resolve(At("/models/a.gguf") + std::string("\0/x", 3)), std::nullopt);
  EXPECT_EQ(Resolve(At("/models/") + std::string(5000, 'x')), std::nullopt);
}

TEST_F(ModelPathsTest, WhetherAFolderOutsideExistsChangesNothing) {
  // Through the kernel the first would fail and the second not.
  EXPECT_EQ(Resolve("/no-such-folder/.." + At("/models/a.gguf")), Resolve("/etc/.." + At("/models/a.gguf")));
  EXPECT_EQ(Resolve("/etc/passwd/../.." + At("/models/a.gguf")), Resolve(At("/models/a.gguf")));
}

TEST_F(ModelPathsTest, FollowsLinksInsideTheRoots) {
  Link("sub/b.gguf", "/models/here.gguf");
  Link(At("/models/sub"), "/models/folder");
  Link("../a.gguf", "/models/sub/up.gguf");
  EXPECT_EQ(Short("/models/here.gguf"), "/models/sub/b.gguf");
  EXPECT_EQ(Short("/models/folder/b.gguf"), "/models/sub/b.gguf");
  EXPECT_EQ(Short("/models/folder/up.gguf"), "/models/a.gguf");
}

TEST_F(ModelPathsTest, ALinkOutIsRefusedWhetherItsTargetExistsOrNot) {
  Link(At("/other/d.gguf"), "/models/out.gguf");
  Link("../other/none", "/models/dangling");
  Link(At("/other"), "/models/folder");
  Link("loop", "/models/loop");
  for (const char* path : {"/models/out.gguf", "/models/dangling", "/models/folder/d.gguf", "/models/folder/none",
                           "/models/folder/../a.gguf/none/../../../other/d.gguf", "/models/loop"}) {
    EXPECT_EQ(Resolve(At(path)), std::nullopt) << path;
  }
}

TEST_F(ModelPathsTest, ARootThatIsALinkIsKnownByBothNames) {
  Link(At("/other"), "/root");
  const std::optional<std::string> real = ResolveBelow(At("/other/d.gguf"), {At("/root")});
  ASSERT_TRUE(real.has_value());
  EXPECT_EQ(ResolveBelow(At("/root/d.gguf"), {At("/root")}), real);
}

TEST_F(ModelPathsTest, OneRootMayLinkToAnother) {
  Link(At("/other/d.gguf"), "/models/d.gguf");
  EXPECT_TRUE(ResolveBelow(At("/models/d.gguf"), {At("/models"), At("/other")}).has_value());
}

}  // namespace
}  // namespace quantd
