// The daemon with real models: tiny ones, on the cpu backend.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include "quantd/v1/generation.grpc.pb.h"
#include "quantd/v1/models.grpc.pb.h"
#include "server/daemon.h"
#include "server/status.h"
#include "tests/server/fakes.h"
#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {
using ::testing::HasSubstr;

ModelOptions TinyModel(const std::string& name, const std::string& path) {
  ModelOptions model;
  model.name = name;
  model.spec.path = path;
  model.spec.kv_cache_bytes = 1 << 20;
  return model;
}

std::unique_ptr<Daemon> StartDaemon(std::vector<ModelOptions> models) {
  ServerOptions options;
  options.listen.port = options.metrics_listen.port = 0;
  options.registry.backend_options.threads = 1;
  options.models = std::move(models);
  auto daemon = Daemon::Start(options);
  EXPECT_TRUE(daemon.ok()) << daemon.status();
  return *std::move(daemon);
}

std::shared_ptr<grpc::Channel> Connect(Daemon& daemon) {
  return grpc::CreateChannel("127.0.0.1:" + std::to_string(daemon.grpc_port()), grpc::InsecureChannelCredentials());
}

v1::GenerateRequest Request(uint32_t tokens) {
  v1::GenerateRequest request;
  request.set_text("hello");
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(11);
  request.mutable_stopping()->set_max_new_tokens(tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

TEST(ServingTest, StreamAndUnaryGiveTheSameTokens) {
  auto daemon = StartDaemon({TinyModel("tiny", quantd::testing::TinyModelPath())});
  ASSERT_TRUE(daemon->WaitUntilReady().ok());
  auto stub = v1::Generation::NewStub(Connect(*daemon));
  grpc::ClientContext unary;
  v1::GenerateResponse response;
  ASSERT_TRUE(stub->Generate(&unary, Request(12), &response).ok());
  EXPECT_EQ(response.outputs(0).token_ids_size(), 12);
  EXPECT_EQ(response.outputs(0).end().reason(), v1::FINISH_REASON_MAX_TOKENS);

  grpc::ClientContext context;
  auto reader = stub->GenerateStream(&context, Request(12));
  std::vector<v1::GenerateEvent::EventCase> order;
  std::string text;
  std::vector<uint32_t> ids;
  for (v1::GenerateEvent e; reader->Read(&e);) {
    if (order.empty() || order.back() != e.event_case()) order.push_back(e.event_case());
    text += e.delta().text();
    ids.insert(ids.end(), e.delta().token_ids().begin(), e.delta().token_ids().end());
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_EQ(order, (std::vector<v1::GenerateEvent::EventCase>{v1::GenerateEvent::kAccepted, v1::GenerateEvent::kPrompt,
                                                              v1::GenerateEvent::kDelta, v1::GenerateEvent::kOutputEnd,
                                                              v1::GenerateEvent::kFinished}));
  EXPECT_EQ(text, response.outputs(0).text());
  EXPECT_EQ(ids, std::vector<uint32_t>(response.outputs(0).token_ids().begin(), response.outputs(0).token_ids().end()));
}

// A model of random weights writes bytes of all kinds, so that a limit often falls within a character. Detokenize says
// what the ids stand for, the unfinished end as U+FFFD.
TEST(ServingTest, ATokenLimitNeverEndsInAReplacementCharacter) {
  const std::string replacement = "\xEF\xBF\xBD";
  for (const char* file : {"mixed_tied_gpt2.gguf", "rope_linear_spm.gguf"}) {  // byte-level, and byte fallback
    SCOPED_TRACE(file);
    auto daemon =
        StartDaemon({TinyModel("tiny", quantd::testing::SourcePath(std::string("tests/goldens/gguf/") + file))});
    ASSERT_TRUE(daemon->WaitUntilReady().ok());
    auto stub = v1::Generation::NewStub(Connect(*daemon));
    int cut = 0;
    for (uint64_t seed = 0; seed < 60; ++seed) {
      v1::GenerateRequest request = Request(1 + seed % 7);
      request.mutable_sampling()->set_temperature(3);
      request.mutable_sampling()->set_seed(seed);
      request.mutable_output()->set_skip_special_tokens(false);
      grpc::ClientContext unary, stream, back;
      v1::GenerateResponse response;
      ASSERT_TRUE(stub->Generate(&unary, request, &response).ok());
      const v1::Output& output = response.outputs(0);
      EXPECT_EQ(output.token_ids_size(), static_cast<int>(1 + seed % 7));
      std::string streamed;
      auto reader = stub->GenerateStream(&stream, request);
      for (v1::GenerateEvent e; reader->Read(&e);) streamed += e.delta().text();
      ASSERT_TRUE(reader->Finish().ok());
      EXPECT_EQ(streamed, output.text());

      v1::DetokenizeRequest ids;
      *ids.mutable_ids() = output.token_ids();
      v1::DetokenizeResponse whole;
      ASSERT_TRUE(stub->Detokenize(&back, ids, &whole).ok());
      if (output.text() == whole.text()) continue;
      EXPECT_EQ(output.text() + replacement, whole.text());
      ++cut;
    }
    EXPECT_GT(cut, 0) << "no limit fell within a character";
  }
}

// A tiny Llama in f32 with a tokenizer of its first ids.
std::string WriteFolder(const std::string& folder, const std::string& generation_config) {
  std::filesystem::create_directories(folder);
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(quantd::testing::SourcePath("tests/goldens/tiny_llama/gqa1_f32/") + name,
                               folder + "/" + name);
  }
  std::ofstream(folder + "/generation_config.json") << generation_config;
  std::ofstream(folder + "/tokenizer.json")
      << R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"d":3},"merges":[]}})";
  return folder;
}

