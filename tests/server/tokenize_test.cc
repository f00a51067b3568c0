// The bounds of Tokenize and Detokenize, with a vocabulary of the test's own.
#include "server/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "server/answer_size.h"
#include "server/convert.h"
#include "tests/server/fakes.h"

namespace quantd {
namespace {
using ::testing::HasSubstr;

// "a" is id 0, a token of 64 bytes id 1.
testing::FakeHandle Model() {
  Checkpoint checkpoint;
  checkpoint.config_json =
      R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8,
          "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 64})";
  auto tokenizer = ParseTokenizerJson(R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
      "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "merges": [], "vocab": {"a": 0, ")" +
                                          std::string(64, 'b') + "\": 1}}}",
                                      {});
  QD_CHECK(tokenizer.ok());
  checkpoint.tokenizer = *std::move(tokenizer);
  auto codec = TextCodec::Create(checkpoint);
  QD_CHECK(codec.ok());
  return testing::FakeHandle("m", *std::move(codec));
}

TEST(TokenizeTest, BoundsItsText) {
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  request.set_text(std::string(kMaxTokenizeBytes + 1, 'a'));
  absl::Status status = Tokenize(Model(), request, response);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetField(status), "text");
  request.mutable_chat()->add_messages()->set_content(std::string(kMaxTokenizeBytes, 'a'));
  status = Tokenize(Model(), request, response);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetField(status), "chat");
  status = Tokenize(Model(), {}, response);
  EXPECT_EQ(GetField(status), "input");
}

TEST(TokenizeTest, AChatIsRefusedAtThePathOfItsField) {
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  request.mutable_chat()->add_messages();
  EXPECT_EQ(GetField(Tokenize(Model(), request, response)), "chat.messages[0].role");
  request.mutable_chat()->mutable_messages(0)->set_role("user");
  (*request.mutable_chat()->mutable_template_args()->mutable_fields())["a"];
  EXPECT_EQ(GetField(Tokenize(Model(), request, response)), "chat.template_args.a");
  request.mutable_chat()->clear_template_args();
  request.mutable_chat()->add_tools()->set_name("f");
  EXPECT_EQ(GetField(Tokenize(testing::FakeHandle("m"), request, response)), "chat.tools");
}

TEST(TokenizeTest, AStoppedRequestIsCancelled) {
  v1::TokenizeRequest request;
  v1::TokenizeResponse response;
  request.set_text(std::string(kMaxTokenizeBytes, 'a') + "");
  EXPECT_EQ(Tokenize(Model(), request, response, [] { return true; }).code(), absl::StatusCode::kCancelled);
}

TEST(TokenizeTest, OffsetsAndTextCanBeLeftOut) {
  v1::TokenizeRequest request;
  request.set_text("aaa");
  v1::TokenizeResponse all, some;
  ASSERT_TRUE(Tokenize(Model(), request, all).ok());
  EXPECT_EQ(all.byte_offsets_size(), 3);
  EXPECT_EQ(all.rendered(), "aaa");
  request.set_byte_offsets(false);
  request.set_rendered(false);
  ASSERT_TRUE(Tokenize(Model(), request, some).ok());
  EXPECT_EQ(some.ids_size(), 3);
  EXPECT_EQ(some.byte_offsets_size(), 0);
  EXPECT_EQ(some.rendered(), "");
}

TEST(DetokenizeTest, BoundsItsIdsAndItsAnswer) {
  v1::DetokenizeRequest request;
  v1::DetokenizeResponse response;
  for (size_t i = 0; i < kMaxAnswerBytes / 64 - 1; ++i) request.add_ids(1);
  EXPECT_TRUE(Detokenize(Model(), request, response).ok());
  EXPECT_EQ(response.text().size(), kMaxAnswerBytes - 64);
  request.add_ids(1);  // its text alone is the bound
  absl::Status status = Detokenize(Model(), request, response);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("send fewer ids"));

  request.mutable_ids()->Resize(kMaxDetokenizeIds + 1, 0);
  status = Detokenize(Model(), request, response);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetField(status), "ids");
}

}  // namespace
}  // namespace quantd
