// What choosing a token costs, by vocabulary and by what the request asks for. One row on one thread; median of the
// rounds, so that what others did meanwhile counts little.
//   sampling_bench [--rounds N]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kernels/sampling.h"

namespace quantd {
namespace {

struct Case {
  const char* name;
  SamplingParams params;
  int64_t seen;  // distinct tokens of prompt and output; the context is twice as long
};

double MedianMicroseconds(const std::vector<float>& logits, const Case& c, int rounds) {
  std::vector<SeenToken> seen;
  std::vector<int32_t> context;
  for (int64_t i = 0; i < c.seen; ++i) {
    const int32_t id = static_cast<int32_t>(i * 7919 % static_cast<int64_t>(logits.size()));
    seen.push_back({id, static_cast<int32_t>(i % 3)});
    context.insert(context.end(), {id, id});
  }
  std::vector<SampleScratch::Entry> entries(logits.size());
  SamplingRow row;
  row.params = c.params;
  row.seen = seen;
  row.context = context;
  std::vector<double> times;
  std::vector<float> copy;
  for (int round = 0; round < rounds; ++round) {
    copy = logits;
    row.position = static_cast<uint64_t>(round);
    const auto begin = std::chrono::steady_clock::now();
    volatile int32_t token = SampleRow(copy.data(), static_cast<int64_t>(copy.size()), row, {entries}).token;
    static_cast<void>(token);
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::nth_element(times, times.begin() + rounds / 2);
  return times[static_cast<size_t>(rounds / 2)];
}

int Main(int argc, char** argv) {
  const int rounds = argc > 2 && std::string(argv[1]) == "--rounds" ? std::stoi(argv[2]) : 300;
  const SamplingParams greedy = {.temperature = 0},
                       sampled = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f};
  const auto with = [](SamplingParams params, float repetition, float frequency, int32_t ngram) {
    params.repetition_penalty = repetition;
    params.frequency_penalty = frequency;
    params.no_repeat_ngram_size = ngram;
    return params;
  };
  const Case cases[] = {{"greedy", greedy, 0},
                        {"greedy, repetition, 1000 seen", with(greedy, 1.1f, 0, 0), 1000},
                        {"greedy, all penalties, 1000 seen", with(greedy, 1.1f, 0.5f, 0), 1000},
                        {"greedy, all penalties, 10000 seen", with(greedy, 1.1f, 0.5f, 0), 10000},
                        {"greedy, 3-grams, context 2000", with(greedy, 1, 0, 3), 1000},
                        {"greedy, 3-grams, context 20000", with(greedy, 1, 0, 3), 10000},
                        {"sampled (0.8, 40, 0.95, 0.05)", sampled, 0},
                        {"sampled, repetition, 1000 seen", with(sampled, 1.1f, 0, 0), 1000}};
  for (const size_t vocab : {size_t{49152}, size_t{128256}}) {
    std::mt19937 rng(1);
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> logits(vocab);
    for (float& logit : logits) logit = normal(rng);
    std::printf("vocabulary of %zu, microseconds a row:\n", vocab);
    for (const Case& c : cases) std::printf("  %-36s %8.1f\n", c.name, MedianMicroseconds(logits, c, rounds));
  }
  return 0;
}

}  // namespace
}  // namespace quantd

int main(int argc, char** argv) { return quantd::Main(argc, argv); }
