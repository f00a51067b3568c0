#include "server/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quantd {
namespace {
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ConfigTest, SetsWhatItSaysAndLeavesTheRest) {
  ServerOptions options;
  EXPECT_THAT(ParseConfig(R"(
listen: 0.0.0.0:9000
drain_timeout: 2m
backend: reference
memory_budget: 1.5GiB
max_receive_bytes: 1MiB
request_memory: 2GiB
reflection: false
outbox: {messages: 8, bytes: 64KiB}
model_roots: [/models, /more]
models:
  - path: /models/SmolLM2.Q4_1.gguf
    quantize: int8_weight_only
    kv_cache_dtype: int8
    kv_cache_bytes: 64MiB
    activations: bf16
    max_waiting_requests: 7
    rules:
      - {pattern: "*down_proj*", weights: bf16}
  - {name: b, path: /models/b}
)",
                          options),
              IsEmpty());
  EXPECT_EQ(ToString(options.listen), "0.0.0.0:9000");
  EXPECT_EQ(ToString(options.metrics_listen), "127.0.0.1:9464") << "a default that the file does not name";
  EXPECT_EQ(options.drain_timeout, std::chrono::minutes(2));
  EXPECT_EQ(options.registry.memory_budget_bytes, int64_t{3} << 29);
  EXPECT_EQ(options.max_receive_bytes, 1 << 20);
  EXPECT_EQ(options.request_memory_bytes, int64_t{2} << 30);
  EXPECT_FALSE(options.reflection);
  EXPECT_EQ(options.outbox.bytes, 65536u);
  EXPECT_THAT(options.model_roots, ElementsAre("/models", "/more"));
  ASSERT_EQ(options.models.size(), 2u);
  const ModelOptions& m = options.models[0];
  EXPECT_EQ(m.name, "SmolLM2.Q4_1");
  EXPECT_EQ(m.spec.keys, KvFormat::kInt8);
  EXPECT_EQ(m.spec.values, KvFormat::kInt8);
  EXPECT_EQ(m.spec.kv_cache_bytes, 64 << 20);
  EXPECT_EQ(m.spec.activations, DType::kBF16);
  EXPECT_EQ(m.queue.max_waiting_requests, 7);
  EXPECT_THAT(m.spec.rules, ElementsAre(std::pair<std::string, std::string>("*down_proj*", "bf16")));
}

TEST(ConfigTest, SetsTheBoundsOfTheEdge) {
  ServerOptions options;
  EXPECT_THAT(ParseConfig("listen: unix:/run/quantd.sock\n"
                          "max_connections: 100\n"
                          "max_connections_per_peer: 7\n"
                          "max_open_streams: 1000\n"
                          "max_concurrent_streams: 12\n"
                          "receive_budget: 64MiB\n"
                          "send_budget: 2MiB\n"
                          "receive_timeout: 5s\n"
                          "quiet_time: 3s\n"
                          "handshake_timeout: 500ms\n",
                          options),
              IsEmpty());
  EXPECT_EQ(options.listen.unix_path, "/run/quantd.sock");
  EXPECT_EQ(options.edge.max_connections, 100);
  EXPECT_EQ(options.edge.max_connections_per_peer, 7);
  EXPECT_EQ(options.edge.max_open_streams, 1000);
  EXPECT_EQ(options.edge.max_streams, 12);
  EXPECT_EQ(options.edge.receive_budget, 64 << 20);
  EXPECT_EQ(options.edge.send_budget, 2 << 20);
  EXPECT_EQ(options.edge.receive_timeout, std::chrono::seconds(5));
  EXPECT_EQ(options.edge.quiet_time, std::chrono::seconds(3));
  EXPECT_EQ(options.edge.handshake_timeout, std::chrono::milliseconds(500));
  EXPECT_THAT(ParseConfig("max_connections: 0\nreceive_timeout: 0\nmetrics_listen: unix:/run/m\n", options),
              ElementsAre(HasSubstr("line 1: max_connections"), HasSubstr("line 2: receive_timeout"),
                          HasSubstr("line 3: metrics_listen")));
  EXPECT_THAT(ParseConfig("max_receive_bytes: 256MiB\n", options),
              ElementsAre(HasSubstr("receive_budget is 64.0 MiB, less than one message (max_receive_bytes)")));
}

TEST(ConfigTest, FindsAllErrorsAtOnceWithTheirLines) {
  ServerOptions options;
  EXPECT_THAT(ParseConfig("lissten: 1:2\n"
                          "listen: nowhere\n"
                          "models:\n"
                          "  - {name: 'a b', quantise: int8_weight_only}\n"
                          "codec_threads: 0\n",
                          options),
              ElementsAre("line 1: unknown key \"lissten\" in the configuration; did you mean \"listen\"?",
                          HasSubstr("line 2: listen: \"nowhere\" is no address"),
                          HasSubstr("did you mean \"quantize\"?"), HasSubstr("path is missing"),
                          HasSubstr("\"a b\" is no model name"), HasSubstr("line 5: codec_threads: \"0\": expected")));
}

