// The filters of a template by what they are applied to. filters.cc looks a name up in all of them.
#pragma once

#include <span>
#include <string_view>

#include "runtime/chat_template/builtins.h"
#include "runtime/chat_template/run.h"

namespace quantd::chat {

struct FilterEntry {
  std::string_view name;
  Value (*filter)(Run&, const Value&, Args&);
};
std::span<const FilterEntry> TextFilters();
std::span<const FilterEntry> NumberFilters();
std::span<const FilterEntry> SequenceFilters();

// A keyword argument that filters read as a boolean.
inline bool Flag(Args& args, std::string_view name) { return Truthy(args.Take(name, Value(false))); }

}  // namespace quantd::chat
