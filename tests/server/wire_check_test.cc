#include "server/wire_check.h"

#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "quantd/v1/generation.pb.h"

namespace quantd {
namespace {
using ::testing::HasSubstr;

absl::StatusOr<WireCounts> Check(const std::string& bytes, const WireLimits& limits = {}) {
  return CheckWire(bytes, *v1::GenerateRequest::descriptor(), limits);
}
// A field of wire type 2; `size` and `number` below 128 and 16.
std::string Field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}
void ExpectInvalid(const std::string& bytes, const std::string& field, const std::string& message) {
  const absl::Status status = Check(bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
  EXPECT_EQ(GetReason(status), "FIELD_INVALID");
  EXPECT_EQ(GetField(status), field);
  EXPECT_EQ(std::string(status.message()), message);
}
void ExpectTooMuch(const std::string& bytes, const WireLimits& limits, const std::string& message) {
  const absl::Status status = Check(bytes, limits).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << message;
  EXPECT_EQ(GetReason(status), "LIMIT");
  EXPECT_EQ(std::string(status.message()), message);
}

v1::GenerateRequest FullRequest() {
  v1::GenerateRequest request;
  request.mutable_options()->set_request_id("id");
  request.set_model("m");
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("grüße 日本 🙂");
  message.add_tool_calls()->set_name("f");
  (*request.mutable_chat()->mutable_template_args()->mutable_fields())["k"]
      .mutable_list_value()
      ->add_values()
      ->set_number_value(1);
  request.mutable_sampling()->set_temperature(0.5);
  request.mutable_sampling()->set_seed(~0ull);
  (*request.mutable_sampling()->mutable_logit_bias())[7] = -1.5;
  request.mutable_stopping()->add_stop("x");
  request.mutable_stopping()->add_stop_token_ids(300);
  request.set_parse_special(true);
  return request;
}

TEST(WireCheckTest, TakesWhatProtobufWrites) {
  const absl::StatusOr<WireCounts> counts = Check(FullRequest().SerializeAsString());
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->values, 1);
  v1::GenerateRequest tokens;
  for (uint32_t i = 0; i < 1000; ++i) tokens.mutable_tokens()->add_ids(i * 1000);
  EXPECT_EQ(Check(tokens.SerializeAsString())->values, 1000);
  EXPECT_TRUE(Check("").ok());
}

TEST(WireCheckTest, ItsCountIsNotLessThanWhatParsingTakes) {
  v1::GenerateRequest many = FullRequest();
  for (int i = 0; i < 1000; ++i) many.mutable_chat()->add_messages()->add_tool_calls();
  for (int i = 0; i < 1000; ++i) {
    (*many.mutable_chat()->mutable_template_args()->mutable_fields())[std::to_string(i)].mutable_struct_value();
    (*many.mutable_sampling()->mutable_logit_bias())[static_cast<uint32_t>(i)] = 1;
    many.mutable_stopping()->add_stop("");
    many.mutable_stopping()->add_stop_token_ids(1);
  }
  std::string bytes = many.SerializeAsString();
  for (int i = 0; i < 1000; ++i) bytes += Field(15, "");  // no field of a request
  v1::GenerateRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(bytes));
  EXPECT_LE(static_cast<int64_t>(parsed.SpaceUsedLong()),
            Check(bytes)->overhead_bytes() + static_cast<int64_t>(bytes.size()));
}

TEST(WireCheckTest, TakesFieldsOfALaterProto) {
  EXPECT_TRUE(Check(std::string("\xf8\x07\x01", 3)).ok());            // number 127, a varint
  EXPECT_TRUE(Check(Field(15, std::string("\xff\xfe", 2))).ok());     // bytes: nobody says that they are text
  EXPECT_TRUE(Check(Field(6, std::string("\xf8\x07\x01", 3))).ok());  // in sampling
}

TEST(WireCheckTest, NamesAStringThatIsNotUtf8) {
  ExpectInvalid(Field(2, "\xff"), "model", "model is not UTF-8 at byte 0");
  ExpectInvalid(Field(5, Field(1, Field(1, "user")) + Field(1, Field(2, "ab\xc3"))), "chat.messages[1].content",
                "chat.messages[1].content is not UTF-8 at byte 2");
  ExpectInvalid(Field(5, Field(4, Field(1, Field(1, "\xff")))), "chat.template_args.fields[0].key",
                "chat.template_args.fields[0].key is not UTF-8 at byte 0");
}

TEST(WireCheckTest, NamesWhatIsOfAnotherWireType) {
  ExpectInvalid("\x10\x01", "model", "model has wire type 0, expected 2 (string)");
  ExpectInvalid(Field(5, "\x08\x01"), "chat.messages[0]", "chat.messages[0] has wire type 0, expected 2 (message)");
  ExpectInvalid(Field(6, Field(1, "abcd")), "sampling.temperature",
                "sampling.temperature has wire type 2, expected 5 (float)");
}

