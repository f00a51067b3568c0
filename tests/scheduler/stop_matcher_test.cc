#include "scheduler/stop_matcher.h"

#include <random>

#include <gtest/gtest.h>

namespace quantd {
namespace {

TEST(StopMatcher, WithoutStopTextsEverythingLeavesAtOnce) {
  StopMatcher m({});
  EXPECT_EQ(m.Append("abc").text, "abc");
  EXPECT_EQ(m.Flush(), "");
}

TEST(StopMatcher, HoldsBackWhatMayBeginAStopText) {
  StopMatcher m({"###"});
  EXPECT_EQ(m.Append("a#").text, "a");
  EXPECT_EQ(m.Append("#").text, "");
  const auto r = m.Append("b#");
  EXPECT_EQ(r.text, "##b");
  EXPECT_FALSE(r.matched);
  EXPECT_EQ(m.Flush(), "#");
}

TEST(StopMatcher, FindsAStopTextThatSpansDeltas) {
  StopMatcher m({"STOP"});
  EXPECT_EQ(m.Append("one S").text, "one ");
  EXPECT_EQ(m.Append("TO").text, "");
  const auto r = m.Append("P two");
  EXPECT_EQ(r.text, "");
  EXPECT_EQ(r.matched, "STOP");
}

TEST(StopMatcher, TheOneThatIsCompleteFirstWinsThenTheLongest) {
  EXPECT_EQ(StopMatcher({"abcd", "bc"}).Append("xabcd").matched, "bc");
  const auto r = StopMatcher({"cd", "bcd"}).Append("abcd");
  EXPECT_EQ(r.matched, "bcd");
  EXPECT_EQ(r.text, "a");
}

TEST(StopMatcher, TheResultDoesNotDependOnHowTheTextIsCut) {
  std::mt19937 rng(1);
  const std::vector<std::string> stops = {"aba", "bbb", "caab", "abac"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += static_cast<char>('a' + rng() % 3);
    StopMatcher whole(stops);
    const auto expected = whole.Append(text);
    const std::string expected_text = expected.text + (expected.matched ? "" : whole.Flush());
    StopMatcher cut(stops);
    std::string got;
    std::optional<std::string> matched;
    for (size_t at = 0; at < text.size() && !matched;) {
      const size_t n = 1 + rng() % 3;
      auto r = cut.Append(std::string_view(text).substr(at, n));
      got += r.text;
      matched = r.matched;
      at += n;
    }
    if (!matched) got += cut.Flush();
    ASSERT_EQ(got, expected_text) << text;
    ASSERT_EQ(matched, expected.matched) << text;
  }
}

}  // namespace
}  // namespace quantd
