#include "runtime/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"
#include "runtime/printable.h"
#include "runtime/unsupported_checkpoint.h"

namespace quantd {
namespace {

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // as the Rust reader
constexpr int64_t kMaxIndexBytes = int64_t{64} << 20;
constexpr size_t kMaxTensors = size_t{1} << 18;
constexpr size_t kMaxShards = 4096;
constexpr size_t kMaxNameBytes = 1024;
constexpr int64_t kMaxElements = int64_t{1} << 48;  // keeps every product of sizes below 2^63
constexpr int kMaxRank = 4;                         // of Shape

struct KnownDType {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;  // where we read it
};
// enum Dtype of safetensors/src/tensor.rs.
constexpr KnownDType kDTypes[] = {{"F32", 32, DType::kF32},
                                  {"F16", 16, DType::kF16},
                                  {"BF16", 16, DType::kBF16},
                                  {"BOOL", 8, {}},
                                  {"U8", 8, {}},
                                  {"I8", 8, {}},
                                  {"F8_E5M2", 8, {}},
                                  {"F8_E4M3", 8, {}},
                                  {"F8_E8M0", 8, {}},
                                  {"F4", 4, {}},
                                  {"F6_E2M3", 6, {}},
                                  {"F6_E3M2", 6, {}},
                                  {"I16", 16, {}},
                                  {"U16", 16, {}},
                                  {"I32", 32, {}},
                                  {"U32", 32, {}},
                                  {"I64", 64, {}},
                                  {"U64", 64, {}},
                                  {"F64", 64, {}},
                                  {"C64", 64, {}}};

const KnownDType* FindDType(std::string_view name) {
  for (const KnownDType& known : kDTypes) {
    if (known.name == name) return &known;
  }
  return nullptr;
}

std::string NameProblem(std::string_view name) {
  if (name.empty()) return "an empty tensor name";
  if (name.size() > kMaxNameBytes)
    return absl::StrCat("a tensor name of ", name.size(), " bytes, at most ", kMaxNameBytes);
  const bool control = std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  return control ? absl::StrCat("a control character in tensor name \"", Printable(name), "\"") : "";
}

// A SAX handler that stops at the first problem and keeps it. Readers override what their format allows; whatever they
// do not override is an error, so a document's kinds and depth are checked as it is read and never built in memory.
class StrictReader : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }
  bool number_unsigned(number_unsigned_t) override { return Unexpected("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Unexpected("a fraction"); }
  bool string(string_t&) override { return Unexpected("a string"); }
  bool binary(binary_t&) override { return Unexpected("binary"); }
  bool start_object(size_t) override { return Unexpected("an object"); }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return Unexpected("an array"); }
  bool end_array() override { return true; }
  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    return Fail(absl::StrCat("byte ", byte, ": ", JsonProblem(error)));
  }

  const std::string& problem() const { return problem_; }

 protected:
  bool Fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }
  virtual std::string Place() const = 0;

 private:
  bool Unexpected(const char* kind) { return Fail(absl::StrCat(Place(), ": ", kind, " is not expected here")); }
  std::string problem_;
};

absl::Status ReadStrictly(std::string_view text, StrictReader& reader) {
  // nlohmann takes a NUL for the end of the text.
  const size_t nul = text.find('\0');
  if (nul != std::string_view::npos) return absl::DataLossError(absl::StrCat("byte ", nul, ": a NUL"));
  if (!text.empty() && text[0] != '{') return absl::DataLossError("does not start with {");
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) return absl::DataLossError(reader.problem());
  return absl::OkStatus();
}

// An entry of the header as written, before it is checked.
struct Entry {
  std::string name, dtype;
  std::vector<uint64_t> shape, offsets;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

// {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …, "__metadata__": {"key": "value"}}
class HeaderReader : public StrictReader {
 public:
  std::vector<Entry> entries;

  bool start_object(size_t count) override {
    switch (state_) {
      case State::kStart:
        return Go(State::kTop);
      case State::kTensorValue:
        return Go(State::kTensor);
      case State::kMetadataValue:
        return Go(State::kMetadata);
      default:
        return StrictReader::start_object(count);
    }
  }

