// `quantd generate`: one prompt, streamed to the terminal.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "server/cli/cli.h"
#include "server/cli/client.h"

namespace quantd {
namespace {

struct GenerateFlags {
  ClientFlags client;
  SamplingFlags sampling;
  std::string prompt, prompt_file, output = "text";
  bool parse_special = false;
};

bool ReadPrompt(const CLI::App& command, GenerateFlags& f) {
  if (command.count("--prompt") > 0) return true;
  std::istream* in = &std::cin;
  std::ifstream file;
  if (!f.prompt_file.empty()) {
    file.open(f.prompt_file, std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "error: cannot read %s\n", f.prompt_file.c_str());
      return false;
    }
    in = &file;
  }
  f.prompt.assign(std::istreambuf_iterator<char>(*in), {});
  return true;
}

std::string ToJson(const Answer& a) {
  const v1::Timing& t = a.finished.timing();
  const auto seconds = [](const google::protobuf::Duration& d) {
    return static_cast<double>(d.seconds()) + d.nanos() * 1e-9;
  };
  const nlohmann::json json = {{"request_id", a.accepted.request_id()},
                               {"model", a.accepted.model()},
                               {"seed", a.accepted.seed()},
                               {"text", a.text},
                               {"finish_reason", FinishName(a.end.reason())},
                               {"usage",
                                {{"prompt_tokens", a.finished.usage().prompt_tokens()},
                                 {"cached_tokens", a.finished.usage().cached_tokens()},
                                 {"new_tokens", a.finished.usage().new_tokens()}}},
                               {"timing",
                                {{"queued_seconds", seconds(t.queued())},
                                 {"prefill_seconds", seconds(t.prefill())},
                                 {"first_output_seconds", seconds(t.first_output())},
                                 {"total_seconds", seconds(t.total())},
                                 {"preemptions", t.preemptions()}}}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

int Run(GenerateFlags& f) {
  v1::GenerateRequest request;
  request.set_model(f.client.model);
  request.set_text(f.prompt);
  request.set_parse_special(f.parse_special);
  f.sampling.Apply(request);
  auto stub = v1::Generation::NewStub(f.client.Connect());
  const bool json = f.output == "json";
  const Answer answer = Stream(*stub, request, [json](const std::string& text) {
    if (json) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  if (!json) std::fputc('\n', stdout);
  if (!answer.status.ok()) {
    PrintError(answer.status);
    return kExitRuntime;
  }
  if (json) {
    std::puts(ToJson(answer).c_str());
  } else {
    PrintSpeed(answer);
  }
  return kExitOk;
}

}  // namespace

void AddGenerate(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("generate", "Continue a text, by a running daemon");
  auto f = std::make_shared<GenerateFlags>();
  f->client.AddTo(*command);
  command->add_option("--prompt", f->prompt, "The text; default: --prompt-file, else standard input")
      ->type_name("TEXT");
  command->add_option("--prompt-file", f->prompt_file, "")->type_name("FILE");
  command->add_flag("--parse-special", f->parse_special, "Special tokens written in the prompt are recognised");
  f->sampling.AddTo(*command);
  command->add_option("-o,--output", f->output, "text or json")->check(CLI::IsMember({"text", "json"}));
  command->footer(
      "Examples:\n"
      "  quantd generate --prompt 'Once upon a time' --max-tokens 64 --temperature 0\n"
      "  quantd generate -o json --seed 7 < prompt.txt");
  command->callback([f, command, &exit_code] { exit_code = ReadPrompt(*command, *f) ? Run(*f) : kExitUsage; });
}

}  // namespace quantd