TEST(WireCheckTest, RefusesWhatIsCutOffOrNoMessage) {
  const std::string broken_tag = "the request is not a message of its type: it has a broken field tag";
  ExpectInvalid("\xff", "", broken_tag);
  ExpectInvalid(std::string("\x00", 1), "", broken_tag);
  ExpectInvalid("\x02", "", "the request is not a message of its type: it has a field of number 0");
  ExpectInvalid(
      "\x12\x05"
      "ab",
      "model", "model is cut off");
  ExpectInvalid("\x12\xff\xff\xff\xff\x0f", "model", "model is cut off");  // 4 GiB
  ExpectInvalid(Field(6, std::string("\x0d\x01", 2)), "sampling.temperature", "sampling.temperature is cut off");
  ExpectInvalid("\x58\x80", "parse_special", "parse_special is cut off");
  ExpectInvalid("\x7b", "", "the request is not a message of its type: it has wire type 3");  // a group
  ExpectInvalid("\x7a\x05", "", "the request is cut off in its field of number 15");
  ExpectInvalid(Field(4, Field(1, "\x80")), "tokens.ids", "tokens.ids is cut off");
  // A message inside says that it is longer than the one around it.
  ExpectInvalid(Field(5, "\x0a\x7f"), "chat.messages[0]", "chat.messages[0] is cut off");
}

TEST(WireCheckTest, RefusesVarintsThatAreLongerThanProtobufTakes) {
  const std::string zero(1, '\0'), one = "\x81\x80\x80\x80\x80";
  ExpectInvalid("\x92\x80\x80\x80\x80" + zero + "\x01m", "",
                "the request is not a message of its type: it has a broken field tag");
  ExpectInvalid("\x12" + one + zero + "m", "model", "model is cut off");
  ExpectInvalid("\x7a" + one + zero + "m", "", "the request is cut off in its field of number 15");
  EXPECT_TRUE(Check("\x12" + one.substr(0, 4) + zero + "m").ok());
  const std::string number(9, '\x80');
  EXPECT_TRUE(Check(Field(4, Field(1, number + zero))).ok());
  ExpectInvalid(Field(4, Field(1, number + "\x80" + zero)), "tokens.ids", "tokens.ids has a number that does not end");
}

TEST(WireCheckTest, EveryPrefixOfAMessageIsTakenOrRefusedAsProtobufDoes) {
  const std::string bytes = FullRequest().SerializeAsString();
  for (size_t size = 0; size <= bytes.size(); ++size) {
    v1::GenerateRequest parsed;
    EXPECT_EQ(Check(bytes.substr(0, size)).ok(), parsed.ParseFromString(bytes.substr(0, size))) << size;
  }
}

TEST(WireCheckTest, BoundsWhatGrowsWhenItIsParsed) {
  std::string empty_messages, empty_stops, unknown;
  for (int i = 0; i < 20; ++i) {
    empty_messages += Field(1, "");
    empty_stops += Field(3, "");
    unknown += Field(15, "");
  }
  WireLimits limits;
  limits.max_parts = 21;
  EXPECT_TRUE(Check(Field(5, empty_messages), limits).ok());
  limits.max_parts = 20;
  ExpectTooMuch(Field(5, empty_messages), limits,
                "chat.messages[19] is too much: a request may have at most 20 messages and strings");
  ExpectTooMuch(Field(7, empty_stops), limits,
                "stopping.stop[19] is too much: a request may have at most 20 messages and strings");
  limits.max_parts = 19;
  ExpectTooMuch(unknown, limits, "the request is too much: a request may have at most 19 messages and strings");
}

TEST(WireCheckTest, BoundsNumbersPackedOrNot) {
  WireLimits limits;
  limits.max_values = 3;
  EXPECT_TRUE(Check(Field(4, Field(1, "\x01\xff\x01\x02")), limits).ok());
  ExpectTooMuch(Field(4, Field(1, "\x01\x02\x03\x04")), limits,
                "tokens.ids is too much: a request may have at most 3 numbers");
  ExpectTooMuch(Field(4, "\x08\x01\x08\x01\x08\x01\x08\x01"), limits,
                "tokens.ids[3] is too much: a request may have at most 3 numbers");
}

TEST(WireCheckTest, BoundsFieldsThatOnlyTakeTime) {
  std::string flags;
  for (int i = 0; i < 11; ++i) flags += "\x58\x01";  // parse_special, again and again
  WireLimits limits;
  limits.max_fields = 10;
  ExpectTooMuch(flags, limits, "the request is too much: a request may have at most 10 fields");
}

TEST(WireCheckTest, BoundsDepthBeforeProtobufDoes) {
  google::protobuf::Value value;
  google::protobuf::Value* inner = &value;
  for (int i = 0; i < 40; ++i) inner = inner->mutable_list_value()->add_values();
  v1::GenerateRequest request;
  (*request.mutable_chat()->mutable_template_args()->mutable_fields())["k"] = value;
  EXPECT_TRUE(Check(request.SerializeAsString()).ok());
  for (int i = 0; i < 20; ++i) inner = inner->mutable_list_value()->add_values();
  (*request.mutable_chat()->mutable_template_args()->mutable_fields())["k"] = value;
  const absl::Status status = Check(request.SerializeAsString()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is nested more than 100 messages deep"));
  EXPECT_THAT(GetField(status), ::testing::StartsWith("chat.template_args.fields[0].value.list_value.values[0]"));
}

}  // namespace
}  // namespace quantd
