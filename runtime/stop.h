// Stop: asked now and then by work that a client may give up on; true ends it with Cancelled. Empty: never.
#pragma once

#include <functional>

namespace quantd {

using Stop = std::function<bool()>;

}  // namespace quantd
