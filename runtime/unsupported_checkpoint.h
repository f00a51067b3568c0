// What a path holds that is no checkpoint quantd loads, told by name with what to do about it.
#pragma once

#include <string>
#include <string_view>

#include <absl/status/status.h>

namespace quantd {

// NotFound: there is nothing at `path`, whose last error was `errno_value`; what looks like the name of a model on a
// hub, in Ollama or a URL is told so. PermissionDenied.
absl::Status NoSuchCheckpoint(const std::string& path, int errno_value);

// Unimplemented: the folder is a diffusion pipeline or a part of one. Else OK.
absl::Status RefusePipeline(const std::string& folder);

// A folder without config.json. InvalidArgument: what it has instead. Unimplemented: a model in a form that is not
// read.
absl::Status NoConfig(const std::string& folder);

// A folder with config.json and neither model.safetensors nor its index. Unimplemented or InvalidArgument, as NoConfig.
absl::Status NoWeights(const std::string& folder);

// Whether a folder has no file of weights in any form, an index apart.
bool HasNoWeights(const std::string& folder);

// A file that does not begin as GGUF files do.
absl::Status NotGguf(const std::string& path);

// "… is a pointer of Git LFS, …" where `beginning` is that of one; empty where it is not.
std::string LfsPointerProblem(std::string_view beginning);

}  // namespace quantd
