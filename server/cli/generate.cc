// `quantd generate`: one prompt, streamed to the terminal.
#include <unistd.h>

#include <cstdio>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "server/cli/cli.h"
#include "server/cli/client.h"
#include "server/text_file.h"

namespace quantd {
namespace {

struct GenerateFlags {
  ClientFlags client;
  SamplingFlags sampling;
  std::optional<std::string> prompt, prompt_file;
  std::string output = "text";
  bool parse_special = false;
};

absl::StatusOr<std::string> ReadPrompt(const GenerateFlags& f) {
  if (f.prompt.has_value()) return *f.prompt;
  if (f.prompt_file.has_value() && *f.prompt_file != "-") return ReadTextFile(*f.prompt_file);
  if (isatty(0) != 0) std::fputs("reading the prompt from standard input; Ctrl-D ends it\n", stderr);
  return ReadText(stdin, "standard input");
}

std::string ToJson(const Answer& a) {
  const v1::Timing& t = a.finished.timing();
  const nlohmann::json json = {{"request_id", a.accepted.request_id()},
                               {"model", a.accepted.model()},
                               {"seed", std::to_string(a.accepted.seed())},  // as protobuf's JSON has 64 bit
                               {"text", a.text},
                               {"finish_reason", FinishName(a.end.reason())},
                               {"usage",
                                {{"prompt_tokens", a.finished.usage().prompt_tokens()},
                                 {"cached_tokens", a.finished.usage().cached_tokens()},
                                 {"new_tokens", a.finished.usage().new_tokens()}}},
                               {"timing",
                                {{"queued_seconds", Seconds(t.queued())},
                                 {"prefill_seconds", Seconds(t.prefill())},
                                 {"first_output_seconds", Seconds(t.first_output())},
                                 {"total_seconds", Seconds(t.total())},
                                 {"preemptions", t.preemptions()}}}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

int Run(const GenerateFlags& f) {
  absl::StatusOr<std::string> prompt = ReadPrompt(f);
  if (!prompt.ok()) {
    PrintUsageError(prompt.status());
    return kExitUsage;
  }
  v1::GenerateRequest request;
  request.set_model(f.client.model);
  request.set_text(*std::move(prompt));
  request.set_parse_special(f.parse_special);
  request.mutable_stopping()->mutable_stop()->Add(f.sampling.stop.begin(), f.sampling.stop.end());
  if (absl::Status status = CheckTexts(request); !status.ok()) {
    PrintUsageError(status);
    return kExitUsage;
  }
  const std::shared_ptr<grpc::Channel> channel = f.client.Connect();
  ServedModel model;
  if (const int code = FindModel(f.client, channel, model); code != kExitOk) return code;
  auto stub = v1::Generation::NewStub(channel);
  const bool json = f.output == "json";
  const Answer answer = Ask(*stub, f.sampling, model, request, [json](const std::string& text) {
    if (!json) WriteAnswer(text);
  });
  if (!json && (answer.status.ok() || !answer.text.empty())) WriteOut("\n");
  if (!answer.status.ok()) return ReportFailure(answer, f.client.address);
  if (json) {
    WriteOut(ToJson(answer) + "\n");
  } else {
    PrintSpeed(answer);
  }
  return kExitOk;
}

}  // namespace

void AddGenerate(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("generate", "Continue a text, by a running daemon")->group("Ask a running daemon");
  auto f = std::make_shared<GenerateFlags>();
  f->client.AddTo(*command);
  CLI::Option* prompt =
      command->add_option("prompt,-p,--prompt", f->prompt, "The text; default: --prompt-file, else standard input")
          ->type_name("TEXT");
  command->add_option("-f,--prompt-file", f->prompt_file, "A file that holds the text; - is standard input")
      ->type_name("FILE")
      ->excludes(prompt);
  command->add_flag("--parse-special", f->parse_special, "Special tokens written in the prompt are recognised");
  f->sampling.AddTo(*command);
  command->add_option("-o,--output", f->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->footer(
      "Examples:\n"
      "  quantd generate 'Once upon a time' --max-tokens 64 --temperature 0\n"
      "  quantd generate --prompt-file prompt.txt --stop '###'\n"
      "  quantd generate -o json --temperature 0.8 --seed 7 < prompt.txt");
  command->callback([f, &exit_code] { exit_code = Run(*f); });
}

}  // namespace quantd
