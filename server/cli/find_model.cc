// Which model a request of the command line is for, and the wait until it is loaded.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include <absl/strings/str_cat.h>

#include "base/clock.h"
#include "quantd/v1/models.grpc.pb.h"
#include "server/cli/cli.h"
#include "server/cli/client.h"
#include "server/options.h"
#include "server/status.h"

namespace quantd {
namespace {

constexpr Duration kDefaultWait = std::chrono::minutes(10), kPause = std::chrono::milliseconds(200);

// One line on standard error that says what is waited for, drawn anew on a terminal and written once elsewhere.
class WaitLine {
 public:
  void Show(const std::string& text) {
    if (terminal_) {
      std::fprintf(stderr, "\r\x1b[K%s", text.c_str());
    } else if (!shown_) {
      std::fprintf(stderr, "%s\n", text.c_str());
    }
    shown_ = true;
  }
  void End() {
    if (terminal_ && shown_) std::fputs("\r\x1b[K", stderr);
    shown_ = false;
  }
  ~WaitLine() { End(); }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  bool shown_ = false;
};

int RefuseToChoose(const v1::ListModelsResponse& models) {
  std::string names;
  for (const v1::Model& m : models.models()) absl::StrAppend(&names, names.empty() ? "" : ", ", m.name());
  std::fprintf(stderr, "error: %d models are served; say which with --model: %s\n", models.models_size(),
               names.c_str());
  return kExitUsage;
}

const v1::Model* Named(const v1::ListModelsResponse& models, const std::string& name) {
  if (name.empty()) return models.models_size() == 1 ? &models.models(0) : nullptr;
  const auto it = std::find_if(models.models().begin(), models.models().end(),
                               [&](const v1::Model& m) { return m.name() == name; });
  return it == models.models().end() ? nullptr : &*it;
}

std::string LoadingLine(const v1::Model& model) {
  const v1::LoadProgress& p = model.progress();
  const std::string how_far =
      p.total_bytes() == 0 ? "" : absl::StrCat(", ", 100 * p.done_bytes() / p.total_bytes(), " %");
  return absl::StrCat("waiting: model ", model.name(), " is loading", how_far);
}

}  // namespace

int FindModel(const ClientFlags& flags, const std::shared_ptr<grpc::Channel>& channel, ServedModel& model) {
  auto stub = v1::Models::NewStub(channel);
  const TimePoint end = Now() + (flags.wait.has_value() ? *ParseDuration(*flags.wait) : kDefaultWait);
  WaitLine line;
  while (true) {
    v1::ListModelsResponse models;
    grpc::ClientContext context;
    const grpc::Status status = stub->ListModels(&context, v1::ListModelsRequest(), &models);
    const bool nobody = status.error_code() == grpc::StatusCode::UNAVAILABLE && ReadDetails(status).reason.empty();
    const bool may_wait = Now() + kPause < end;
    if (nobody && !(flags.wait.has_value() && may_wait)) {
      line.End();
      PrintError(status, flags.address);
      return kExitRuntime;
    }
    if (nobody) {
      line.Show(absl::StrCat("waiting for a daemon at ", flags.address));
    } else if (!status.ok()) {
      return kExitOk;  // an older daemon, or one behind a proxy: the request will tell
    } else if (flags.model.empty() && models.models_size() > 1) {
      return RefuseToChoose(models);
    } else {
      const v1::Model* found = Named(models, flags.model);
      if (found == nullptr) return kExitOk;
      if (found->state() != v1::MODEL_STATE_LOADING || !may_wait) {
        model.name = found->name();
        model.says_sampling = found->generation_defaults().has_temperature();
        model.says_penalty = found->generation_defaults().has_repetition_penalty();
        model.says_length =
            found->generation_defaults().has_max_new_tokens() || found->generation_defaults().has_max_length();
        return kExitOk;
      }
      line.Show(LoadingLine(*found));
    }
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace quantd
