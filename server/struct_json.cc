#include "server/struct_json.h"

#include <charconv>
#include <cmath>
#include <map>
#include <string_view>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"

namespace quantd {
namespace {
using google::protobuf::Value;

absl::Status Invalid(const std::string& field, std::string_view why) {
  return WithReason(WithField(absl::InvalidArgumentError(absl::StrCat(field, ": ", ToAbsl(why))), field),
                    "FIELD_INVALID");
}

std::string Quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

std::string Number(double number) {
  constexpr double kWhole = 9007199254740992;  // 2^53
  if (std::trunc(number) == number && std::fabs(number) < kWhole && !(number == 0 && std::signbit(number))) {
    return std::to_string(static_cast<int64_t>(number));
  }
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), number).ptr;
  std::string text(buffer, end);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

// Writes one struct; protobuf's parser bounds its depth.
class Writer {
 public:
  absl::Status Write(const google::protobuf::Struct& fields, const std::string& at) {
    std::map<std::string_view, const Value*> sorted;
    for (const auto& [key, value] : fields.fields()) sorted.emplace(key, &value);
    out += '{';
    for (const auto& [key, value] : sorted) {
      if (out.back() != '{') out += ',';
      out += Quoted(std::string(key)) + ':';
      QD_RETURN_IF_ERROR(Write(*value, at + "." + Printable(key, 60)));
    }
    out += '}';
    return absl::OkStatus();
  }

  std::string out;

 private:
  absl::Status Write(const Value& value, const std::string& at) {
    switch (value.kind_case()) {
      case Value::kNullValue:
        out += "null";
        break;
      case Value::kBoolValue:
        out += value.bool_value() ? "true" : "false";
        break;
      case Value::kNumberValue:
        if (!std::isfinite(value.number_value())) return Invalid(at, "is no finite number");
        out += Number(value.number_value());
        break;
      case Value::kStringValue:
        out += Quoted(value.string_value());
        break;
      case Value::kStructValue:
        return Write(value.struct_value(), at);
      case Value::kListValue:
        return WriteList(value.list_value(), at);
      case Value::KIND_NOT_SET:
        return Invalid(at, "is a value of no kind; null is NULL_VALUE");
    }
    return absl::OkStatus();
  }

  absl::Status WriteList(const google::protobuf::ListValue& list, const std::string& at) {
    out += '[';
    for (int i = 0; i < list.values_size(); ++i) {
      if (i > 0) out += ',';
      QD_RETURN_IF_ERROR(Write(list.values(i), absl::StrCat(at, "[", i, "]")));
    }
    out += ']';
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::string> StructToJson(const google::protobuf::Struct& fields, const std::string& field) {
  Writer writer;
  QD_RETURN_IF_ERROR(writer.Write(fields, field));
  return std::move(writer.out);
}

}  // namespace quantd
