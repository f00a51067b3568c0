#include "runtime/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/printable.h"

namespace quantd {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are read as they lie in the file");

constexpr uint32_t kOldestVersion = 2, kNewestVersion = 3;  // one layout; version 1 has other integers
constexpr uint64_t kMaxKeys = 1 << 16, kMaxTensors = 1 << 16;
constexpr uint64_t kMaxKeyBytes = 1 << 16, kMaxStringBytes = 16 << 20;
constexpr uint64_t kMaxTensorNameBytes = 64;             // GGML_MAX_NAME
constexpr uint64_t kMaxArrayElements = 8 << 20;          // of all arrays together; Llama 3 has 0.5 million
constexpr int64_t kMaxHeaderBytes = int64_t{256} << 20;  // metadata and tensor table
constexpr uint64_t kMaxElements = uint64_t{1} << 48;
constexpr uint32_t kMaxDims = 4;  // GGML_MAX_DIMS
constexpr int64_t kDefaultAlignment = 32, kMaxAlignment = 1 << 20;

// enum gguf_type of gguf.h.
enum class ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// 0 for strings and arrays, whose size varies, and for numbers that are no type.
int64_t SizeOf(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    default:
      return 0;
  }
}

// Reads the header front to back through a buffer. Every length is compared with what the file still has before
// anything is allocated for it.
class Cursor {
 public:
  explicit Cursor(const ByteSource& source) : source_(source), end_(std::min(source.size(), kMaxHeaderBytes)) {}

  int64_t position() const { return position_; }
  uint64_t left() const { return static_cast<uint64_t>(end_ - position_); }

  absl::Status Bytes(void* out, int64_t bytes) {
    if (static_cast<uint64_t>(bytes) > left())
      return Error(absl::StrCat("the header ends here, expected ", bytes, " more bytes"));
    char* to = static_cast<char*>(out);
    while (bytes > 0) {
      if (position_ < buffer_start_ || position_ >= buffer_start_ + static_cast<int64_t>(buffer_.size())) {
        QD_RETURN_IF_ERROR(Fill());
      }
      const int64_t at = position_ - buffer_start_;
      const int64_t take = std::min(bytes, static_cast<int64_t>(buffer_.size()) - at);
      std::memcpy(to, buffer_.data() + at, static_cast<size_t>(take));
      position_ += take;
      to += take;
      bytes -= take;
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::StatusOr<T> Number() {
    T value;
    QD_RETURN_IF_ERROR(Bytes(&value, sizeof(T)));
    return value;
  }

  absl::StatusOr<std::string> String(uint64_t max_bytes) {
    QD_ASSIGN_OR_RETURN(const uint64_t bytes, Number<uint64_t>());
    if (bytes > max_bytes) return Error(absl::StrCat("a string of ", bytes, " bytes, at most ", max_bytes));
    if (bytes > left()) return Error(absl::StrCat("a string of ", bytes, " bytes, the header has ", left(), " left"));
    std::string text(bytes, '\0');
    QD_RETURN_IF_ERROR(Bytes(text.data(), static_cast<int64_t>(bytes)));
    return text;
  }

  absl::Status Error(std::string_view what) const {
    return absl::DataLossError(absl::StrCat("byte ", position_, ": ", ToAbsl(what)));
  }

 private:
  absl::Status Fill() {
    constexpr int64_t kBufferBytes = 256 << 10;
    buffer_start_ = position_;
    buffer_.resize(static_cast<size_t>(std::min(kBufferBytes, end_ - position_)));
    return source_.Read(buffer_start_, buffer_.data(), static_cast<int64_t>(buffer_.size()));
  }

  const ByteSource& source_;
  int64_t end_, position_ = 0, buffer_start_ = 0;
  std::vector<char> buffer_;
};

template <typename T>
absl::StatusOr<int64_t> ReadInteger(Cursor& cursor) {
  QD_ASSIGN_OR_RETURN(const T value, cursor.Number<T>());
  if constexpr (std::is_same_v<T, uint64_t>) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return cursor.Error(absl::StrCat("integer ", value, " is beyond 2^63"));
    }
  }
  return static_cast<int64_t>(value);
}

absl::StatusOr<int64_t> ReadInteger(Cursor& cursor, ValueType type) {
  switch (type) {
    case ValueType::kU8:
      return ReadInteger<uint8_t>(cursor);
    case ValueType::kI8:
      return ReadInteger<int8_t>(cursor);
    case ValueType::kU16:
      return ReadInteger<uint16_t>(cursor);
    case ValueType::kI16:
      return ReadInteger<int16_t>(cursor);
    case ValueType::kU32:
      return ReadInteger<uint32_t>(cursor);
    case ValueType::kI32:
      return ReadInteger<int32_t>(cursor);
    case ValueType::kU64:
      return ReadInteger<uint64_t>(cursor);
    default:
      return ReadInteger<int64_t>(cursor);
  }
}