  bool end_object() override {
    switch (state_) {
      case State::kTensor: {
        const Entry& entry = entries.back();
        const char* missing = !entry.has_dtype ? "dtype" : !entry.has_shape ? "shape" : "data_offsets";
        if (!entry.has_dtype || !entry.has_shape || !entry.has_offsets)
          return Fail(absl::StrCat(Place(), ": no ", missing));
        return Go(State::kTop);
      }
      case State::kMetadata:
        return Go(State::kTop);
      default:
        return Go(State::kEnd);
    }
  }

  bool key(string_t& key) override {
    switch (state_) {
      case State::kTop:
        return TopKey(key);
      case State::kMetadata:
        metadata_key_ = key;
        state_ = State::kMetadataText;
        return metadata_keys_.insert(key).second || Fail(absl::StrCat(Place(), ": twice"));
      default:
        return TensorKey(key);
    }
  }

  bool string(string_t& value) override {
    switch (state_) {
      case State::kDType:
        entries.back().dtype = value;
        return Go(State::kTensor);
      case State::kMetadataText:
        return Go(State::kMetadata);
      default:
        return StrictReader::string(value);
    }
  }

  bool start_array(size_t count) override {
    if (state_ == State::kShape) return Go(State::kShapeItems);
    if (state_ == State::kOffsets) return Go(State::kOffsetItems);
    return StrictReader::start_array(count);
  }
  bool end_array() override { return Go(State::kTensor); }

  bool number_unsigned(number_unsigned_t value) override {
    const bool shape = state_ == State::kShapeItems;
    if (!shape && state_ != State::kOffsetItems) return StrictReader::number_unsigned(value);
    std::vector<uint64_t>& items = shape ? entries.back().shape : entries.back().offsets;
    if (items.size() == 64) return Fail(absl::StrCat(Place(), ": more than 64 numbers"));
    items.push_back(value);
    return true;
  }

 private:
  enum class State {
    kStart,
    kTop,
    kTensorValue,
    kTensor,
    kDType,
    kShape,
    kShapeItems,
    kOffsets,
    kOffsetItems,
    kMetadataValue,
    kMetadata,
    kMetadataText,
    kEnd
  };

  bool Go(State next) {
    state_ = next;
    return true;
  }

  bool TopKey(const std::string& key) {
    if (!names_.insert(key).second) return Fail(absl::StrCat("tensor \"", Printable(key), "\" is there twice"));
    if (key == "__metadata__") return Go(State::kMetadataValue);
    if (std::string problem = NameProblem(key); !problem.empty()) return Fail(std::move(problem));
    if (entries.size() == kMaxTensors) return Fail(absl::StrCat("more than ", kMaxTensors, " tensors"));
    entries.emplace_back().name = key;
    return Go(State::kTensorValue);
  }

  bool TensorKey(const std::string& key) {
    Entry& entry = entries.back();
    const auto first = [&](bool& seen, State next) {
      if (seen) return Fail(absl::StrCat(Place(), ": ", key, " twice"));
      seen = true;
      return Go(next);
    };
    if (key == "dtype") return first(entry.has_dtype, State::kDType);
    if (key == "shape") return first(entry.has_shape, State::kShape);
    if (key == "data_offsets") return first(entry.has_offsets, State::kOffsets);
    return Fail(absl::StrCat(Place(), ": unknown member \"", Printable(key), "\""));
  }

  std::string Place() const override {
    switch (state_) {
      case State::kStart:
      case State::kTop:
      case State::kEnd:
        return "header";
      case State::kMetadataValue:
      case State::kMetadata:
        return "__metadata__";
      case State::kMetadataText:
        return absl::StrCat("__metadata__ \"", Printable(metadata_key_), "\"");
      case State::kDType:
        return absl::StrCat("tensor ", Printable(entries.back().name), ": dtype");
      case State::kShape:
      case State::kShapeItems:
        return absl::StrCat("tensor ", Printable(entries.back().name), ": shape");
      case State::kOffsets:
      case State::kOffsetItems:
        return absl::StrCat("tensor ", Printable(entries.back().name), ": data_offsets");
      default:
        return absl::StrCat("tensor ", Printable(entries.back().name));
    }
  }

