// A model whose files are truncated, corrupted or do not match fails alone, with its documented error; the daemon
// serves on.
#include <filesystem>
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "quantd/v1/generation.grpc.pb.h"
#include "quantd/v1/models.grpc.pb.h"
#include "server/daemon.h"
#include "server/status.h"
#include "tests/server/fakes.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/temp_dir.h"

namespace quantd {
namespace {
using quantd::testing::LittleEndian;
using quantd::testing::SourcePath;
using quantd::testing::TempDir;
using ::testing::HasSubstr;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Where `from` stands, at one place alone, stands `to`.
std::string Replaced(std::string bytes, std::string_view from, std::string_view to) {
  const size_t at = bytes.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  EXPECT_EQ(bytes.find(from, at + 1), std::string::npos) << from;
  return bytes.replace(at, from.size(), to);
}

// A whole HF checkpoint: a tiny Llama with a vocabulary of 64, and a tokenizer of its first ids.
void WriteHfCheckpoint(const std::string& folder) {
  std::filesystem::create_directories(folder);
  for (const char* name : {"config.json", "generation_config.json", "model.safetensors"}) {
    std::filesystem::copy_file(SourcePath("tests/goldens/tiny_llama/gqa1_f32/") + name, folder + "/" + name);
  }
  std::ofstream(folder + "/tokenizer.json")
      << R"({"version":"1.0","added_tokens":[],"normalizer":null,"post_processor":null,)"
         R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},)"
         R"("decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},)"
         R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"d":3},"merges":[]}})";
}

struct Damage {
  const char* name;  // of the model
  const char* file;  // of an HF checkpoint; "" = the GGUF file
  std::string (*of)(std::string whole);
  const char* message;  // a part of it
};

const Damage kDamages[] = {
    {"gguf-truncated", "", [](std::string w) { return w.substr(0, w.size() / 2); }, "in a file of"},
    {"gguf-cut-by-a-byte", "", [](std::string w) { return w.substr(0, w.size() - 1); }, "in a file of"},
    {"gguf-corrupted-count", "", [](std::string w) { return w.replace(8, 8, LittleEndian(~uint64_t{0})); },
     "tensors, at most"},
    {"gguf-corrupted-name", "", [](std::string w) { return Replaced(w, "blk.0.attn_q.weight", "blk.0.attn_q.weighx"); },
     "attn_q"},
    {"gguf-mismatched", "",  // other sizes than its tensors have
     [](std::string w) {
       const std::string key = "llama.feed_forward_length";
       const size_t at = w.find(key);
       EXPECT_NE(at, std::string::npos);
       return w.replace(at + key.size() + 4, 4, LittleEndian(uint32_t{32}));
     },
     "expected"},
    {"safetensors-truncated", "model.safetensors", [](std::string w) { return w.substr(0, w.size() / 2); },
     "model.safetensors"},
    {"safetensors-cut-by-a-byte", "model.safetensors", [](std::string w) { return w.substr(0, w.size() - 1); },
     "model.safetensors"},
    {"safetensors-corrupted-length", "model.safetensors",
     [](std::string w) { return w.replace(0, 8, LittleEndian(~uint64_t{0})); }, "model.safetensors"},
    {"safetensors-corrupted-header", "model.safetensors", [](std::string w) { return w.replace(8, 1, "["); },
     "model.safetensors"},
    {"safetensors-not-finite", "model.safetensors",
     [](std::string w) { return w.replace(w.size() - 4, 4, std::string(4, '\xff')); }, "expected a finite one"},
    {"safetensors-mismatched", "config.json",
     [](std::string w) { return Replaced(w, "\"intermediate_size\": 64", "\"intermediate_size\": 96"); }, "expected"},
    {"safetensors-corrupted-config", "config.json", [](std::string w) { return w.substr(0, w.size() / 2); },
     "config.json"},
    {"safetensors-negative-token", "tokenizer.json", [](std::string w) { return Replaced(w, "\"d\":3", "\"d\":-9"); },
     "token 'd' with id -9"},
};

std::shared_ptr<grpc::Channel> Connect(Daemon& daemon) {
  return grpc::CreateChannel("127.0.0.1:" + std::to_string(daemon.grpc_port()), grpc::InsecureChannelCredentials());
}

