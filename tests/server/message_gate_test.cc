// What a call may bring, over real gRPC.
#include "server/message_gate.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>

#include "tests/server/daemon_fixture.h"

namespace quantd {
namespace {
using ::testing::HasSubstr;

absl::Status OpenWith(MessageGate& gate, const std::string& bytes, v1::GenerateRequest& request,
                      MessageGate::Charge& charge) {
  const grpc::Slice slice(bytes);
  grpc::ByteBuffer buffer(&slice, 1);
  absl::StatusOr<MessageGate::Charge> opened = gate.Open(buffer, request);
  if (!opened.ok()) return opened.status();
  charge = *std::move(opened);
  return absl::OkStatus();
}

MessageGate Gate(MessageGate::Limits limits) {
  return MessageGate(limits, [](const std::string&, const absl::Status&) {});
}

TEST(MessageGateTest, OpensAMessageInOneSliceOrMany) {
  MessageGate gate = Gate({});
  v1::GenerateRequest sent;
  sent.set_text(std::string(100, 'x'));
  const std::string bytes = sent.SerializeAsString();
  for (size_t size : {bytes.size(), size_t{1}, size_t{7}}) {
    std::vector<grpc::Slice> slices;
    for (size_t at = 0; at < bytes.size(); at += size) slices.emplace_back(bytes.substr(at, size));
    grpc::ByteBuffer buffer(slices.data(), slices.size());
    v1::GenerateRequest request;
    ASSERT_TRUE(gate.Open(buffer, request).ok());
    EXPECT_EQ(request.text(), sent.text());
  }
}

TEST(MessageGateTest, RefusesWhatIsNoMessageAtAll) {
  MessageGate gate = Gate({});
  grpc::ByteBuffer nothing;
  v1::GenerateRequest request;
  const absl::Status status = gate.Open(nothing, request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "the request has no message");
}

TEST(MessageGateTest, AllOpenMessagesShareABudgetUntilTheyEnd) {
  v1::GenerateRequest sent;
  sent.set_text(std::string(10'000, 'x'));
  const std::string bytes = sent.SerializeAsString();
  MessageGate gate = Gate({.max_bytes = 1 << 20, .max_total_bytes = 35'000, .wire = {}});
  v1::GenerateRequest first, second;
  MessageGate::Charge charge, other;
  ASSERT_TRUE(OpenWith(gate, bytes, first, charge).ok());
  EXPECT_GE(gate.open_bytes(), 10'000);
  const absl::Status full = OpenWith(gate, bytes, second, other);  // as it was sent, beside it as a message
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(full), "OUT_OF_MEMORY");
  EXPECT_TRUE(GetRetryAfter(full).has_value());
  charge = MessageGate::Charge();
  EXPECT_TRUE(OpenWith(gate, bytes, second, other).ok());
  other = MessageGate::Charge();
  EXPECT_EQ(gate.open_bytes(), 0);
}

TEST(MessageGateTest, RefusesMoreThanItsBytes) {
  MessageGate gate = Gate({.max_bytes = 10, .max_total_bytes = 1 << 20, .wire = {}});
  v1::GenerateRequest request;
  MessageGate::Charge charge;
  const absl::Status status = OpenWith(gate, std::string(11, 'x'), request, charge);
  EXPECT_EQ(GetReason(status), "LIMIT");
  EXPECT_EQ(status.message(), "the request has more than 10 bytes");
}

class GatedCallTest : public quantd::testing::DaemonTest {
 protected:
  // A call as `context` sends it, to its end.
  grpc::Status Call(grpc::ClientContext& context, const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::CompletionQueue queue;
    auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }
};

TEST_F(GatedCallTest, ABombIsStoppedAtTheSizeOfARequestWhateverTheMethod) {
  v1::TokenizeRequest bomb;
  bomb.set_text(std::string(17 << 20, '\0'));
  const std::string bytes = bomb.SerializeAsString();
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    for (const char* method : {"/quantd.v1.Generation/Tokenize", "/quantd.v1.Generation/Generate",
                               "/quantd.v1.Models/ListModels", "/grpc.health.v1.Health/Check"}) {
      grpc::ClientContext context;
      context.set_compression_algorithm(algorithm);
      const grpc::Status status = Call(context, method, bytes);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << method;
      EXPECT_EQ(ReadDetails(status).reason, "LIMIT") << method;
      EXPECT_THAT(status.error_message(), HasSubstr("16777216 bytes when it is decompressed"));
    }
  }
}

TEST_F(GatedCallTest, ACompressedRequestIsRead) {
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(algorithm);
    v1::TokenizeRequest request;
    request.set_text(std::string(5000, 'a'));
    v1::TokenizeResponse response;
    const grpc::Status status = generation_->Tokenize(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.rendered(), request.text());
  }
}

}  // namespace
}  // namespace quantd