  State state_ = State::kStart;
  std::set<std::string> names_, metadata_keys_;
  std::string metadata_key_;
};

std::string ToString(const std::vector<uint64_t>& numbers) {
  std::string out = "[";
  for (size_t i = 0; i < numbers.size(); ++i) out += (i ? ", " : "") + std::to_string(numbers[i]);
  return out + "]";
}

// The number of elements; nothing where it is beyond kMaxElements, zero sizes included.
std::optional<int64_t> CountElements(const std::vector<uint64_t>& shape) {
  int64_t elements = 1;
  bool empty = false;
  for (uint64_t size : shape) {
    if (size == 0) empty = true;
    if (size > static_cast<uint64_t>(kMaxElements)) return std::nullopt;
    if (size > 0 && elements > kMaxElements / static_cast<int64_t>(size)) return std::nullopt;
    if (size > 0) elements *= static_cast<int64_t>(size);
  }
  return empty ? 0 : elements;
}

// Bytes of the tensor by its shape and dtype, checked against its offsets.
absl::StatusOr<int64_t> CheckEntry(const Entry& entry) {
  const auto error = [&](auto... parts) {
    return absl::DataLossError(absl::StrCat("tensor ", Printable(entry.name), ": ", parts...));
  };
  const KnownDType* known = FindDType(entry.dtype);
  if (known == nullptr) return error("unknown dtype \"", Printable(entry.dtype), "\"");
  const std::optional<int64_t> elements = CountElements(entry.shape);
  if (!elements.has_value()) return error("shape ", ToString(entry.shape), " is beyond 2^48 elements");
  if (*elements * known->bits % 8 != 0) return error(*elements, " values of ", entry.dtype, " end within a byte");
  if (entry.offsets.size() != 2) return error("data_offsets has ", entry.offsets.size(), " numbers, expected 2");
  const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  if (end < begin) return error("data_offsets ", ToString(entry.offsets), " are reversed");
  const int64_t bytes = *elements * known->bits / 8;
  if (end - begin != static_cast<uint64_t>(bytes)) {
    return error(end - begin, " bytes at data_offsets ", ToString(entry.offsets), ", expected ", bytes, " for ",
                 entry.dtype, " ", ToString(entry.shape));
  }
  return bytes;
}

SafetensorsTensor MakeTensor(const Entry& entry, int64_t data_start, int64_t bytes) {
  SafetensorsTensor tensor;
  tensor.name = entry.name;
  tensor.offset = data_start + static_cast<int64_t>(entry.offsets[0]);
  tensor.bytes = bytes;
  const KnownDType* known = FindDType(entry.dtype);
  if (!known->dtype.has_value()) {
    tensor.unsupported = absl::StrCat("dtype ", entry.dtype, " is not supported (F32, F16, BF16)");
    return tensor;
  }
  if (entry.shape.size() > static_cast<size_t>(kMaxRank)) {
    tensor.unsupported = absl::StrCat(entry.shape.size(), " dimensions, at most ", kMaxRank, " are supported");
    return tensor;
  }
  tensor.dtype = *known->dtype;
  const auto d = [&](size_t i) { return static_cast<int64_t>(entry.shape[i]); };
  Shape& shape = tensor.shape;
  switch (entry.shape.size()) {
    case 0:
      break;
    case 1:
      shape = {d(0)};
      break;
    case 2:
      shape = {d(0), d(1)};
      break;
    case 3:
      shape = {d(0), d(1), d(2)};
      break;
    default:
      shape = {d(0), d(1), d(2), d(3)};
      break;
  }
  return tensor;
}

// Tensors cover the data without gap or overlap, or the file has bytes that nobody checked.
absl::StatusOr<SafetensorsFile> CheckHeader(HeaderReader& header, int64_t data_start, int64_t file_size) {
  std::vector<Entry>& entries = header.entries;
  std::vector<int64_t> bytes(entries.size());
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  uint64_t end = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    QD_ASSIGN_OR_RETURN(bytes[i], CheckEntry(entries[i]));
    if (entries[i].offsets[0] != end) {
      return absl::DataLossError(absl::StrCat("tensor ", Printable(entries[i].name), ": begins at data offset ",
                                              entries[i].offsets[0], ", expected ", end,
                                              entries[i].offsets[0] < end ? " (overlap)" : " (gap)"));
    }
    end = entries[i].offsets[1];
  }
  const uint64_t data_bytes = static_cast<uint64_t>(file_size - data_start);
  if (end != data_bytes) {
    return absl::DataLossError(absl::StrCat("has ", data_bytes, " bytes of tensor data, expected ", end,
                                            end > data_bytes ? " (cut off)" : " (trailing data)"));
  }
  SafetensorsFile file;
  file.tensors.reserve(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    file.tensors.push_back(MakeTensor(entries[i], data_start, bytes[i]));
  }
  return file;
}

