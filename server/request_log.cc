#include "server/request_log.h"

#include <string>

#include "base/log.h"
#include "base/strings.h"
#include "server/status.h"

namespace quantd {

void LogRequest(std::string_view model, const RequestRecord& record, std::string_view more) {
  const auto ms = [](Duration d) { return ToSeconds(d) * 1e3; };
  LogInfo(absl::StrCat(
      "request id=", ToAbsl(record.id), " model=", ToAbsl(model), " priority=", ToAbsl(Name(record.priority)),
      " code=", CodeName(record.code), " reason=", ToAbsl(record.reason), " prompt_tokens=", record.usage.prompt_tokens,
      " cached_tokens=", record.usage.cached_tokens, " new_tokens=", record.usage.new_tokens,
      " queued_ms=", ms(record.timing.queued), " first_output_ms=", ms(record.timing.first_output),
      " total_ms=", ms(record.timing.total), " preemptions=", record.timing.preemptions, ToAbsl(more)));
}

}  // namespace quantd