class BadModelsTest : public ::testing::Test {
 protected:
  ModelOptions Model(const std::string& name, const std::string& path) {
    ModelOptions model;
    model.name = name;
    model.spec.path = path;
    model.spec.kv_cache_bytes = 1 << 20;
    model.spec.max_batch_tokens = 32;
    model.spec.max_sequences = 4;
    return model;
  }
  grpc::Status Generate(const std::string& model) {
    grpc::ClientContext context;
    v1::GenerateRequest request;
    request.set_model(model);
    request.mutable_tokens()->add_ids(1);
    request.mutable_stopping()->set_max_new_tokens(2);
    request.mutable_stopping()->set_ignore_eos(true);
    v1::GenerateResponse response;
    return v1::Generation::NewStub(channel_)->Generate(&context, request, &response);
  }

  TempDir folder_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(BadModelsTest, EachFailsWithItsErrorAndTheGoodOnesServe) {
  ServerOptions options;
  options.listen.port = options.metrics_listen.port = 0;
  options.registry.backend_options.threads = 1;
  for (const Damage& d : kDamages) {
    std::string path;
    if (*d.file == '\0') {
      path = folder_.Write(std::string(d.name) + ".gguf", d.of(ReadFile(quantd::testing::TinyModelPath())));
    } else {
      path = folder_.path() + "/" + d.name;
      WriteHfCheckpoint(path);
      const std::string file = path + "/" + d.file, bytes = d.of(ReadFile(file));
      std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    }
    options.models.push_back(Model(d.name, path));
  }
  const std::string good = folder_.path() + "/good";
  WriteHfCheckpoint(good);
  options.models.push_back(Model("good-safetensors", good));
  options.models.insert(options.models.begin(), Model("good-gguf", quantd::testing::TinyModelPath()));

  auto daemon = Daemon::Start(options);
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  ASSERT_TRUE((*daemon)->WaitUntilReady().ok());
  channel_ = Connect(**daemon);
  auto models = v1::Models::NewStub(channel_);
  for (const Damage& d : kDamages) {
    SCOPED_TRACE(d.name);
    const absl::StatusOr<ModelInfo> info = (*daemon)->registry().Get(d.name);
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->failure.code(), absl::StatusCode::kDataLoss) << info->failure;
    EXPECT_EQ(ReasonOf(info->failure), "CHECKPOINT_CORRUPT");
    EXPECT_EQ(info->memory.total(), 0) << "nothing of it stays";

    grpc::ClientContext context;
    v1::GetModelRequest get;
    get.set_name(d.name);
    v1::Model model;
    ASSERT_TRUE(models->GetModel(&context, get, &model).ok());
    EXPECT_EQ(model.state(), v1::MODEL_STATE_FAILED);
    EXPECT_THAT(model.failure(), HasSubstr(d.message));
    EXPECT_FALSE(model.failure().empty());

    const grpc::Status status = Generate(d.name);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(ReadDetails(status).reason, "MODEL_NOT_LOADED");
    EXPECT_THAT(status.error_message(), HasSubstr(model.failure()));
    const grpc::Status served = Generate("good-gguf");
    EXPECT_TRUE(served.ok()) << served.error_message();
  }
  EXPECT_TRUE(Generate("good-safetensors").ok());
}

// Weights of 3.4e38 are finite and what they compute is not, which is found out request by request.
TEST_F(BadModelsTest, ValuesThatAreNotFiniteFailTheirRequestsAndNobodyElses) {
  const std::string path = folder_.path() + "/nan", file = path + "/model.safetensors";
  WriteHfCheckpoint(path);
  std::string bytes = ReadFile(file);
  bytes.replace(bytes.size() - 64, 64, std::string(64, '\x7f'));
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  ServerOptions options;
  options.listen.port = options.metrics_listen.port = 0;
  options.registry.backend_options.threads = 1;
  options.models = {Model("bad", path), Model("good", quantd::testing::TinyModelPath())};
  auto daemon = Daemon::Start(options);
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  ASSERT_TRUE((*daemon)->WaitUntilReady().ok());
  channel_ = Connect(**daemon);
  const grpc::Status status = Generate("bad");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(ReadDetails(status).reason, "NAN_LOGITS");
  EXPECT_TRUE(Generate("good").ok());
}

}  // namespace
}  // namespace quantd