absl::Status At(std::string_view name, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(ToAbsl(name), ": ", status.message()));
}

absl::StatusOr<std::string> ReadHeader(const ByteSource& source) {
  const int64_t size = source.size();
  if (size < 8) return absl::DataLossError(absl::StrCat(source.name(), ": ", size, " bytes, expected at least 8"));
  uint8_t raw[8];
  QD_RETURN_IF_ERROR(source.Read(0, raw, 8));
  char beginning[32] = {};
  QD_RETURN_IF_ERROR(source.Read(0, beginning, std::min<int64_t>(size, sizeof(beginning))));
  if (const std::string problem = LfsPointerProblem({beginning, sizeof(beginning)}); !problem.empty()) {
    return absl::DataLossError(absl::StrCat(source.name(), ": ", problem));
  }
  uint64_t bytes = 0;
  for (int i = 7; i >= 0; --i) bytes = bytes << 8 | raw[i];
  if (bytes < 2)
    return absl::DataLossError(absl::StrCat(source.name(), ": header of ", bytes, " bytes, expected at least 2"));
  if (bytes > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return absl::DataLossError(absl::StrCat(source.name(), ": header of ", bytes, " bytes, at most ", kMaxHeaderBytes));
  }
  if (static_cast<int64_t>(bytes) > size - 8) {
    return absl::DataLossError(absl::StrCat(source.name(), ": header of ", bytes, " bytes in a file of ", size));
  }
  std::string text(bytes, '\0');
  QD_RETURN_IF_ERROR(source.Read(8, text.data(), static_cast<int64_t>(bytes)));
  return text;
}

// A plain name: it is joined to the folder's path, and must not lead out of it.
// The path of a shard below its folder, without "."; empty where `name` is none or leaves the folder.
std::string ShardPath(std::string_view name) {
  constexpr std::string_view kSuffix = ".safetensors";
  const auto is_control = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7F; };
  if (!name.ends_with(kSuffix) || name.size() > 1024 || std::ranges::any_of(name, is_control)) return "";
  std::string path;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    begin = end + 1;
    if (part.empty() || part == ".." || part == kSuffix || part.size() > 255) return "";
    if (part != ".") absl::StrAppend(&path, path.empty() ? "" : "/", ToAbsl(part));
  }
  return path;
}

WeightFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return WeightFormat::kF32;
    case DType::kF16:
      return WeightFormat::kF16;
    default:
      return WeightFormat::kBF16;
  }
}

