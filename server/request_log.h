// One log line a request, without a word of its prompt or its answer.
#pragma once

#include <string_view>

#include "scheduler/observer.h"

namespace quantd {

void LogRequest(std::string_view model, const RequestRecord& record);

}  // namespace quantd
