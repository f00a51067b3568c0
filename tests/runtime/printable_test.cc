#include "runtime/printable.h"

#include <gtest/gtest.h>

namespace quantd {
namespace {

TEST(Printable, EscapesControlsAndWhatIsNoUtf8) {
  EXPECT_EQ(Printable("a\nb\x7f"), "a\\x0ab\\x7f");
  EXPECT_EQ(Printable("\xff\xc3 caf\xc3\xa9 \xe4\xb8"), "\\xff\\xc3 caf\xc3\xa9 \\xe4\\xb8");
  EXPECT_EQ(Printable("\xc2\x9b[2J\xc2\xa0"), "\\xc2\\x9b[2J\xc2\xa0");  // CSI of some terminals
  EXPECT_EQ(Printable(""), "");
}

TEST(Printable, CutsBetweenCharacters) {
  EXPECT_EQ(Printable("abcd", 4), "abcd");
  EXPECT_EQ(Printable("abcde", 4), "abcd...");
  EXPECT_EQ(Printable("abc\xc3\xa9", 4), "abc...");
  EXPECT_EQ(Printable(std::string(100, 'x')).size(), 83u);
}

}  // namespace
}  // namespace quantd