absl::StatusOr<double> ReadFloat(Cursor& cursor, ValueType type) {
  if (type == ValueType::kF64) return cursor.Number<double>();
  QD_ASSIGN_OR_RETURN(const float value, cursor.Number<float>());
  return static_cast<double>(value);
}

absl::StatusOr<bool> ReadBool(Cursor& cursor) {
  QD_ASSIGN_OR_RETURN(const uint8_t value, cursor.Number<uint8_t>());
  if (value > 1) return cursor.Error(absl::StrCat("boolean ", value, ", expected 0 or 1"));
  return value == 1;
}

// `count` values by `read`, appended to a vector of T.
template <typename T, typename ReadOne>
absl::StatusOr<GgufValue> ReadItems(uint64_t count, ReadOne read) {
  std::vector<T> items;
  items.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    QD_ASSIGN_OR_RETURN(T item, read());
    items.push_back(std::move(item));
  }
  return GgufValue{std::move(items)};
}

class Parser {
 public:
  explicit Parser(const ByteSource& source) : source_(source), cursor_(source) {}

  absl::StatusOr<GgufFile> Parse() {
    QD_RETURN_IF_ERROR(ReadPreamble());
    for (uint64_t i = 0; i < keys_; ++i) QD_RETURN_IF_ERROR(ReadKey());
    QD_RETURN_IF_ERROR(ReadAlignment());
    for (uint64_t i = 0; i < tensors_; ++i) QD_RETURN_IF_ERROR(ReadTensor());
    if (!unsupported_.empty()) return Unsupported();
    QD_RETURN_IF_ERROR(PlaceTensors());
    return std::move(file_);
  }

 private:
  absl::Status ReadPreamble() {
    uint32_t magic = 0;
    if (!StartsAsGguf(source_) || !cursor_.Bytes(&magic, 4).ok()) {
      return absl::InvalidArgumentError("is no GGUF file (does not start with \"GGUF\")");
    }
    QD_ASSIGN_OR_RETURN(const uint32_t version, cursor_.Number<uint32_t>());
    if (version == 0) return cursor_.Error("version 0");
    if (version < kOldestVersion || version > kNewestVersion) {
      if ((version & 0xffff) == 0)
        return absl::UnimplementedError("is a big-endian GGUF file, only little endian is supported");
      return absl::UnimplementedError(
          absl::StrCat("is GGUF version ", version, ", supported are ", kOldestVersion, " and ", kNewestVersion));
    }
    QD_ASSIGN_OR_RETURN(tensors_, cursor_.Number<uint64_t>());
    QD_ASSIGN_OR_RETURN(keys_, cursor_.Number<uint64_t>());
    if (tensors_ > kMaxTensors) return cursor_.Error(absl::StrCat(tensors_, " tensors, at most ", kMaxTensors));
    if (keys_ > kMaxKeys) return cursor_.Error(absl::StrCat(keys_, " metadata keys, at most ", kMaxKeys));
    return absl::OkStatus();
  }

