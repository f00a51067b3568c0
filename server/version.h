// The version and the commit that this binary was built from.
#pragma once

#include <string_view>

namespace quantd {

std::string_view Version();
std::string_view Commit();

}  // namespace quantd
