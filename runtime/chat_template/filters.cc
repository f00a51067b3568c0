// Filters of any value, of jinja2.filters, and how a filter is found.
#include "runtime/chat_template/filters.h"

#include "base/strings.h"

namespace quantd::chat {
namespace {

Value Default(Run& run, const Value& input, Args& args) {
  Value otherwise = args.Take("default_value", MakeString("", true));
  bool boolean = Flag(args, "boolean");
  if (!args.Done(run, "default")) return {};
  return input.IsUndefined() || (boolean && !Truthy(input)) ? otherwise : input;
}

Value Attr(Run& run, const Value& input, Args& args) {
  Value name = args.Need(run, "name");
  if (!args.Done(run, "attr")) return {};
  if (name.text() == nullptr) return run.Fail("attribute name must be string");
  // Unlike a.b it never looks for an item.
  if (input.dict() && FindMethod(name.text()->view()).empty())
    return MakeUndefined("'dict object' has no such attribute");
  if (input.dict()) return GetAttr(run, input, FindMethod(name.text()->view()));
  return GetItem(run, input, name);
}

constexpr FilterEntry kFilters[] = {
    {"attr", Attr},
    {"d", Default},
    {"default", Default},
};

const FilterEntry* Find(std::string_view name) {
  for (std::span<const FilterEntry> filters :
       {std::span<const FilterEntry>(kFilters), TextFilters(), NumberFilters(), SequenceFilters()}) {
    for (const FilterEntry& entry : filters) {
      if (entry.name == name) return &entry;
    }
  }
  return nullptr;
}

}  // namespace

bool HasFilter(std::string_view name) { return Find(name) != nullptr; }

Value CallFilter(Run& run, std::string_view name, const Value& input, Args args) {
  const FilterEntry* entry = Find(name);
  if (entry == nullptr) return run.Fail(absl::StrCat("no filter named '", ToAbsl(name), "'"));
  Value result = entry->filter(run, input, args);
  return run.ok() ? result : Value();
}

}  // namespace quantd::chat