  absl::Status ReadKey() {
    QD_ASSIGN_OR_RETURN(std::string key, cursor_.String(kMaxKeyBytes));
    if (key.empty()) return cursor_.Error("an empty metadata key");
    absl::StatusOr<GgufValue> value = ReadValue();
    if (!value.ok()) {
      return absl::Status(value.status().code(), absl::StrCat("key ", Printable(key), ": ", value.status().message()));
    }
    const std::string shown = Printable(key);
    if (!file_.metadata.emplace(std::move(key), *std::move(value)).second) {
      return cursor_.Error(absl::StrCat("key ", shown, " is there twice"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<GgufValue> ReadValue() {
    QD_ASSIGN_OR_RETURN(const uint32_t number, cursor_.Number<uint32_t>());
    const ValueType type = static_cast<ValueType>(number);
    switch (type) {
      case ValueType::kBool: {
        QD_ASSIGN_OR_RETURN(const bool value, ReadBool(cursor_));
        return GgufValue{value};
      }
      case ValueType::kF32:
      case ValueType::kF64: {
        QD_ASSIGN_OR_RETURN(const double value, ReadFloat(cursor_, type));
        return GgufValue{value};
      }
      case ValueType::kString: {
        QD_ASSIGN_OR_RETURN(std::string value, cursor_.String(kMaxStringBytes));
        return GgufValue{std::move(value)};
      }
      case ValueType::kArray:
        return ReadArray();
      default:
        break;
    }
    if (SizeOf(type) == 0) return cursor_.Error(absl::StrCat("unknown value type ", number));
    QD_ASSIGN_OR_RETURN(const int64_t value, ReadInteger(cursor_, type));
    return GgufValue{value};
  }

  absl::StatusOr<GgufValue> ReadArray() {
    QD_ASSIGN_OR_RETURN(const uint32_t number, cursor_.Number<uint32_t>());
    const ValueType type = static_cast<ValueType>(number);
    if (type == ValueType::kArray) return cursor_.Error("an array of arrays");
    if (type != ValueType::kString && SizeOf(type) == 0)
      return cursor_.Error(absl::StrCat("unknown element type ", number));
    QD_ASSIGN_OR_RETURN(const uint64_t count, cursor_.Number<uint64_t>());
    // A string takes at least the eight bytes of its length.
    const uint64_t element_bytes = type == ValueType::kString ? 8 : static_cast<uint64_t>(SizeOf(type));
    if (count > cursor_.left() / element_bytes) {
      return cursor_.Error(
          absl::StrCat("an array of ", count, " elements, the header has ", cursor_.left(), " bytes left"));
    }
    array_elements_ += count;
    if (array_elements_ > kMaxArrayElements) {
      return cursor_.Error(absl::StrCat(array_elements_, " array elements, at most ", kMaxArrayElements));
    }
    switch (type) {
      case ValueType::kString:
        return ReadItems<std::string>(count, [&] { return cursor_.String(kMaxStringBytes); });
      case ValueType::kBool:
        return ReadItems<bool>(count, [&] { return ReadBool(cursor_); });
      case ValueType::kF32:
      case ValueType::kF64:
        return ReadItems<double>(count, [&] { return ReadFloat(cursor_, type); });
      default:
        return ReadItems<int64_t>(count, [&] { return ReadInteger(cursor_, type); });
    }
  }

  absl::Status ReadAlignment() {
    const auto it = file_.metadata.find("general.alignment");
    if (it == file_.metadata.end()) return absl::OkStatus();
    const int64_t* value = std::get_if<int64_t>(&it->second.value);
    if (value == nullptr) {
      return absl::DataLossError(
          absl::StrCat("general.alignment is a ", ToAbsl(KindName(it->second)), ", expected an integer"));
    }
    if (*value <= 0 || *value > kMaxAlignment || (*value & (*value - 1)) != 0) {
      return absl::DataLossError(
          absl::StrCat("general.alignment is ", *value, ", expected a power of two up to ", kMaxAlignment));
    }
    alignment_ = *value;
    return absl::OkStatus();
  }

  absl::Status ReadTensor() {
    GgufTensor tensor;
    QD_ASSIGN_OR_RETURN(tensor.name, cursor_.String(kMaxTensorNameBytes));
    const std::string shown = Printable(tensor.name);
    if (tensor.name.empty()) return cursor_.Error("an empty tensor name");
    if (!std::ranges::all_of(tensor.name, [](unsigned char c) { return c >= 0x20 && c < 0x7f; }))
      return cursor_.Error(absl::StrCat("tensor name ", shown, " is not printable ASCII"));
    if (!names_.insert(tensor.name).second) return cursor_.Error(absl::StrCat("tensor ", shown, " is there twice"));
    QD_ASSIGN_OR_RETURN(const uint32_t rank, cursor_.Number<uint32_t>());
    if (rank < 1 || rank > kMaxDims) {
      return cursor_.Error(absl::StrCat("tensor ", shown, ": ", rank, " dimensions, expected 1 to ", kMaxDims));
    }
    std::array<uint64_t, kMaxDims> dims{};  // innermost first
    uint64_t elements = 1;
    for (uint32_t i = 0; i < rank; ++i) {
      QD_ASSIGN_OR_RETURN(dims[i], cursor_.Number<uint64_t>());
      if (dims[i] == 0) return cursor_.Error(absl::StrCat("tensor ", shown, ": dimension ", i, " is 0"));
      if (dims[i] > kMaxElements / elements)
        return cursor_.Error(absl::StrCat("tensor ", shown, ": more than 2^48 elements"));
      elements *= dims[i];
    }
    const auto d = [&](uint32_t i) { return static_cast<int64_t>(dims[i]); };
    switch (rank) {
      case 1:
        tensor.shape = {d(0)};
        break;
      case 2:
        tensor.shape = {d(1), d(0)};
        break;
      case 3:
        tensor.shape = {d(2), d(1), d(0)};
        break;
      default:
        tensor.shape = {d(3), d(2), d(1), d(0)};
        break;
    }
    QD_ASSIGN_OR_RETURN(const uint32_t type, cursor_.Number<uint32_t>());
    QD_ASSIGN_OR_RETURN(const uint64_t offset, cursor_.Number<uint64_t>());
    if (offset > static_cast<uint64_t>(source_.size())) {
      return cursor_.Error(
          absl::StrCat("tensor ", shown, ": offset ", offset, " in a file of ", source_.size(), " bytes"));
    }
    tensor.offset = static_cast<int64_t>(offset);
    const std::optional<GgmlType> supported = SupportedGgmlType(type);
    if (!supported.has_value()) {
      bool known = false;
      const std::string name = GgmlTypeName(type, &known);
      if (!known) return cursor_.Error(absl::StrCat("tensor ", shown, ": unknown ", name));
      if (unsupported_.empty()) first_unsupported_ = absl::StrCat("tensor ", shown, ": ", name);
      ++unsupported_[name];
      return absl::OkStatus();  // the others are told too
    }
    tensor.type = *supported;
    if (d(0) % BlockElements(tensor.type) != 0) {
      return cursor_.Error(absl::StrCat("tensor ", shown, ": rows of ", d(0), " values, ", name_of(tensor.type),
                                        " needs a multiple of ", BlockElements(tensor.type)));
    }
    tensor.bytes = static_cast<int64_t>(elements) / BlockElements(tensor.type) * BlockBytes(tensor.type);
    file_.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  // Every type that the file has and nobody reads, with the number of its tensors.
  absl::Status Unsupported() const {
    std::string counts;
    for (const auto& [type, count] : unsupported_) {
      absl::StrAppend(&counts, counts.empty() ? "" : ", ", type, " in ", count, count == 1 ? " tensor" : " tensors");
    }
    return absl::UnimplementedError(absl::StrCat(
        first_unsupported_, " is not supported (F32, F16, BF16, Q8_0, Q4_0, Q4_1); the file has ", counts));
  }

  // Offsets in the file count from the aligned end of the header. As in ggml, tensors follow each other in the order of
  // the table, each at the next aligned place.
  absl::Status PlaceTensors() {
    const auto align = [&](int64_t at) { return (at + alignment_ - 1) / alignment_ * alignment_; };
    const int64_t data_start = align(cursor_.position());
    int64_t next = 0;
    for (GgufTensor& tensor : file_.tensors) {
      if (tensor.offset != next) {
        return absl::DataLossError(
            absl::StrCat("tensor ", tensor.name, ": at data offset ", tensor.offset, ", expected ", next));
      }
      tensor.offset += data_start;
      if (tensor.offset > source_.size() || tensor.bytes > source_.size() - tensor.offset) {
        return absl::DataLossError(absl::StrCat("tensor ", tensor.name, ": ", tensor.bytes, " bytes at ", tensor.offset,
                                                " in a file of ", source_.size(), " bytes"));
      }
      next = align(next + tensor.bytes);
    }
    return absl::OkStatus();
  }

  static std::string name_of(GgmlType type) { return GgmlTypeName(static_cast<uint32_t>(type)); }

  const ByteSource& source_;
  Cursor cursor_;
  uint64_t tensors_ = 0, keys_ = 0, array_elements_ = 0;
  int64_t alignment_ = kDefaultAlignment;
  std::set<std::string> names_;
  std::string first_unsupported_;  // "tensor a: Q4_K"
  std::map<std::string, uint64_t> unsupported_;
  GgufFile file_;
};

}  // namespace

bool StartsAsGguf(const ByteSource& source) {
  char magic[4] = {};
  return source.size() >= 4 && source.Read(0, magic, 4).ok() && std::memcmp(magic, "GGUF", 4) == 0;
}

absl::StatusOr<GgufFile> ParseGguf(const ByteSource& source) {
  absl::StatusOr<GgufFile> file = Parser(source).Parse();
  if (!file.ok()) {
    const std::string_view message = ToStd(file.status().message());
    // A failed read names the source already.
    if (message.substr(0, source.name().size()) == source.name()) return file.status();
    return absl::Status(file.status().code(), absl::StrCat(source.name(), ": ", ToAbsl(message)));
  }
  return file;
}

std::string_view KindName(const GgufValue& value) {
  static constexpr std::string_view kNames[] = {"boolean",         "integer",           "float",
                                                "string",          "array of booleans", "array of integers",
                                                "array of floats", "array of strings"};
  return kNames[value.value.index()];
}

}  // namespace quantd