class SafetensorsStore : public WeightStore {
 public:
  // Adds the tensors of one file, called `shard`. A tensor that an earlier file has too is taken from this one.
  // DataLoss: more tensors than any model has.
  absl::Status Add(std::unique_ptr<ByteSource> source, const std::string& shard, const SafetensorsFile& file) {
    for (const SafetensorsTensor& tensor : file.tensors) {
      bytes_ += tensor.bytes;
      const auto [it, first] = files_.emplace(tensor.name, shard);
      if (!first) {
        if (++repeated_ <= kMostRepeated) {
          Warn(absl::StrCat("tensor ", tensor.name, " is in ", it->second, " and in ", shard, ", which counts"));
        }
        it->second = shard;
      }
      infos_[tensor.name] = {.name = tensor.name,
                             .shape = tensor.shape,
                             .scheme = {.weight = FormatOf(tensor.dtype)},
                             .file_bytes = tensor.bytes,
                             .item = places_.size(),
                             .unsupported = tensor.unsupported};
      places_.push_back({source.get(), tensor.offset});
    }
    sources_.push_back(std::move(source));
    if (places_.size() <= kMaxTensors) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat(shard, ": more than ", kMaxTensors, " tensors up to here"));
  }
  void Finish() {
    if (repeated_ > kMostRepeated) Warn(absl::StrCat(repeated_, " tensors in all are in more than one file"));
    for (auto& [name, info] : infos_) WeightStore::Add(std::move(info));
    infos_.clear();
    WeightStore::Finish();
  }
  using WeightStore::Warn;
  const std::map<std::string, std::string>& files() const { return files_; }  // tensor name → file name
  int64_t bytes() const { return bytes_; }                                    // of all tensors

 private:
  static constexpr int kMostRepeated = 3;  // that are named
  struct Place {
    const ByteSource* source;
    int64_t offset;
  };

  absl::StatusOr<QuantizedMatrix> ReadItem(const TensorInfo& info) const override {
    // A vector or a scalar is one row; dimensions beyond the first two belong to the row.
    const Shape& shape = info.shape;
    const int64_t n = shape.rank() >= 2 ? shape[0] : 1;
    const int64_t k = n == 0 ? 0 : shape.elements() / n;
    QuantizedMatrix matrix = NewQuantizedMatrix(info.scheme, n, k);
    const Place& place = places_[info.item];
    QD_RETURN_IF_ERROR(place.source->Read(place.offset, matrix.data.data(), info.file_bytes));
    return matrix;
  }

  std::vector<std::unique_ptr<ByteSource>> sources_;
  std::vector<Place> places_;
  std::map<std::string, TensorInfo> infos_;  // until Finish
  std::map<std::string, std::string> files_;
  int64_t bytes_ = 0;
  int repeated_ = 0;
};

// Up to three names, and how many more there are.
std::string Examples(const std::vector<std::string>& names) {
  constexpr size_t kMost = 3;
  std::string text;
  for (size_t i = 0; i < std::min(kMost, names.size()); ++i) absl::StrAppend(&text, i ? ", " : "", names[i]);
  if (names.size() > kMost) absl::StrAppend(&text, " and ", names.size() - kMost, " more");
  return text;
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

// Where the index and the files that it names disagree.
std::vector<std::string> Disagreements(const std::map<std::string, std::string>& index,
                                       const std::map<std::string, std::string>& found) {
  std::vector<std::string> unnamed, elsewhere, missing, warnings;
  for (const auto& [tensor, file] : found) {
    const auto it = index.find(tensor);
    if (it == index.end()) {
      unnamed.push_back(tensor);
    } else if (it->second != file) {
      elsewhere.push_back(absl::StrCat(tensor, " (in ", file, ", not in ", it->second, ")"));
    }
  }
  for (const auto& [tensor, file] : index) {
    if (!found.contains(tensor)) missing.push_back(absl::StrCat(tensor, " (in ", file, ")"));
  }
  if (!unnamed.empty()) warnings.push_back(absl::StrCat("leaves out tensors of its files: ", Examples(unnamed)));
  if (!elsewhere.empty()) warnings.push_back(absl::StrCat("has tensors in the wrong file: ", Examples(elsewhere)));
  if (!missing.empty()) warnings.push_back(absl::StrCat("names tensors that no file has: ", Examples(missing)));
  return warnings;
}

}  // namespace

absl::StatusOr<SafetensorsFile> ParseSafetensors(const ByteSource& source) {
  QD_ASSIGN_OR_RETURN(const std::string text, ReadHeader(source));
  HeaderReader header;
  if (absl::Status status = ReadStrictly(text, header); !status.ok()) return At(source.name() + ": header", status);
  const int64_t data_start = 8 + static_cast<int64_t>(text.size());
  absl::StatusOr<SafetensorsFile> file = CheckHeader(header, data_start, source.size());
  if (!file.ok()) return At(source.name(), file.status());
  return file;
}

absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text, std::string_view name,
                                                                         std::optional<int64_t>* total_size) {
  const auto error = [&](auto... parts) { return absl::DataLossError(absl::StrCat(ToAbsl(name), ": ", parts...)); };
  QD_ASSIGN_OR_RETURN(const JsonDocument document, ParseJson(text, name, {.bytes = kMaxIndexBytes, .depth = 32}));
  const Json& json = *document;
  if (!json.is_object()) return error("is ", Excerpt(json), ", expected an object");
  const Json* map = FindMember(json, "weight_map");
  if (map == nullptr || map->empty()) return error("no weight_map");
  if (!map->is_object()) return error("weight_map is ", Excerpt(*map), ", expected an object of file names");
  if (map->size() > kMaxTensors) return error(map->size(), " tensors, at most ", kMaxTensors);
  std::map<std::string, std::string> index;
  for (const auto& [tensor, file] : map->items()) {
    if (const std::string problem = NameProblem(tensor); !problem.empty()) return error(problem);
    std::string path = file.is_string() ? ShardPath(file.get_ref<const std::string&>()) : "";
    if (path.empty()) {
      return error("tensor ", tensor, ": ", Excerpt(file), " is no file name of this folder that ends in .safetensors");
    }
    index.emplace(tensor, std::move(path));
  }
  if (const Json* metadata = FindMember(json, "metadata"); metadata != nullptr && total_size != nullptr) {
    if (const Json* size = FindMember(*metadata, "total_size")) *total_size = AsInt(*size);
  }
  return index;
}

namespace {

absl::StatusOr<std::unique_ptr<SafetensorsStore>> OpenOne(std::unique_ptr<ByteSource> source) {
  QD_ASSIGN_OR_RETURN(const SafetensorsFile file, ParseSafetensors(*source));
  const std::string name = source->name();
  auto store = std::make_unique<SafetensorsStore>();
  QD_RETURN_IF_ERROR(store->Add(std::move(source), name, file));
  store->Finish();
  return store;
}

absl::StatusOr<std::unique_ptr<WeightStore>> OpenIndexed(const std::string& folder, const std::string& index_path) {
  QD_ASSIGN_OR_RETURN(const std::string text, ReadFile(index_path, kMaxIndexBytes));
  std::optional<int64_t> total_size;
  QD_ASSIGN_OR_RETURN(const auto index, ParseSafetensorsIndex(text, index_path, &total_size));
  std::set<std::string> shards;
  for (const auto& [tensor, file] : index) shards.insert(file);
  if (shards.size() > kMaxShards) {
    return absl::DataLossError(absl::StrCat(index_path, ": ", shards.size(), " files, at most ", kMaxShards));
  }
  // An index alone, as one fetches it to plan.
  if (std::ranges::none_of(shards, [&](const std::string& shard) { return Exists(folder + "/" + shard); })) {
    return absl::NotFoundError(
        absl::StrCat(index_path, ": none of its ", shards.size(), " files is there (", *shards.begin(), ")"));
  }
  auto store = std::make_unique<SafetensorsStore>();
  for (const std::string& shard : shards) {
    absl::StatusOr<std::unique_ptr<ByteSource>> source = OpenFile(folder + "/" + shard);
    if (absl::IsNotFound(source.status())) {
      return absl::DataLossError(absl::StrCat(index_path, ": names ", shard, ", which is missing"));
    }
    if (!source.ok()) return source.status();
    QD_ASSIGN_OR_RETURN(const SafetensorsFile file, ParseSafetensors(**source));
    QD_RETURN_IF_ERROR(store->Add(*std::move(source), shard, file));
  }
  std::vector<std::string> warnings = Disagreements(index, store->files());
  if (total_size.has_value() && *total_size != store->bytes()) {
    warnings.push_back(
        absl::StrCat("metadata.total_size is ", *total_size, ", the tensors have ", store->bytes(), " bytes"));
  }
  for (const std::string& warning : warnings) store->Warn(absl::StrCat("model.safetensors.index.json: ", warning));
  store->Finish();
  return store;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightStore>> OpenSafetensors(std::unique_ptr<ByteSource> source) {
  return OpenOne(std::move(source));
}

absl::StatusOr<std::unique_ptr<WeightStore>> OpenSafetensorsFolder(const std::string& folder) {
  const std::string index_path = folder + "/model.safetensors.index.json";
  absl::StatusOr<std::unique_ptr<ByteSource>> single = OpenFile(folder + "/model.safetensors");
  if (absl::IsNotFound(single.status())) return OpenIndexed(folder, index_path);
  if (!single.ok()) return single.status();
  QD_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsStore> store, OpenOne(*std::move(single)));
  if (Exists(index_path)) store->Warn("model.safetensors.index.json: not read, as model.safetensors is there");
  return store;
}

}  // namespace quantd
