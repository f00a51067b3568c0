// SchemaReflection: answers the questions of gRPC's reflection protocol (grpc/reflection/v1/reflection.proto) about
// given proto files and what they import.
#pragma once

#include <string>
#include <vector>

#include <google/protobuf/descriptor.h>

#include "grpc/reflection/v1/reflection.pb.h"

namespace quantd {

class SchemaReflection {
 public:
  // list_services gives the services of `files`. They are copied with all that they import, which is what makes unknown
  // names free: a pool of generated code keeps each unknown name that it was ever asked for.
  explicit SchemaReflection(const std::vector<const google::protobuf::FileDescriptor*>& files);

  // Any thread. What is not found is NOT_FOUND in error_response, a request that asks for nothing INVALID_ARGUMENT.
  // Files come with all that they import, whatever was sent before.
  grpc::reflection::v1::ServerReflectionResponse Answer(
      const grpc::reflection::v1::ServerReflectionRequest& request) const;

 private:
  void Copy(const google::protobuf::FileDescriptor& file);

  std::vector<std::string> services_;  // full names, sorted
  google::protobuf::DescriptorPool pool_;
};

}  // namespace quantd
