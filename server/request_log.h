// One log line a request, without a word of its prompt or its answer.
#pragma once

#include <string_view>

#include "scheduler/observer.h"

namespace quantd {

// `more` ends the line.
void LogRequest(std::string_view model, const RequestRecord& record, std::string_view more = "");

}  // namespace quantd
