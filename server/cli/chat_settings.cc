#include "server/cli/chat_settings.h"

#include <algorithm>
#include <optional>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"
#include "server/config.h"

namespace quantd {
namespace {

struct Number {
  std::string_view name;
  std::optional<float> SamplingFlags::*field;
  float low, high;  // as the API takes them
};
constexpr Number kNumbers[] = {{"temperature", &SamplingFlags::temperature, 0, 100},
                               {"top_p", &SamplingFlags::top_p, 0, 1},
                               {"min_p", &SamplingFlags::min_p, 0, 1},
                               {"repetition_penalty", &SamplingFlags::repetition_penalty, 0, 100},
                               {"presence_penalty", &SamplingFlags::presence_penalty, -2, 2},
                               {"frequency_penalty", &SamplingFlags::frequency_penalty, -2, 2}};
struct Count {
  std::string_view name;
  std::optional<uint32_t> SamplingFlags::*field;
};
constexpr Count kCounts[] = {{"top_k", &SamplingFlags::top_k}, {"max_tokens", &SamplingFlags::max_tokens}};

absl::Status BadValue(std::string_view name, const std::string& value, std::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(name), ": \"", Printable(value), "\" is not ", ToAbsl(expected)));
}

absl::Status SetNumber(const Number& number, const std::string& value, SamplingFlags& sampling) {
  float parsed = 0;
  if (!absl::SimpleAtof(value, &parsed) || !(parsed >= number.low && parsed <= number.high)) {
    return BadValue(number.name, value, absl::StrCat("a number from ", number.low, " to ", number.high));
  }
  sampling.*number.field = parsed;
  return absl::OkStatus();
}

absl::Status UnknownSetting(const std::string& name) {
  std::vector<std::string_view> names{"seed", "stop", "system"};
  for (const Number& n : kNumbers) names.push_back(n.name);
  for (const Count& c : kCounts) names.push_back(c.name);
  const std::string_view near = Nearest(name, names);
  return absl::InvalidArgumentError(absl::StrCat("unknown setting ", Printable(name),
                                                 near.empty() ? "; /set lists them" : "; did you mean ", ToAbsl(near),
                                                 near.empty() ? "" : "?"));
}

template <typename T>
absl::Status SetInteger(std::string_view name, const std::string& value, std::optional<T>& field) {
  T parsed = 0;
  if (value.find('-') != std::string::npos || !absl::SimpleAtoi(value, &parsed)) {
    return BadValue(name, value, "a whole number from 0");
  }
  field = parsed;
  return absl::OkStatus();
}

// What a sampling value is where nobody set it.
std::string Unset(std::string_view name, const ServedModel& model, const SamplingFlags& sampling) {
  if (name == "max_tokens") {
    return model.says_length ? "as the checkpoint says" : absl::StrCat(SamplingFlags::kMaxTokens, " (default)");
  }
  if (model.says_sampling) return "as the checkpoint says";
  if (sampling.temperature == 0.0f) return "off (greedy)";
  v1::GenerateRequest request;
  SamplingFlags().Apply(model, request);
  const v1::Sampling& s = request.sampling();
  if (name == "temperature") return absl::StrCat(s.temperature(), " (default)");
  if (name == "top_k") return absl::StrCat(s.top_k(), " (default)");
  if (name == "top_p") return absl::StrCat(s.top_p(), " (default)");
  if (name == "min_p") return absl::StrCat(s.min_p(), " (default)");
  if (name == "repetition_penalty") return absl::StrCat(s.repetition_penalty(), " (default)");
  return "off (default)";
}

}  // namespace

absl::Status Set(ChatSettings& settings, std::string_view given, const std::string& value) {
  std::string name(given);
  std::replace(name.begin(), name.end(), '-', '_');
  const bool back = value == "default";
  SamplingFlags& sampling = settings.sampling;
  for (const Number& n : kNumbers) {
    if (n.name != name) continue;
    if (!back) return SetNumber(n, value, sampling);
    (sampling.*n.field).reset();
    return absl::OkStatus();
  }
  for (const Count& c : kCounts) {
    if (c.name != name) continue;
    if (!back) return SetInteger(c.name, value, sampling.*c.field);
    (sampling.*c.field).reset();
    return absl::OkStatus();
  }
  if (name == "seed") {
    if (!back) return SetInteger("seed", value, sampling.seed);
    sampling.seed.reset();
  } else if (name == "stop") {
    sampling.stop = back ? std::vector<std::string>() : std::vector<std::string>{value};
  } else if (name == "system") {
    settings.system = back ? "" : value;
  } else {
    return UnknownSetting(name);
  }
  return absl::OkStatus();
}

std::vector<std::string> Describe(const ChatSettings& settings, const ServedModel& model) {
  const SamplingFlags& s = settings.sampling;
  std::vector<std::string> lines;
  const auto line = [&](std::string_view name, const std::string& value) {
    lines.push_back(absl::StrCat(ToAbsl(name), std::string(20 - name.size(), ' '), value));
  };
  for (const Number& n : kNumbers) {
    const std::optional<float>& value = s.*n.field;
    line(n.name, value.has_value() ? absl::StrCat(*value) : Unset(n.name, model, s));
  }
  for (const Count& c : kCounts) {
    const std::optional<uint32_t>& value = s.*c.field;
    line(c.name, value.has_value() ? absl::StrCat(*value) : Unset(c.name, model, s));
  }
  line("seed", s.seed.has_value() ? std::to_string(*s.seed) : "the server picks one (default)");
  std::string stops;
  for (const std::string& stop : s.stop)
    absl::StrAppend(&stops, stops.empty() ? "" : ", ", "\"", Printable(stop), "\"");
  line("stop", stops.empty() ? "none (default)" : stops);
  line("system", settings.system.empty() ? "none (default)" : Printable(settings.system, 400));
  return lines;
}

}  // namespace quantd
