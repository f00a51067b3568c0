// grpc.reflection.v1 and v1alpha: one protocol under two names, of which clients know one or the other. Instead of
// gRPC's library, which has v1alpha alone, keeps every unknown name that it is asked for, and has no bounds.
#pragma once

#include <set>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "base/mutex.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/message_gate.h"
#include "server/schema_reflection.h"

namespace quantd {

class ReflectionService {
 public:
  static constexpr size_t kMaxRequestBytes = 4096;
  static constexpr int kMaxRequests = 10'000;  // of one stream; a client that wants the whole schema asks less than 100

  ReflectionService(const std::vector<const google::protobuf::FileDescriptor*>& files, MessageGate& gate)
      : schema_(files), gate_(gate) {}
  void RegisterWith(grpc::ServerBuilder& builder);  // lives longer than the server
  // Ends the streams, which would otherwise hold the server until its shutdown deadline. New ones end at once.
  void CloseStreams() QD_EXCLUDES(mutex_);

 private:
  class Stream;
  using Bytes = grpc::ByteBuffer;
  // As bytes, so that a request is measured before it is parsed, and both names share one stream.
  template <typename Base>
  class Named final : public Base {
   public:
    explicit Named(ReflectionService& service) : service_(service) {}
    grpc::ServerBidiReactor<Bytes, Bytes>* ServerReflectionInfo(grpc::CallbackServerContext*) override {
      return service_.Open();
    }

   private:
    ReflectionService& service_;
  };
  using V1 = grpc::reflection::v1::ServerReflection;
  using V1Alpha = grpc::reflection::v1alpha::ServerReflection;

  grpc::ServerBidiReactor<Bytes, Bytes>* Open() QD_EXCLUDES(mutex_);

  const SchemaReflection schema_;
  MessageGate& gate_;
  Named<V1::WithRawCallbackMethod_ServerReflectionInfo<V1::Service>> v1_{*this};
  Named<V1Alpha::WithRawCallbackMethod_ServerReflectionInfo<V1Alpha::Service>> v1alpha_{*this};
  Mutex mutex_;
  std::set<Stream*> streams_ QD_GUARDED_BY(mutex_);  // each removes itself when it is done
  bool closed_ QD_GUARDED_BY(mutex_) = false;
};

}  // namespace quantd