std::vector<uint32_t> GenerateIds(
    Daemon& daemon, const std::string& model, const std::function<void(v1::GenerateRequest&)>& change = [](auto&) {}) {
  v1::GenerateRequest request;
  request.set_model(model);
  for (uint32_t id : {5, 6, 7}) request.mutable_tokens()->add_ids(id);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  change(request);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status = v1::Generation::NewStub(Connect(daemon))->Generate(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  if (response.outputs().empty()) return {};
  return {response.outputs(0).token_ids().begin(), response.outputs(0).token_ids().end()};
}

TEST(ServingTest, AGenerationConfigHoldsWhereARequestSaysNothing) {
  const quantd::testing::TempDir dir;
  const std::string plain = WriteFolder(dir.path() + "/plain", "{}");
  std::vector<uint32_t> first;
  {
    auto daemon = StartDaemon({TinyModel("plain", plain)});
    ASSERT_TRUE(daemon->WaitUntilReady().ok());
    first = GenerateIds(*daemon, "plain", [](auto& r) { r.mutable_stopping()->set_max_new_tokens(8); });
    ASSERT_EQ(first.size(), 8u);
  }
  const std::string bans = std::to_string(first[0]);
  const std::string settings = R"({"max_new_tokens": 6, "no_repeat_ngram_size": 1, "suppress_tokens": [)" + bans + "]}";
  auto daemon = StartDaemon(
      {TinyModel("set", WriteFolder(dir.path() + "/set", settings)),
       TinyModel("begin", WriteFolder(dir.path() + "/begin", R"({"begin_suppress_tokens": [)" + bans + "]}"))});
  ASSERT_TRUE(daemon->WaitUntilReady().ok());
  const std::vector<uint32_t> set = GenerateIds(*daemon, "set");
  EXPECT_EQ(set.size(), 6u);
  std::set<uint32_t> distinct(set.begin(), set.end());
  distinct.insert({5, 6, 7});
  EXPECT_EQ(distinct.size(), 9u) << "no token comes twice, nor one of the prompt";
  EXPECT_EQ(distinct.count(first[0]), 0u);

  const std::vector<uint32_t> own = GenerateIds(*daemon, "set", [](auto& r) {
    r.mutable_stopping()->set_max_new_tokens(40);
    r.mutable_sampling()->set_no_repeat_ngram_size(0);
    r.mutable_sampling()->set_repetition_penalty(0.01f);  // what was seen becomes likelier
  });
  EXPECT_EQ(own.size(), 40u);
  EXPECT_LT(std::set<uint32_t>(own.begin(), own.end()).size(), 40u);
  EXPECT_EQ(std::count(own.begin(), own.end(), first[0]), 0) << "no field of a request lifts suppress_tokens";

  const auto few = [](auto& r) { r.mutable_stopping()->set_max_new_tokens(8); };
  const std::vector<uint32_t> begin = GenerateIds(*daemon, "begin", few);
  ASSERT_EQ(begin.size(), 8u);
  EXPECT_NE(begin[0], first[0]);
}

TEST(ServingTest, ThePlanIsWhatTheRunningModelReports) {
  auto daemon = StartDaemon({TinyModel("tiny", quantd::testing::TinyModelPath())});
  ASSERT_TRUE(daemon->WaitUntilReady().ok());
  auto stub = v1::Models::NewStub(Connect(*daemon));
  grpc::ClientContext c1, c2;
  v1::PlanModelRequest request;
  request.set_name("tiny");
  v1::MemoryPlan plan;
  ASSERT_TRUE(stub->PlanModel(&c1, request, &plan).ok());
  v1::GetModelRequest get;
  get.set_name("tiny");
  v1::Model model;
  ASSERT_TRUE(stub->GetModel(&c2, get, &model).ok());
  EXPECT_EQ(plan.use().weights_bytes(), model.memory().weights_bytes());
  EXPECT_EQ(plan.use().kv_cache_bytes(), model.memory().kv_cache_bytes());
  EXPECT_EQ(plan.use().workspace_bytes(), model.memory().workspace_bytes());
  EXPECT_EQ(plan.kv_blocks(), model.kv_blocks());
}

TEST(ServingTest, ACorruptModelFailsByNameAndTheOtherServesOn) {
  const std::string path = ::testing::TempDir() + "/quantd_truncated.gguf";
  {
    std::ifstream whole(quantd::testing::TinyModelPath(), std::ios::binary);
    std::string bytes(std::istreambuf_iterator<char>(whole), {});
    std::ofstream(path, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  }
  auto daemon = StartDaemon({TinyModel("bad", path), TinyModel("good", quantd::testing::TinyModelPath())});
  ASSERT_TRUE(daemon->WaitUntilReady().ok());
  auto stub = v1::Generation::NewStub(Connect(*daemon));
  v1::GenerateRequest request = Request(2);
  request.set_model("good");
  {
    grpc::ClientContext c;
    v1::GenerateResponse r;
    EXPECT_TRUE(stub->Generate(&c, request, &r).ok());
  }
  request.set_model("bad");
  grpc::ClientContext c;
  v1::GenerateResponse r;
  const grpc::Status status = stub->Generate(&c, request, &r);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReadDetails(status).reason, "MODEL_NOT_LOADED");
  EXPECT_THAT(httplib::Client("127.0.0.1", daemon->metrics_port()).Get("/metrics")->body,
              HasSubstr("quantd_model_state{model=\"bad\",state=\"failed\"} 1"));
}

TEST(ServingTest, DrainLetsTheRunningFinishAndRefusesTheNew) {
  auto daemon = StartDaemon({TinyModel("tiny", quantd::testing::TinyModelPath())});
  ASSERT_TRUE(daemon->WaitUntilReady().ok());
  auto stub = v1::Generation::NewStub(Connect(*daemon));
  grpc::ClientContext context;
  auto reader = stub->GenerateStream(&context, Request(40));
  v1::GenerateEvent event;
  ASSERT_TRUE(reader->Read(&event));  // accepted
  std::jthread drain([&] { daemon->Drain(std::chrono::seconds(20)); });
  uint32_t tokens = 0;
  while (reader->Read(&event)) tokens += static_cast<uint32_t>(event.delta().token_ids_size());
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 40u);
  drain.join();
  grpc::ClientContext late;
  v1::GenerateResponse response;
  EXPECT_EQ(stub->Generate(&late, Request(1), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace quantd
