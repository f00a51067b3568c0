// What a template can see of a chat, read off its syntax tree: so that what a client sends and the template has no use
// for is refused, not dropped.
#pragma once

#include <set>
#include <string>

#include "runtime/chat_template/ast.h"

namespace quantd::chat {

struct Usage {
  // Variables that are read where the template itself has not set them (jinja2.meta.find_undeclared_variables): a name
  // that is set on one branch only counts as not set.
  std::set<std::string, std::less<>> variables;
  // Attributes, and texts that may be keys ("a.b" is a, b and a.b): m.content, m['content'], 'content' in m,
  // m.get('content'), map(attribute='content').
  std::set<std::string, std::less<>> keys;
};

Usage FindUsage(const Body& body);

}  // namespace quantd::chat
