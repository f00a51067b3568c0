#include "runtime/unsupported_checkpoint.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/strings.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/printable.h"
#include "runtime/safetensors.h"

namespace quantd {
namespace {
namespace fs = std::filesystem;

constexpr char kSupported[] = "a GGUF file, or a folder with config.json, model.safetensors and a tokenizer";
constexpr int64_t kMaxConfigBytes = 4 << 20;

bool EndsWithAny(std::string_view name, std::initializer_list<std::string_view> endings) {
  return std::ranges::any_of(endings, [&](std::string_view ending) { return name.ends_with(ending); });
}
bool IsPickle(std::string_view name) { return EndsWithAny(name, {".bin", ".pt", ".pth", ".ckpt", ".pkl"}); }

// The names in a folder, sorted; of a folder too full to be a checkpoint, some.
std::vector<std::string> Names(const std::string& folder) {
  constexpr size_t kMost = 10000;
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end && names.size() < kMost;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::string Listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 3;
  std::string text;
  for (size_t i = 0; i < std::min(kMost, names.size()); ++i) absl::StrAppend(&text, i ? ", " : "", Printable(names[i]));
  if (names.size() > kMost) absl::StrAppend(&text, " and ", names.size() - kMost, " more");
  return text;
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// The string `key` of a JSON file; empty where there is no such file, no JSON or no such key.
std::string StringOf(const std::string& path, const char* key) {
  const absl::StatusOr<std::string> text = ReadFileIfPresent(path, kMaxConfigBytes);
  if (!text.ok() || text->empty()) return "";
  const absl::StatusOr<JsonDocument> json = ParseJson(*text, path);
  const Json* value = json.ok() ? FindMember(**json, key) : nullptr;
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

absl::Status Unsupported(const std::string& path, std::string_view what) {
  return absl::UnimplementedError(absl::StrCat(path, ": ", ToAbsl(what)));
}
absl::Status NoCheckpoint(const std::string& path, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", ToAbsl(what), "; expected ", kSupported));
}

// "name:tag" or a URL or "organisation/name": how other programs name what they download.
std::string_view HowOthersNameIt(std::string_view path) {
  if (path.find("://") != path.npos || path.starts_with("hf:")) return "a URL";
  const bool is_path = path.starts_with('/') || path.starts_with('.') || path.starts_with('~');
  const auto slashes = std::ranges::count(path, '/');
  if (is_path || path.ends_with('/') || path.ends_with(".gguf")) return "";
  if (slashes <= 1 && path.find(':') != path.npos) return "the name of a model in Ollama";
  return slashes == 1 ? "the name of a model on a hub" : "";
}

// hub/models--organisation--name of the Hugging Face cache keeps its files two folders below.
std::vector<std::string> Snapshots(const std::string& folder) {
  std::vector<std::string> paths;
  for (const std::string& name : Names(folder + "/snapshots")) paths.push_back(folder + "/snapshots/" + name);
  return paths;
}

bool IsFluxName(std::string_view name) {
  constexpr std::string_view kPrefix = "model.diffusion_model.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return name.starts_with("double_blocks.") || name.starts_with("single_blocks.") ||
         name.starts_with("transformer_blocks.") || name.starts_with("single_transformer_blocks.");
}

absl::Status OneSafetensorsFile(const std::string& path) {
  const absl::StatusOr<std::unique_ptr<ByteSource>> source = OpenFile(path);
  if (!source.ok()) return source.status();
  const absl::StatusOr<SafetensorsFile> file = ParseSafetensors(**source);
  if (!file.ok()) return file.status();
  if (std::ranges::any_of(file->tensors, IsFluxName, &SafetensorsTensor::name)) {
    return Unsupported(path,
                       "holds the transformer of a diffusion model (by its tensors' names), which is not built yet");
  }
  return NoCheckpoint(path, "is one safetensors file, which does not say what the model is: give its folder");
}

}  // namespace

std::string LfsPointerProblem(std::string_view beginning) {
  if (!beginning.starts_with("version https://git-lfs")) return "";
  return "is a pointer of Git LFS, not the file it stands for: run git lfs pull where it was cloned";
}

absl::Status NoSuchCheckpoint(const std::string& path, int errno_value) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(errno_value));
  if (errno_value == EACCES) return absl::PermissionDeniedError(message);
  const std::string_view other = HowOthersNameIt(path);
  if (other.empty()) return absl::NotFoundError(message);
  return absl::NotFoundError(absl::StrCat(message, "; it looks like ", ToAbsl(other),
                                          ", and models are not downloaded yet: fetch it, then give the path of ",
                                          kSupported));
}

absl::Status RefusePipeline(const std::string& folder) {
  const std::string pipeline = StringOf(folder + "/model_index.json", "_class_name");
  if (!pipeline.empty() || Exists(folder + "/model_index.json")) {
    return Unsupported(folder,
                       absl::StrCat("is a diffusion pipeline, ", pipeline.empty() ? "unnamed" : Printable(pipeline),
                                    " (model_index.json); diffusion is not built yet"));
  }
  const std::string part = StringOf(folder + "/config.json", "_class_name");
  if (part.empty()) return absl::OkStatus();
  return Unsupported(folder, absl::StrCat("is a part of a diffusion pipeline, ", Printable(part),
                                          " (config.json); diffusion is not built yet"));
}

absl::Status NoConfig(const std::string& folder) {
  std::error_code error;
  fs::directory_iterator(folder, error);
  if (error) return absl::PermissionDeniedError(absl::StrCat(folder, ": ", error.message()));
  const std::vector<std::string> names = Names(folder);
  if (names.empty()) return NoCheckpoint(folder, "is an empty folder");
  if (const std::vector<std::string> snapshots = Snapshots(folder); !snapshots.empty()) {
    return NoCheckpoint(folder,
                        absl::StrCat("is a model's folder in the cache of Hugging Face; give ", Listed(snapshots)));
  }
  std::vector<std::string> ggufs, models;
  for (const std::string& name : names) {
    if (name.ends_with(".gguf")) ggufs.push_back(name);
    if (Exists(folder + "/" + name + "/config.json") || Exists(folder + "/" + name + "/model_index.json")) {
      models.push_back(name);
    }
  }
  if (!ggufs.empty()) {
    return NoCheckpoint(folder, absl::StrCat("has no config.json, but GGUF files: give one of ", Listed(ggufs)));
  }
  if (!models.empty()) return NoCheckpoint(folder, absl::StrCat("is a folder of models: give one of ", Listed(models)));
  if (Exists(folder + "/adapter_config.json")) {
    return Unsupported(folder, "is an adapter (adapter_config.json), not a model; adapters are not built yet");
  }
  if (Exists(folder + "/params.json")) {
    return Unsupported(folder,
                       "is in the original form of its maker (params.json), which is not read; take the one for "
                       "transformers, or convert it with transformers' convert_..._weights_to_hf.py");
  }
  return NoCheckpoint(folder, absl::StrCat("has no config.json, so it is no checkpoint; it has ", Listed(names)));
}

absl::Status NoWeights(const std::string& folder) {
  constexpr char kNone[] = "neither model.safetensors nor model.safetensors.index.json is there";
  std::vector<std::string> pickles, safetensors, ggufs;
  for (const std::string& name : Names(folder)) {
    if (IsPickle(name)) pickles.push_back(name);
    if (name.ends_with(".safetensors")) safetensors.push_back(name);
    if (name.ends_with(".gguf")) ggufs.push_back(name);
  }
  if (!safetensors.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(folder, ": ", kNone, ", but ", Listed(safetensors),
                                                   "; weights are read under those two names alone"));
  }
  if (!ggufs.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": ", kNone, ", but GGUF files: give one of ", Listed(ggufs)));
  }
  if (pickles.empty()) return absl::InvalidArgumentError(absl::StrCat(folder, ": ", kNone));
  return Unsupported(
      folder, absl::StrCat(Printable(pickles[0]), " is a pickle, which is never read; convert it with transformers: ",
                           "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, "
                           "safe_serialization=True)"));
}

