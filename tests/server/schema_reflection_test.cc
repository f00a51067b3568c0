// Every kind of reflection request, over files of the test's own.
#include "server/schema_reflection.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <grpcpp/support/status.h>

namespace quantd {
namespace {
using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;
using ::testing::ElementsAre;

const FileDescriptor* Build(DescriptorPool& pool, const char* text) {
  FileDescriptorProto proto;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &proto));
  return pool.BuildFile(proto);
}

class SchemaReflectionTest : public ::testing::Test {
 protected:
  SchemaReflectionTest() {
    Build(pool_,
          R"(name: "base.proto" package: "t" message_type { name: "Base" extension_range { start: 100 end: 200 } })");
    Build(pool_, R"(name: "unseen.proto" package: "t" message_type { name: "Unseen" })");
    const FileDescriptor* service = Build(pool_, R"(name: "service.proto" package: "t" dependency: "base.proto"
      extension { name: "b" number: 120 label: LABEL_OPTIONAL type: TYPE_INT32 extendee: ".t.Base" }
      extension { name: "a" number: 110 label: LABEL_OPTIONAL type: TYPE_INT32 extendee: ".t.Base" }
      service { name: "S" method { name: "M" input_type: ".t.Base" output_type: ".t.Base" } })");
    schema_ = std::make_unique<SchemaReflection>(std::vector{service});
  }
  // The names of the files that come with an answer.
  static std::vector<std::string> Files(const ServerReflectionResponse& answer) {
    std::vector<std::string> names;
    for (const std::string& bytes : answer.file_descriptor_response().file_descriptor_proto()) {
      FileDescriptorProto file;
      EXPECT_TRUE(file.ParseFromString(bytes));
      names.push_back(file.name());
    }
    return names;
  }
  ServerReflectionResponse Extension(const char* type, int number) const {
    ServerReflectionRequest request;
    request.mutable_file_containing_extension()->set_containing_type(type);
    request.mutable_file_containing_extension()->set_extension_number(number);
    return schema_->Answer(request);
  }

  DescriptorPool pool_;
  std::unique_ptr<SchemaReflection> schema_;
};

TEST_F(SchemaReflectionTest, AFileComesWithItsImportsAndTheRequest) {
  ServerReflectionRequest request;
  request.set_host("here");
  request.set_file_by_filename("service.proto");
  const ServerReflectionResponse answer = schema_->Answer(request);
  EXPECT_THAT(Files(answer), ElementsAre("service.proto", "base.proto"));
  EXPECT_EQ(answer.valid_host(), "here");
  EXPECT_EQ(answer.original_request().SerializeAsString(), request.SerializeAsString());
}

TEST_F(SchemaReflectionTest, FindsTheFileOfEverySymbol) {
  ServerReflectionRequest request;
  for (const char* name : {"t.S", "t.S.M", "t.a"}) {
    request.set_file_containing_symbol(name);
    EXPECT_THAT(Files(schema_->Answer(request)), ElementsAre("service.proto", "base.proto")) << name;
  }
  request.set_file_containing_symbol("t.Base");
  EXPECT_THAT(Files(schema_->Answer(request)), ElementsAre("base.proto"));
}

TEST_F(SchemaReflectionTest, FindsExtensions) {
  EXPECT_THAT(Files(Extension("t.Base", 110)), ElementsAre("service.proto", "base.proto"));
  EXPECT_EQ(Extension("t.Base", 130).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Extension("t.None", 110).error_response().error_code(), grpc::StatusCode::NOT_FOUND);

  ServerReflectionRequest request;
  request.set_all_extension_numbers_of_type("t.Base");
  ServerReflectionResponse answer = schema_->Answer(request);
  EXPECT_THAT(answer.all_extension_numbers_response().extension_number(), ElementsAre(110, 120));
  EXPECT_EQ(answer.all_extension_numbers_response().base_type_name(), "t.Base");
  request.set_all_extension_numbers_of_type("t.S");  // a service, no message
  EXPECT_EQ(schema_->Answer(request).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(SchemaReflectionTest, ListsServices) {
  ServerReflectionRequest request;
  request.set_list_services("*");
  const ServerReflectionResponse answer = schema_->Answer(request);
  ASSERT_EQ(answer.list_services_response().service_size(), 1);
  EXPECT_EQ(answer.list_services_response().service(0).name(), "t.S");
}

TEST_F(SchemaReflectionTest, WhatIsNotThereIsAnErrorInTheAnswer) {
  ServerReflectionRequest request;
  request.set_file_by_filename("unseen.proto");  // in the pool that the files came from
  EXPECT_EQ(schema_->Answer(request).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  request.set_file_containing_symbol("t.Unseen");
  EXPECT_EQ(schema_->Answer(request).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(schema_->Answer(request).error_response().error_message(), "symbol not found: t.Unseen");
  EXPECT_EQ(schema_->Answer({}).error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace quantd