TEST(ConfigTest, RefusesWhatOnlyALoadWouldFind) {
  ServerOptions options;
  EXPECT_THAT(ParseConfig("backend: tpu\n"
                          "max_receive_bytes: 2GiB\n"
                          "models:\n"
                          "  - path: /m\n"
                          "    max_context: 1\n"
                          "    rules:\n"
                          "      - pattern: '*down_proj*'\n"
                          "      - {weights: bf16}\n"
                          "model_roots: [[a]]\n",
                          options),
              ElementsAre("line 1: backend: \"tpu\" is no backend: expected cpu or reference",
                          "line 2: max_receive_bytes: \"2GiB\": expected 1.0 KiB to 1.0 GiB",
                          HasSubstr("line 5: max_context: \"1\": expected a whole number from 2 to"),
                          "line 7: rules: weights is missing", "line 8: rules: pattern is missing",
                          "line 9: model_roots: expected one folder"));
}

TEST(ConfigTest, BrokenYamlNamesTheLine) {
  ServerOptions options;
  EXPECT_THAT(ParseConfig("a: [1,\nb: }\n", options), ElementsAre(HasSubstr("line 2: ")));
  EXPECT_THAT(ParseConfig("- 1\n", options), ElementsAre(HasSubstr("no mapping")));
  EXPECT_THAT(ReadConfig("/nowhere/at/all.yaml", options),
              ElementsAre("cannot read /nowhere/at/all.yaml: No such file or directory"));
  EXPECT_THAT(ReadConfig("/", options), ElementsAre("cannot read /: Is a directory"));
}

TEST(ConfigTest, ASecondDocumentIsRefusedWithItsLine) {
  for (const char* yaml :
       {"threads: 2\n---\nthreads: 3\n", "threads: 2\n...\n---\nthreads: 3", "---\nthreads: 2\n---\n7"}) {
    ServerOptions options;
    EXPECT_THAT(ParseConfig(yaml, options), ElementsAre(AllOf(HasSubstr("line "), HasSubstr("a second document"))))
        << yaml;
  }
  for (const char* yaml : {"---\nthreads: 2\n", "threads: 2\n---\n", "# nothing\n---\nthreads: 2\n...\n"}) {
    ServerOptions options;
    EXPECT_THAT(ParseConfig(yaml, options), IsEmpty()) << yaml;
    EXPECT_EQ(options.registry.backend_options.threads, 2) << yaml;
  }
}

TEST(ConfigTest, AFarWordIsNoSuggestion) { EXPECT_EQ(Nearest("zzzzzzzz", {"listen", "models"}), ""); }

TEST(OptionsTest, Units) {
  EXPECT_EQ(*ParseBytes("4096"), 4096);
  EXPECT_EQ(*ParseBytes("64MiB"), 64 << 20);
  EXPECT_EQ(*ParseBytes("64 mib"), 64 << 20);
  EXPECT_EQ(*ParseBytes("1.5GB"), 1'500'000'000);
  for (const char* bad : {"", "MiB", "-1", "1XB", "1e30TiB", "99999999TiB", "nan"})
    EXPECT_FALSE(ParseBytes(bad).ok()) << bad;
  EXPECT_EQ(*ParseDuration("500ms"), std::chrono::milliseconds(500));
  EXPECT_EQ(*ParseDuration("2"), std::chrono::seconds(2));
  EXPECT_FALSE(ParseDuration("2 weeks").ok());
  EXPECT_EQ(FormatBytes(98 << 20), "98.0 MiB");
  EXPECT_EQ(ParseHostPort("[::1]:80")->host, "::1");
  EXPECT_EQ(ToString(*ParseHostPort("[::1]:80")), "[::1]:80");
  for (const char* bad : {"8001", ":1", "h:", "h:70000", "h:x"}) EXPECT_FALSE(ParseHostPort(bad).ok()) << bad;
  EXPECT_EQ(DefaultModelName("/a/b c.gguf"), "b-c");
  EXPECT_EQ(DefaultModelName("/a/Llama/"), "Llama");
}

TEST(OptionsTest, ListenAddresses) {
  EXPECT_EQ(ToString(*ParseListenAddress("127.0.0.1:8001")), "127.0.0.1:8001");
  EXPECT_EQ(ToString(*ParseListenAddress("unix:/run/quantd.sock")), "unix:/run/quantd.sock");
  EXPECT_EQ(ParseListenAddress("unix-abstract:quantd")->unix_path, "@quantd");
  EXPECT_TRUE(ParseListenAddress("unix:/" + std::string(106, 'x')).ok());
  for (const std::string& bad :
       {std::string("unix:"), std::string("unix:relative"), std::string("unix:/run/"), std::string("unix-abstract:"),
        std::string("unix:/a\0b", 8), "unix:/" + std::string(107, 'x')}) {
    EXPECT_FALSE(ParseListenAddress(bad).ok()) << bad;
  }
  EXPECT_FALSE(ParseHostPort("unix:/run/quantd.sock").ok()) << "only the data port listens there";
}

}  // namespace
}  // namespace quantd
