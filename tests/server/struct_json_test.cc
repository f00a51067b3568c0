#include "server/struct_json.h"

#include <cmath>
#include <limits>
#include <string>

#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace quantd {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

Struct FromJson(const std::string& json) {
  Struct fields;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &fields).ok()) << json;
  return fields;
}

TEST(StructJson, KeysAreSortedAtEveryDepth) {
  const std::string sorted = R"({"B":1,"a":{"x":[{"p":null,"q":true}],"y":"s"},"b":2,"é":3})";
  EXPECT_EQ(StructToJson(FromJson(R"({"é":3,"b":2,"a":{"y":"s","x":[{"q":true,"p":null}]},"B":1})"), "f").value(),
            sorted);
  // Whatever order the map had on its way: the same fields, put in the other way round.
  std::string names = "abcdefghijklmnopqrstuvwxyz";
  Struct forward, backward;
  for (char c : names) (*forward.mutable_fields())[std::string(1, c)].set_number_value(c);
  for (size_t i = names.size(); i-- > 0;) (*backward.mutable_fields())[names.substr(i, 1)].set_number_value(names[i]);
  EXPECT_EQ(StructToJson(forward, "f").value(), StructToJson(backward, "f").value());
  EXPECT_EQ(StructToJson(forward, "f").value().substr(0, 15), R"({"a":97,"b":98,)");
  EXPECT_EQ(StructToJson(Struct(), "f").value(), "{}");
}

TEST(StructJson, NumbersKeepTheirValue) {
  const auto number = [](double value) {
    Struct fields;
    (*fields.mutable_fields())["n"].set_number_value(value);
    const std::string json = StructToJson(fields, "f").value();
    return json.substr(5, json.size() - 6);
  };
  EXPECT_EQ(number(1), "1");
  EXPECT_EQ(number(-7), "-7");
  EXPECT_EQ(number(0.1), "0.1");
  EXPECT_EQ(number(-0.0), "-0.0");
  EXPECT_EQ(number(9007199254740991), "9007199254740991");
  EXPECT_EQ(number(1e300), "1e+300");
  EXPECT_EQ(number(9007199254740992), "9007199254740992.0");
}

TEST(StructJson, TextIsEscaped) {
  Struct fields;
  (*fields.mutable_fields())["\"k\n"].set_string_value("\\ \x01 \"é\"");
  EXPECT_EQ(StructToJson(fields, "f").value(), R"({"\"k\n":"\\ \u0001 \"é\""})");
}

TEST(StructJson, WhatIsNoValueIsRefusedAtItsPath) {
  for (double bad : {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
    Struct fields;
    Value* list = (*(*fields.mutable_fields())["a"].mutable_struct_value()->mutable_fields())["b"]
                      .mutable_list_value()
                      ->add_values();
    list->set_number_value(bad);
    const absl::Status status = StructToJson(fields, "chat.template_args").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(GetField(status), "chat.template_args.a.b[0]");
    EXPECT_EQ(GetReason(status), "FIELD_INVALID");
  }
  Struct fields;
  (*fields.mutable_fields())["none"];
  EXPECT_EQ(GetField(StructToJson(fields, "f").status()), "f.none");
}

}  // namespace
}  // namespace quantd
