// Words of other programs of this kind (ollama, llama.cpp, vLLM, TGI, Triton) and what to use here in their place.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace quantd {

// The commands that load models, serve and plan; or those that ask a daemon; or all.
enum class Side : uint8_t { kServe, kClient, kBoth };

struct Elsewhere {
  std::string_view words;  // that have the same answer, a space between two
  Side side;
  std::string_view answer;  // one line; flags and commands in it exist
};

std::span<const Elsewhere> CommandsElsewhere();  // of kBoth
std::span<const Elsewhere> FlagsElsewhere();
// The answer of the row that has `word` for `side`; empty if there is none.
std::string_view AnswerFor(std::span<const Elsewhere> table, std::string_view word, Side side);

}  // namespace quantd
