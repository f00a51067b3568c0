#include "base/escape.h"

#include <gtest/gtest.h>

namespace quantd {
namespace {

TEST(EscapeTest, LeavesPrintableTextAlone) {
  for (const char* text : {"", "plain: 'text' \"q\" \\x1b", "grüße 日本語 🙂", "\u00a0"})
    EXPECT_EQ(Escape(text), text);
}

TEST(EscapeTest, ShowsWhatATerminalOrALogWouldObey) {
  EXPECT_EQ(Escape("a\nb\tc\rd"), "a\\nb\\tc\\x0dd");
  EXPECT_EQ(Escape("\x1b[31m"), "\\x1b[31m");
  EXPECT_EQ(Escape(std::string_view("\0\x7f", 2)), "\\x00\\x7f");
  EXPECT_EQ(Escape("\u009b1m"), "\\xc2\\x9b1m");  // the C1 form of ESC [
}

TEST(EscapeTest, ShowsTheBytesOfWhatIsNotUtf8) {
  EXPECT_EQ(Escape("a\xff"
                   "b"),
            "a\\xffb");
  EXPECT_EQ(Escape("\xe4\xb8"), "\\xe4\\xb8");           // cut off
  EXPECT_EQ(Escape("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(Escape("\xc0\xaf"), "\\xc0\\xaf");           // overlong
}

TEST(EscapeTest, CutsBetweenCharacters) {
  EXPECT_EQ(CutUtf8("日本", 6), "日本");
  EXPECT_EQ(CutUtf8("日本", 5), "日");
  EXPECT_EQ(CutUtf8("日本", 2), "");
}

}  // namespace
}  // namespace quantd
