#include "runtime/json.h"

#include <string>

#include <gtest/gtest.h>

namespace quantd {
namespace {

TEST(Json, ParsesAndLooksUpMembers) {
  const auto json = ParseJson(R"({"a": 7, "b": "text", "c": null, "d": 1.5, "e": true})", "x.json");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*GetInt(**json, "a", 1, "x.json"), 7);
  EXPECT_EQ(*GetInt(**json, "absent", 1, "x.json"), 1);
  EXPECT_EQ(*GetString(**json, "b", "", "x.json"), "text");
  EXPECT_EQ(*GetString(**json, "c", "null counts as absent", "x.json"), "null counts as absent");
  EXPECT_EQ(*GetDouble(**json, "d", 0, "x.json"), 1.5);
  EXPECT_TRUE(*GetBool(**json, "e", false, "x.json"));
  EXPECT_EQ(FindMember(Json(3), "a"), nullptr);
}

TEST(Json, AMemberOfAnotherKindIsDataLossThatNamesIt) {
  const auto document = ParseJson(R"({"a": [1], "big": 18446744073709551615})", "x.json");
  const Json& json = **document;
  const auto status = GetInt(json, "a", 0, "x.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "x.json: a is an array of 1, expected an integer");
  EXPECT_FALSE(GetInt(json, "big", 0, "x.json").ok());
  EXPECT_FALSE(GetString(json, "a", "", "x.json").ok());
  EXPECT_FALSE(GetBool(json, "a", false, "x.json").ok());
  EXPECT_FALSE(GetDouble(json, "a", 0, "x.json").ok());
}

TEST(Json, ANulIsNoEndOfText) {
  using namespace std::string_literals;
  for (const std::string& text : {"{\"a\":1}\0garbage"s, "{}\0"s, "\0{}"s, "{\"a\0\":1}"s}) {
    const auto json = ParseJson(text, "x.json");
    EXPECT_EQ(json.status().code(), absl::StatusCode::kDataLoss) << text;
  }
  EXPECT_EQ(ParseJson("{}\0"s, "x.json").status().message(), "x.json: no JSON at byte 3: a NUL");
}

TEST(Json, WhatIsNoJsonIsDataLossWithTheByte) {
  for (const std::string text : {"", "{", "[1,]", "nul", "\"\xff\"", "1e999", "{\"a\":1}x", "\"\\ud800\""}) {
    const auto json = ParseJson(text, "x.json");
    EXPECT_EQ(json.status().code(), absl::StatusCode::kDataLoss) << text;
  }
  EXPECT_NE(ParseJson("[1,]", "x.json").status().message().find("byte 4"), absl::string_view::npos);
}

TEST(Json, AKeyThatIsThereTwiceIsRefusedWithItsPlace) {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {R"({"a":1,"b":2,"a":1})", R"(x.json: key "a" is there twice)"},
      {R"({"model":{"vocab":{"x":1,"y":2,"x":1}}})", R"(x.json: key "x" is there twice in model.vocab)"},
      {R"([0,{"a":[{},{"k":null,"k":null}]}])", R"(x.json: key "k" is there twice in [1].a[1])"},
      {R"({"a":{},"b":{"a":1,"\u0061":2}})", R"(x.json: key "a" is there twice in b)"},
      {"{\"a\":{\"\\u0007\":1,\"\\u0007\":1}}", R"(x.json: key "\x07" is there twice in a)"},
      {R"({"":1,"":1})", R"(x.json: key "" is there twice)"},
  };
  for (const Case& c : cases) {
    const absl::Status status = ParseJson(c.text, "x.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << c.text;
    EXPECT_EQ(status.message(), c.message) << c.text;
  }
  EXPECT_TRUE(ParseJson(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]})", "x.json").ok());
}

TEST(Json, BuildsWhatTheTextSays) {
  for (const char* text : {"7", "-7", "1.5", "\"a\"", "null", "true", "[]", "{}", "18446744073709551615",
                           R"({"a":[1,[2,{"b":[]}],{"c":{}}],"d":{"e":[{"f":[[]]}]},"g":-1e-3})"}) {
    const absl::StatusOr<JsonDocument> json = ParseJson(text, "x.json");
    ASSERT_TRUE(json.ok()) << json.status();
    EXPECT_EQ(**json, Json::parse(text)) << text;
  }
  EXPECT_EQ(**ParseJson("\xef\xbb\xbf{\"a\":1}", "x.json"), Json({{"a", 1}})) << "a byte order mark";
}

TEST(Json, NanAndInfinityAreNoJson) {
  for (const char* number : {"NaN", "Infinity", "-Infinity"}) {
    const absl::Status status = ParseJson(absl::StrCat(R"({"rope":{"factor":)", number, "}}"), "x.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << number;
    EXPECT_NE(status.message().find(" in rope.factor"), absl::string_view::npos) << status;
  }
}

TEST(Json, AMessageIsShortWhateverItQuotes) {
  for (const std::string end : {"\xff\"", "\n\"", ""}) {
    const auto status = ParseJson("{\"a\":\"" + std::string(1 << 20, 'x') + end, "x.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_LT(status.message().size(), 300u);
    EXPECT_NE(status.message().find("x.json: no JSON at byte 10485"), absl::string_view::npos) << status;
    EXPECT_NE(status.message().find("invalid string"), absl::string_view::npos) << status;
  }
  EXPECT_LT(ParseJson(std::string(1 << 20, '9'), "x.json").status().message().size(), 300u) << "out of range";
}

TEST(Json, ValuesAreBounded) {
  std::string many = "[";
  for (int i = 0; i < (2 << 20); ++i) many += R"({"":{}},)";
  EXPECT_EQ(ParseJson(many + "0]", "x.json").status().message(), "x.json: 6291458 values, at most 4194304");
  EXPECT_TRUE(ParseJson("[1,2,{}]", "x.json", {.values = 5}).ok());
  EXPECT_FALSE(ParseJson("[1,2,{}]", "x.json", {.values = 4}).ok());
  EXPECT_TRUE(ParseJson(R"([",,,,"])", "x.json", {.values = 2}).ok()) << "commas within strings do not count";
}

TEST(Json, DepthAndSizeAreBounded) {
  const std::string deep = std::string(100000, '[');
  EXPECT_EQ(ParseJson(deep, "x.json").status().message(), "x.json: nested deeper than 64 levels");
  EXPECT_TRUE(ParseJson(std::string(64, '[') + std::string(64, ']'), "x.json").ok());
  EXPECT_TRUE(ParseJson(R"(["[[[[\"[[["])", "x.json", {.depth = 1}).ok()) << "brackets within strings do not count";
  EXPECT_EQ(ParseJson("[1, 2]", "x.json", {.bytes = 5}).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace quantd
