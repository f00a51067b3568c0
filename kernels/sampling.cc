#include "kernels/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "kernels/logits_processors.h"

namespace quantd {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

float PhiloxUniform(uint64_t seed, uint32_t stream, uint64_t position) {
  auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
  auto high = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
  uint32_t bits = Philox4x32({low(position), high(position), stream, 0}, {low(seed), high(seed)})[0];
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

namespace {

using Entry = SampleScratch::Entry;

constexpr int64_t kBlock = 32;  // a constant trip count makes vector code at -O2

bool AllFinite(const float* x, int64_t count) {
  float sums[kBlock] = {};  // x * 0 is 0 for what is finite, NaN otherwise
  int64_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (int64_t j = 0; j < kBlock; ++j) sums[j] += x[i + j] * 0.0f;
  }
  float sum = 0;
  for (; i < count; ++i) sum += x[i] * 0.0f;
  for (float s : sums) sum += s;
  return sum == 0;
}

float MaxOfBlock(const float* x) {
  float lanes[8];
  for (int j = 0; j < 8; ++j) lanes[j] = x[j];
  for (int64_t i = 8; i < kBlock; i += 8) {
    for (int j = 0; j < 8; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  return *std::max_element(lanes, lanes + 8);
}

// The first of the largest logits, or -1 where all are -inf.
int32_t Argmax(const float* logits, int64_t vocab) {
  int64_t best = -1, i = 0;
  float largest = -INFINITY;
  auto consider = [&](int64_t j) {
    if (!(logits[j] > largest)) return;
    best = j;
    largest = logits[j];
  };
  for (; i + kBlock <= vocab; i += kBlock) {
    if (!(MaxOfBlock(logits + i) > largest)) continue;
    for (int64_t j = i; j < i + kBlock; ++j) consider(j);
  }
  for (; i < vocab; ++i) consider(i);
  return static_cast<int32_t>(best);
}

// Unsigned integers in the order of the floats; adding 0 makes one of both zeros.
uint32_t OrderedBits(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
  return bits ^ ((bits >> 31) != 0 ? 0xffffffff : 0x80000000);
}

// Keeps the first entries, by logit descending and then by id, before which less than `target` mass lies; at least one.
// Their order (by id) stays. A radix select on the bits of the logit finds the last one kept: each pass adds up the
// mass under each digit, so that nothing is sorted and sums do not depend on an algorithm's order of visits. Weights
// would not do for an order: logits that are close have the same.
template <typename Logit, typename Mass>
std::span<Entry> KeepTop(std::span<Entry> entries, double target, Logit logit, Mass mass) {
  constexpr int kDigitBits[] = {11, 11, 10};
  uint32_t prefix = 0, prefix_mask = 0;
  double above = 0;  // mass of the entries whose logit's bits are larger than any under `prefix`
  int shift = 32;
  for (int bits : kDigitBits) {
    shift -= bits;
    std::array<double, 2048> masses{};
    std::array<uint8_t, 2048> used{};
    uint32_t digit_mask = (uint32_t{1} << bits) - 1;
    for (const Entry& e : entries) {
      uint32_t key = OrderedBits(logit(e));
      if ((key & prefix_mask) != prefix) continue;
      masses[key >> shift & digit_mask] += mass(e);
      used[key >> shift & digit_mask] = 1;
    }
    // Where rounding leaves the target beyond all the mass there is, the lowest logit that occurs is the last kept.
    uint32_t digit = 0;
    double sum = above;
    for (uint32_t d = digit_mask + 1; d-- > 0 && sum < target;) {
      if (used[d] == 0) continue;
      digit = d;
      above = sum;
      sum += masses[d];
    }
    prefix |= digit << shift;
    prefix_mask |= digit_mask << shift;
  }
  size_t kept = 0;
  for (const Entry& e : entries) {
    uint32_t key = OrderedBits(logit(e));
    if (key < prefix) continue;
    if (key == prefix) {
      if (above >= target) continue;
      above += mass(e);
    }
    entries[kept++] = e;
  }
  return entries.first(kept);
}

double Total(std::span<const Entry> entries) {
  double total = 0;
  for (const Entry& e : entries) total += e.value;
  return total;
}

// e^x for x <= 0 within 2 units in the last place, 0 below -87: arithmetic alone, so that it is vector code and the
// same everywhere. 2^n e^r with |r| <= ln(2)/2, ln(2) split in two (Cody and Waite), e^r by its series (r^7/7! <
// 2^-26).
inline float ExpOfNegative(float x) {
  float clamped = x < -87.0f ? -87.0f : x;
  float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;  // rounds to an integer
  float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float series =
      1.0f + r * (1.0f + r * (1.0f / 2 + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720))))));
  float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : series * power;
}

// Turns logits into exp((logit - largest) / temperature): probabilities up to a factor, the largest being 1; 0 of -inf.
void ToWeights(std::span<Entry> entries, float temperature) {
  float largest = -INFINITY;
  for (const Entry& e : entries) largest = std::max(largest, e.value);
  for (size_t begin = 0; begin < entries.size(); begin += kBlock) {
    std::span<Entry> block = entries.subspan(begin, std::min<size_t>(kBlock, entries.size() - begin));
    float values[kBlock] = {};
    for (size_t i = 0; i < block.size(); ++i) values[i] = block[i].value;
    for (float& v : values) v = ExpOfNegative((v - largest) / temperature);
    for (size_t i = 0; i < block.size(); ++i) block[i].value = values[i];
  }
}

int32_t Draw(std::span<const Entry> entries, float uniform) {
  double target = static_cast<double>(uniform) * Total(entries), sum = 0;
  int32_t last = -1;  // of those with any probability
  for (const Entry& e : entries) {
    if (e.value > 0) last = e.id;
    sum += e.value;
    if (sum > target) return e.id;
  }
  return last;
}

}  // namespace

SampleResult SampleRow(float* logits, int64_t vocab, const SamplingRow& row, SampleScratch scratch) {
  const SamplingParams& params = row.params;
  if (!AllFinite(logits, vocab)) return {};
  ProcessLogits(logits, vocab, row);
  SampleResult best{Argmax(logits, vocab)};
  if (params.temperature == 0 || params.top_k == 1 || best.token < 0) return best;

  QD_CHECK(static_cast<int64_t>(scratch.entries.size()) >= vocab);
  std::span<Entry> entries = scratch.entries.first(static_cast<size_t>(vocab));
  for (size_t i = 0; i < entries.size(); ++i) entries[i] = {logits[i], static_cast<int32_t>(i)};
  if (params.top_k > 0 && params.top_k < vocab)
    entries = KeepTop(
        entries, params.top_k, [](const Entry& e) { return e.value; }, [](const Entry&) { return 1.0; });
  ToWeights(entries, params.temperature);
  if (params.top_p < 1) {
    // All entries below this weigh less than 1 - top_p together, so none of them is kept (0.999: a margin for
    // rounding).
    double total = Total(entries),
           least = (1 - static_cast<double>(params.top_p)) * total / static_cast<double>(entries.size());
    entries = entries.first(static_cast<size_t>(
        std::remove_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.value < least * 0.999; }) -
        entries.begin()));
    entries = KeepTop(
        entries, static_cast<double>(params.top_p) * total, [&](const Entry& e) { return logits[e.id]; },
        [](const Entry& e) { return double{e.value}; });
  }
  for (Entry& e : entries) e.value = e.value >= params.min_p ? e.value : 0;
  return {Draw(entries, PhiloxUniform(params.seed, row.output_index, row.position))};
}

}  // namespace quantd
