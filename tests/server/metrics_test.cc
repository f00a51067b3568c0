// /metrics of a running daemon.
#include "server/metrics.h"

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include <gmock/gmock.h>

#include "tests/server/daemon_fixture.h"

namespace quantd {
namespace {
using quantd::testing::DaemonTest;
using ::testing::HasSubstr;
using ::testing::Not;

using MetricsTest = DaemonTest;

// Name → label names, of every sample of a /metrics text ("le" aside).
std::map<std::string, std::set<std::string>> ParseMetrics(const std::string& text) {
  std::map<std::string, std::set<std::string>> found;
  std::string type_name;
  std::stringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) type_name = line.substr(7, line.find(' ', 7) - 7);
    if (line.empty() || line[0] == '#') continue;
    std::set<std::string>& labels = found[type_name];
    static const std::regex kLabel("([a-z_]+)=\"");
    for (std::sregex_iterator it(line.begin(), line.end(), kLabel), end; it != end; ++it) {
      if ((*it)[1] != "le") labels.insert((*it)[1]);
    }
  }
  return found;
}

TEST_F(MetricsTest, MetricsAreThoseOfThePage) {
  const auto response = Get("/metrics");
  ASSERT_TRUE(response);
  EXPECT_THAT(response->get_header_value("Content-Type"), HasSubstr("version=0.0.4"));
  std::map<std::string, std::set<std::string>> documented;
  std::ifstream page(quantd::testing::SourcePath("docs/metrics.md"));
  ASSERT_TRUE(page);
  for (std::string line; std::getline(page, line);) {  // | `name` | type | labels | meaning |
    std::smatch row;
    static const std::regex kRow(R"(^\| `(\w+)` \| \w+ \|([^|]*)\|.*)");
    if (!std::regex_match(line, row, kRow)) continue;
    std::set<std::string>& labels = documented[row[1]];
    std::stringstream names(row[2]);
    for (std::string name; std::getline(names, name, ',');) {
      name = std::regex_replace(name, std::regex("[` ]"), "");
      if (!name.empty()) labels.insert(name);
    }
  }
  EXPECT_EQ(ParseMetrics(response->body), documented);
}

TEST_F(MetricsTest, EveryLabelSetIsThereFromTheStartAndCountersAreExact) {
  std::string text = Get("/metrics")->body;
  EXPECT_THAT(text, HasSubstr("quantd_requests_total{code=\"DEADLINE_EXCEEDED\",kind=\"generate\",model=\"tiny\"} 0"));
  EXPECT_THAT(text, HasSubstr("quantd_requests_rejected_total{model=\"tiny\",reason=\"queue_full\"} 0"));
  EXPECT_THAT(text, HasSubstr("quantd_memory_bytes{component=\"kv_cache\",device=\"cpu\",model=\"tiny\"} 200"));
  EngineObserver& o = *registry_->observer;
  RequestRecord record;
  record.reason = "max_tokens";
  record.usage = {10, 4, 3};  // counted by step, not here
  record.timing.total = std::chrono::milliseconds(30);
  o.OnEnded(record);
  o.OnRejected("queue_full");
  o.OnRejected("something new");
  o.OnStarted(Priority::kBatch, std::chrono::milliseconds(3));
  o.OnStep(StepPhase::kMixed, 17, 2, std::chrono::milliseconds(7));
  o.OnStep(StepPhase::kDecode, 2, 2, std::chrono::microseconds(300));
  o.OnTokens({.prompt = 6, .prompt_cached = 4, .generated = 1});
  o.OnTokens({.prompt = 0, .prompt_cached = 0, .generated = 2});
  o.OnPreempted(33);
  o.OnPrefixLookup(64, 32);
  EngineGauges gauges;
  gauges.blocks_used = 3;
  gauges.blocks_free = 9;
  o.OnGauges(gauges);
  text = Get("/metrics")->body;
  for (const char* line :
       {"quantd_requests_total{code=\"OK\",kind=\"generate\",model=\"tiny\"} 1",
        "quantd_tokens_total{model=\"tiny\",type=\"prompt\"} 6",
        "quantd_tokens_total{model=\"tiny\",type=\"prompt_cached\"} 4",
        "quantd_tokens_total{model=\"tiny\",type=\"generated\"} 3",
        "quantd_outputs_finished_total{model=\"tiny\",reason=\"max_tokens\"} 1",
        "quantd_outputs_finished_total{model=\"tiny\",reason=\"eos\"} 0",
        "quantd_step_duration_seconds_bucket{model=\"tiny\",phase=\"decode\",le=\"0.00025\"} 0",
        "quantd_step_duration_seconds_bucket{model=\"tiny\",phase=\"decode\",le=\"0.0005\"} 1",
        "quantd_step_tokens_bucket{model=\"tiny\",phase=\"decode\",le=\"1\"} 0",
        "quantd_step_tokens_bucket{model=\"tiny\",phase=\"decode\",le=\"2\"} 1",
        "quantd_requests_rejected_total{model=\"tiny\",reason=\"queue_full\"} 1",
        "quantd_requests_rejected_total{model=\"tiny\",reason=\"other\"} 1",
        "quantd_request_queue_seconds_count{model=\"tiny\",priority=\"batch\"} 1",
        "quantd_step_tokens_bucket{model=\"tiny\",phase=\"mixed\",le=\"32\"} 1",
        "quantd_step_tokens_bucket{model=\"tiny\",phase=\"mixed\",le=\"16\"} 0",
        "quantd_preempted_tokens_total{model=\"tiny\"} 33", "quantd_prefix_cache_hit_tokens_total{model=\"tiny\"} 32",
        "quantd_kv_cache_usage_ratio{model=\"tiny\"} 0.25"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("nan")));
}

TEST_F(MetricsTest, PromtoolFindsNothing) {
  if (std::system("command -v promtool > /dev/null") != 0) GTEST_SKIP() << "tool: promtool is not installed";
  const std::string path = ::testing::TempDir() + "/quantd_metrics.txt";
  std::ofstream(path) << Get("/metrics")->body;
  EXPECT_EQ(std::system(("promtool check metrics < " + path).c_str()), 0);
}

}  // namespace
}  // namespace quantd
