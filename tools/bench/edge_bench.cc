// What the edge costs a call: the same unary call to the same service, over gRPC's own listener and through the edge,
// in turns, so that both see the same machine. Both run in this process, over loopback.
//
// usage: edge_bench [CALLS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "base/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/edge/edge.h"
#include "server/health_service.h"
#include "server/message_gate.h"

namespace {
using namespace quantd;

constexpr int kRounds = 10;

class Server {
 public:
  explicit Server(bool with_edge) {
    health_.Set("", /*serving=*/true);
    grpc::ServerBuilder builder;
    builder.RegisterService(&health_);
    int port = 0;
    if (with_edge) {
      using Builder = grpc::ServerBuilder::experimental_type;
      acceptor_ = builder.experimental().AddExternalConnectionAcceptor(Builder::ExternalConnectionType::FROM_FD,
                                                                       grpc::InsecureServerCredentials());
      edge_ = *Edge::Listen({"127.0.0.1", 0}, {});
      port = edge_->address().port;
    } else {
      builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    }
    server_ = builder.BuildAndStart();
    if (with_edge) {
      edge_->Start([this](int fd) {
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
        connection.listener_fd = -1;
        connection.fd = fd;
        acceptor_->HandleNewConnection(&connection);
      });
    }
    stub_ = grpc::health::v1::Health::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  }
  ~Server() {
    if (edge_ != nullptr) edge_->StopAccepting(Duration::max());
    server_->Shutdown();
    server_.reset();
  }

  // Microseconds of each of so many calls, one after the other.
  void Measure(int calls, std::vector<double>& us) {
    for (int i = 0; i < calls; ++i) {
      grpc::ClientContext context;
      grpc::health::v1::HealthCheckResponse response;
      const TimePoint begin = Now();
      if (!stub_->Check(&context, {}, &response).ok()) std::abort();
      us.push_back(1e6 * ToSeconds(Now() - begin));
    }
  }

 private:
  MessageGate gate_{{}, [](const std::string&, const absl::Status&) {}};
  HealthService health_{gate_};
  std::unique_ptr<Edge> edge_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
};

double Percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p * static_cast<double>(values.size() - 1))];
}

}  // namespace

int main(int argc, char** argv) {
  const int calls = argc > 1 ? std::max(1, std::atoi(argv[1])) : 1000;
  Server direct(/*with_edge=*/false), edged(/*with_edge=*/true);
  std::vector<double> direct_us, edged_us, warm_up;
  direct.Measure(calls / 10 + 1, warm_up);
  edged.Measure(calls / 10 + 1, warm_up);
  for (int round = 0; round < kRounds; ++round) {
    direct.Measure(calls, direct_us);
    edged.Measure(calls, edged_us);
  }
  std::printf("unary call, %d of each, microseconds: p50 p90 p99\n", kRounds * calls);
  for (const auto& [name, us] : {std::pair{"gRPC alone", &direct_us}, std::pair{"with the edge", &edged_us}}) {
    std::printf("%-14s %7.1f %7.1f %7.1f\n", name, Percentile(*us, 0.5), Percentile(*us, 0.9), Percentile(*us, 0.99));
  }
  return 0;
}
