// How long a chat template can keep a thread of the codec pool: templates that do one thing over and over until the
// limit of steps ends them, as a Markdown table, the slowest first.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "runtime/chat_template/chat_template.h"

namespace quantd {
namespace {

// The message's text: ASCII, two, three and four bytes a character, white space.
std::string Mixed(size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "aB c1_ <x>\xC3\xA9\xC3\x9F \xE6\xBC\xA2\xF0\x9F\x98\x80\n\"";
  return text;
}

double Milliseconds(const std::string& source, const ChatTemplateInput& input) {
  const auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return -1;
  const std::clock_t begin = std::clock();
  const bool ended_by_limit = absl::IsResourceExhausted((*parsed)->Render(input).status());
  const double taken = 1e3 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  return ended_by_limit ? taken : -taken;
}

void Print() {
  const char* expressions[] = {"a | lower",
                               "a | upper",
                               "a | title",
                               "a.title()",
                               "a | capitalize",
                               "a | trim",
                               "a.strip(a)",
                               "a | replace('a', 'b')",
                               "a | replace('', '-')",
                               "a | escape",
                               "a | urlencode",
                               "a | tojson",
                               "a | string",
                               "[a] | string",
                               "a ~ a",
                               "a + 'x'",
                               "a[::-1]",
                               "a[5]",
                               "a[1:]",
                               "a | list",
                               "a | reverse",
                               "a.split()",
                               "a.split('x')",
                               "a.rsplit('x')",
                               "a.splitlines()",
                               "a.partition('zz')",
                               "a.rfind('zz')",
                               "'zz' in a",
                               "a.count('a')",
                               "a.find('z', 1)",
                               "a | length",
                               "a | wordcount",
                               "a | truncate(9)",
                               "a | indent",
                               "a | center(9)",
                               "a.isalpha()",
                               "a is upper",
                               "a == b",
                               "a < b",
                               "{a: 1}",
                               "'%9s' % a",
                               "'{}{}'.format(a, a)",
                               "a | int",
                               "twined ~ ''",
                               "twined | tojson",
                               "twined | upper",
                               "l | sort",
                               "l | join",
                               "l | map('upper') | list",
                               "l | unique | list",
                               "l + l",
                               "l[1:]",
                               "l | tojson",
                               "l | groupby('0')",
                               "o | dictsort",
                               "o | tojson",
                               "o | items | list",
                               "dict(o)",
                               "1",
                               "i + 1",
                               "i ** 3",
                               "i | string",
                               "loop.index",
                               "namespace(x=i)",
                               "range(9) | list"};
  std::vector<std::pair<double, std::string>> rows;
  for (const size_t bytes : {size_t{200}, size_t{20'000}, size_t{1'000'000}}) {
    ChatTemplateInput input;
    input.messages.push_back({"user", Mixed(bytes), {}, "", ""});
    input.messages.push_back({"user", Mixed(bytes) + "!", {}, "", ""});
    for (const char* expression : expressions) {
      const std::string source =
          "{% set a = messages[0].content %}{% set b = messages[1].content %}{% set l = a.split() %}"
          "{% set twined = a[:100000] | replace('', '-') %}{% set o = dict(l | map('list') | map('join') | batch(2, "
          "'x')) %}"
          "{% for j in range(100000) %}{% for i in range(100) %}{% set x = " +
          std::string(expression) + " %}{% endfor %}{% endfor %}";
      rows.emplace_back(Milliseconds(source, input),
                        std::string(expression) + " of " + std::to_string(bytes) + " bytes");
    }
  }
  std::sort(rows.rbegin(), rows.rend());
  std::printf("| Until the limit | ms |\n|---|---|\n");
  for (size_t i = 0; i < rows.size() && rows[i].first > 0; ++i) {
    if (i < 25) std::printf("| `%s` | %.0f |\n", rows[i].second.c_str(), rows[i].first);
  }
  for (const auto& [ms, what] : rows) {
    if (ms <= 0) std::printf("ended otherwise: %s after %.0f ms\n", what.c_str(), -ms);
  }
}

}  // namespace
}  // namespace quantd

int main() { quantd::Print(); }