bool HasNoWeights(const std::string& folder) {
  return std::ranges::none_of(Names(folder), [](const std::string& name) {
    return IsPickle(name) || EndsWithAny(name, {".safetensors", ".gguf", ".h5", ".msgpack", ".onnx"});
  });
}

absl::Status NotGguf(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  if (name.ends_with(".safetensors")) return OneSafetensorsFile(path);
  if (IsPickle(name)) {
    return Unsupported(path, absl::StrCat("is a pickle, which is never read; expected ", kSupported));
  }
  if (name.ends_with(".json")) return NoCheckpoint(path, "is a JSON file: give the folder that holds it");
  std::array<char, 32> first{};
  const absl::StatusOr<std::unique_ptr<ByteSource>> source = OpenFile(path);
  if (!source.ok()) return source.status();
  const int64_t bytes = std::min<int64_t>((*source)->size(), std::ssize(first));
  if (const absl::Status read = (*source)->Read(0, first.data(), bytes); !read.ok()) return read;
  const std::string_view beginning(first.data(), static_cast<size_t>(bytes));
  if (const std::string problem = LfsPointerProblem(beginning); !problem.empty()) {
    return absl::DataLossError(absl::StrCat(path, ": ", problem));
  }
  // The magic numbers of 2023, as little-endian integers.
  for (const std::string_view old : {"lmgg", "fmgg", "tjgg", "algg"}) {
    if (beginning.starts_with(old)) return Unsupported(path, "is a GGML file of before GGUF, which is not read");
  }
  return NoCheckpoint(path, bytes == 0 ? "is an empty file" : "is no GGUF file (does not start with \"GGUF\")");
}

}  // namespace quantd
