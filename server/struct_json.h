// google.protobuf.Struct to JSON text that is the same for equal structs.
#pragma once

#include <string>

#include <absl/status/statusor.h>
#include <google/protobuf/struct.pb.h>

namespace quantd {

// Keys of every object in the order of their bytes: a map of protobuf has no order of its own, neither on the wire nor
// in memory. A number without a fraction below 2^53 is an integer. InvalidArgument FIELD_INVALID at the path of a value
// below `field`: it is no finite number, or no value at all.
absl::StatusOr<std::string> StructToJson(const google::protobuf::Struct& fields, const std::string& field);

}  // namespace quantd
