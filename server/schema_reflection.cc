#include "server/schema_reflection.h"

#include <algorithm>
#include <set>
#include <string_view>

#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/support/status.h>

#include "base/check.h"
#include "base/strings.h"

namespace quantd {
namespace {
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

void AddFile(const FileDescriptor& file, std::set<const FileDescriptor*>& seen, ServerReflectionResponse& out) {
  if (!seen.insert(&file).second) return;
  FileDescriptorProto proto;
  file.CopyTo(&proto);
  proto.SerializeToString(out.mutable_file_descriptor_response()->add_file_descriptor_proto());
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), seen, out);
}

void SetError(grpc::StatusCode code, const std::string& message, ServerReflectionResponse& out) {
  out.mutable_error_response()->set_error_code(code);
  out.mutable_error_response()->set_error_message(message);
}

void SetFile(const FileDescriptor* file, std::string_view what, const std::string& name,
             ServerReflectionResponse& out) {
  if (file == nullptr) {
    return SetError(grpc::StatusCode::NOT_FOUND, absl::StrCat(ToAbsl(what), " not found: ", name), out);
  }
  std::set<const FileDescriptor*> seen;
  AddFile(*file, seen, out);
}

}  // namespace

SchemaReflection::SchemaReflection(const std::vector<const FileDescriptor*>& files) {
  for (const FileDescriptor* file : files) {
    Copy(*file);
    for (int i = 0; i < file->service_count(); ++i) services_.push_back(file->service(i)->full_name());
  }
  std::sort(services_.begin(), services_.end());
}

void SchemaReflection::Copy(const FileDescriptor& file) {
  if (pool_.FindFileByName(file.name()) != nullptr) return;
  for (int i = 0; i < file.dependency_count(); ++i) Copy(*file.dependency(i));
  FileDescriptorProto proto;
  file.CopyTo(&proto);
  QD_CHECK(pool_.BuildFile(proto) != nullptr);
}

ServerReflectionResponse SchemaReflection::Answer(const ServerReflectionRequest& request) const {
  ServerReflectionResponse out;
  out.set_valid_host(request.host());
  *out.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kFileByFilename:
      SetFile(pool_.FindFileByName(request.file_by_filename()), "file", request.file_by_filename(), out);
      break;
    case ServerReflectionRequest::kFileContainingSymbol:
      SetFile(pool_.FindFileContainingSymbol(request.file_containing_symbol()), "symbol",
              request.file_containing_symbol(), out);
      break;
    case ServerReflectionRequest::kFileContainingExtension: {
      const std::string& type = request.file_containing_extension().containing_type();
      const int number = request.file_containing_extension().extension_number();
      const Descriptor* extended = pool_.FindMessageTypeByName(type);
      const FieldDescriptor* field = extended == nullptr ? nullptr : pool_.FindExtensionByNumber(extended, number);
      SetFile(field == nullptr ? nullptr : field->file(), "extension", absl::StrCat(type, " ", number), out);
      break;
    }
    case ServerReflectionRequest::kAllExtensionNumbersOfType: {
      const std::string& type = request.all_extension_numbers_of_type();
      const Descriptor* extended = pool_.FindMessageTypeByName(type);
      if (extended == nullptr) {
        SetError(grpc::StatusCode::NOT_FOUND, absl::StrCat("type not found: ", type), out);
        break;
      }
      auto& numbers = *out.mutable_all_extension_numbers_response();
      numbers.set_base_type_name(type);
      std::vector<const FieldDescriptor*> fields;
      pool_.FindAllExtensions(extended, &fields);
      for (const FieldDescriptor* field : fields) numbers.add_extension_number(field->number());
      std::sort(numbers.mutable_extension_number()->begin(), numbers.mutable_extension_number()->end());
      break;
    }
    case ServerReflectionRequest::kListServices:
      out.mutable_list_services_response();
      for (const std::string& name : services_) out.mutable_list_services_response()->add_service()->set_name(name);
      break;
    case ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
      SetError(grpc::StatusCode::INVALID_ARGUMENT, "the request asks for nothing", out);
      break;
  }
  return out;
}

}  // namespace quantd
