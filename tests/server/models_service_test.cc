// The read side of quantd.v1.Models over real gRPC.
#include "server/models_service.h"

#include <filesystem>

#include <gmock/gmock.h>

#include "quantd/v1/models.grpc.pb.h"
#include "server/status.h"
#include "tests/server/daemon_fixture.h"

namespace quantd {
namespace {
using quantd::testing::DaemonTest;
using ::testing::HasSubstr;

using ModelsServiceTest = DaemonTest;

TEST_F(ModelsServiceTest, AListThatNoDefaultClientTakesIsRefusedByName) {
  registry_->listed = 40'000;
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  const grpc::Status status = v1::Models::NewStub(channel_)->ListModels(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReadDetails(status).reason, "LIMIT");
  EXPECT_THAT(status.error_message(), HasSubstr("GetModel"));
}

TEST_F(ModelsServiceTest, ModelsAreListedAndPlanned) {
  ASSERT_TRUE(daemon_->WaitUntilReady().ok());
  auto models = v1::Models::NewStub(channel_);
  {
    grpc::ClientContext c;
    v1::ListModelsResponse r;
    ASSERT_TRUE(models->ListModels(&c, {}, &r).ok());
    ASSERT_EQ(r.models_size(), 1);
    EXPECT_EQ(r.models(0).state(), v1::MODEL_STATE_READY);
    EXPECT_EQ(r.models(0).memory().weights_bytes(), 1000u);
    EXPECT_EQ(r.models(0).memory().peak_bytes(), 1300u);
  }
  {
    grpc::ClientContext c;
    v1::GetModelRequest q;
    q.set_name("none");
    v1::Model r;
    EXPECT_EQ(models->GetModel(&c, q, &r).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  const auto plan = [&](const std::string& path, v1::MemoryPlan& r) {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.mutable_spec()->set_path(path);
    return models->PlanModel(&c, q, &r);
  };
  v1::MemoryPlan r;
  {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.set_name("tiny");
    ASSERT_TRUE(models->PlanModel(&c, q, &r).ok());
    EXPECT_THAT(r.explanation(), HasSubstr("of which 0 ")) << "what the model itself takes would be free for it";
  }
  {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.mutable_spec()->set_path(quantd::testing::TinyModelPath());
    q.mutable_spec()->add_devices("cuda:0");
    const grpc::Status s = models->PlanModel(&c, q, &r);
    EXPECT_EQ(s.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(ReadDetails(s).fields[0].first, "spec.devices");
  }
  ASSERT_TRUE(plan(quantd::testing::TinyModelPath(), r).ok());
  EXPECT_TRUE(r.fits());
  EXPECT_EQ(r.use().kv_cache_bytes(), 200u);
  EXPECT_EQ(r.max_cached_tokens(), 320u);
  EXPECT_EQ(r.concurrent_at_max_context(), 5u);
  // Outside the roots: the same answer whether or not it is there.
  for (const char* path : {"/etc/passwd", "/no/such/file"}) {
    const grpc::Status s = plan(path, r);
    EXPECT_EQ(s.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(ReadDetails(s).fields[0].first, "spec.path");
  }
  EXPECT_FALSE(plan(quantd::testing::TinyModelPath() + "/../../../../CMakeLists.txt", r).ok());
}

class ModelRootsTest : public DaemonTest {
 protected:
  void SetUp() override {
    model_roots_ = {files_.path() + "/models"};
    for (const char* folder : {"/models/sub", "/models2"}) std::filesystem::create_directories(files_.path() + folder);
    for (const char* file : {"/models/sub/a.gguf", "/models2/b.gguf"}) {
      std::filesystem::copy_file(quantd::testing::TinyModelPath(), files_.path() + file);
    }
    std::filesystem::create_symlink(files_.path() + "/models2/b.gguf", files_.path() + "/models/out.gguf");
    DaemonTest::SetUp();
  }
  grpc::StatusCode Plan(const std::string& path) {
    grpc::ClientContext c;
    v1::PlanModelRequest q;
    q.mutable_spec()->set_path(files_.path() + path);
    v1::MemoryPlan r;
    return v1::Models::NewStub(channel_)->PlanModel(&c, q, &r).error_code();
  }
};

TEST_F(ModelRootsTest, WhatLiesBelowARootIsPlannedAndNothingElse) {
  EXPECT_EQ(Plan("/models/sub/a.gguf"), grpc::StatusCode::OK);
  EXPECT_EQ(Plan("/models/sub/../sub/a.gguf"), grpc::StatusCode::OK);
  for (const char* outside : {"/models2/b.gguf", "/models/../models2/b.gguf", "/models/out.gguf", "/none"}) {
    EXPECT_EQ(Plan(outside), grpc::StatusCode::INVALID_ARGUMENT) << outside;
  }
}

}  // namespace
}  // namespace quantd
