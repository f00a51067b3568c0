#include "runtime/param_loader.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace quantd {
namespace {

bool EndsWith(std::string_view s, std::string_view suffix) {
  return s.size() >= suffix.size() && s.substr(s.size() - suffix.size()) == suffix;
}

// "3 tensors that the model does not use: a, b, c"; names no more than a line holds.
std::string Listed(std::string_view what, const std::vector<std::string>& names) {
  constexpr size_t kMost = 8;
  std::string text = absl::StrCat(names.size(), " ", ToAbsl(what), ": ");
  for (size_t i = 0; i < std::min(kMost, names.size()); ++i) absl::StrAppend(&text, i ? ", " : "", names[i]);
  if (names.size() > kMost) absl::StrAppend(&text, " and ", names.size() - kMost, " more");
  return text;
}

// Tensors that old checkpoints carry and no model needs.
bool Harmless(std::string_view name) { return EndsWith(name, "rotary_emb.inv_freq"); }

// Appends the rows of `more`, which has the scheme and K of `all`.
void AppendRows(QuantizedMatrix& all, const QuantizedMatrix& more) {
  all.n += more.n;
  all.data.insert(all.data.end(), more.data.begin(), more.data.end());
  all.scales.insert(all.scales.end(), more.scales.begin(), more.scales.end());
  all.zeros.insert(all.zeros.end(), more.zeros.begin(), more.zeros.end());
}

// Block types go to another scheme through f32, which would be eight times an int4 tensor: some rows at a time.
absl::StatusOr<QuantizedMatrix> Requantize(const QuantizedMatrix& stored, const QuantScheme& scheme) {
  constexpr int64_t kPieceElements = int64_t{1} << 22;
  QD_RETURN_IF_ERROR(CheckScheme(scheme, stored.n, stored.k));
  QuantizedMatrix out = NewQuantizedMatrix(scheme, stored.n, stored.k);
  out.n = 0;
  for (std::vector<uint8_t>* part : {&out.data, &out.scales, &out.zeros}) part->clear();  // the room stays
  const int64_t rows = std::clamp<int64_t>(kPieceElements / stored.k, 1, stored.n);
  std::vector<float> values(static_cast<size_t>(rows * stored.k));
  for (int64_t begin = 0; begin < stored.n; begin += rows) {
    const int64_t count = std::min(rows, stored.n - begin);
    for (int64_t r = 0; r < count; ++r) DequantizeRow(stored.view(), begin + r, values.data() + r * stored.k);
    QD_ASSIGN_OR_RETURN(const QuantizedMatrix piece,
                        Quantize(Tensor(values.data(), DType::kF32, {count, stored.k}), scheme));
    AppendRows(out, piece);
  }
  return out;
}

// The view of a dry run: shapes without memory.
QuantizedView SizesOnly(const QuantScheme& scheme, int64_t n, int64_t k) {
  QuantizedView view{scheme, n, k, {}, {}, {}};
  const bool packed = scheme.weight == WeightFormat::kInt4;
  view.data = Tensor(nullptr, WeightDType(scheme.weight), {n, packed ? k / 2 : k});
  if (scheme.quantized()) view.scales = Tensor(nullptr, scheme.param_dtype, {n, scheme.groups(k)});
  if (scheme.zero != ZeroKind::kNone) view.zeros = Tensor(nullptr, scheme.param_dtype, {n, scheme.groups(k)});
  return view;
}

}  // namespace

ParamLoader::ParamLoader(const WeightStore& store, const QuantRecipe& recipe, Backend& backend, MemoryTag tag,
                         DType activations, const LoadHooks& hooks, ModelParams& params)
    : store_(store),
      recipe_(recipe),
      backend_(backend),
      tag_(tag),
      activations_(activations),
      hooks_(hooks),
      params_(params) {
  for (const TensorInfo& info : store.tensors()) progress_.total_bytes += info.file_bytes;
}

void ParamLoader::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

const TensorInfo* ParamLoader::Use(const std::string& name, const Shape& expected) {
  if (!status_.ok()) return nullptr;
  const TensorInfo* info = store_.Find(name);
  if (info == nullptr && store_.assumed().has_value()) {
    TensorInfo& assumed = assumed_[name];
    assumed.name = name;
    assumed.shape = expected;
    assumed.scheme = *store_.assumed();
    info = &assumed;
  }
  if (info == nullptr) {
    Fail(absl::DataLossError(absl::StrCat(name, ": the checkpoint has no such tensor")));
    return nullptr;
  }
  used_.insert(name);
  if (!info->unsupported.empty()) {
    Fail(absl::UnimplementedError(absl::StrCat("tensor ", name, ": ", info->unsupported)));
    return nullptr;
  }
  if (!(info->shape == expected)) {
    Fail(absl::DataLossError(absl::StrCat(name, ": shape ", ToString(info->shape), ", expected ", ToString(expected))));
    return nullptr;
  }
  if (hooks_.cancelled && hooks_.cancelled()) {
    Fail(absl::CancelledError("load cancelled"));
    return nullptr;
  }
  progress_.done_bytes += info->file_bytes;
  if (hooks_.progress) hooks_.progress(progress_);
  params_.parameters += info->shape.elements();
  return info;
}

QuantizedMatrix ParamLoader::Load(const TensorInfo& info, const QuantScheme& scheme) {
  int64_t n = info.shape.rank() == 2 ? info.shape[0] : 1, k = info.shape[info.shape.rank() - 1];
  if (backend_.dry_run()) {
    QuantizedMatrix sized;
    sized.scheme = scheme, sized.n = n, sized.k = k;
    return sized;
  }
  absl::StatusOr<QuantizedMatrix> stored = store_.Read(info.name);
  if (!stored.ok()) {
    Fail(stored.status());
    return {};
  }
  if (stored->scheme == scheme) return *std::move(stored);
  absl::StatusOr<QuantizedMatrix> quantized =
      stored->scheme.quantized() ? Requantize(*stored, scheme) : Quantize(stored->view().data, scheme);
  if (!quantized.ok()) {
    Fail(absl::Status(quantized.status().code(), absl::StrCat(info.name, ": ", quantized.status().message())));
    return {};
  }
  return *std::move(quantized);
}

const DeviceWeight* ParamLoader::Pack(const QuantizedMatrix& matrix, const std::string& layer) {
  if (!status_.ok()) return nullptr;
  const QuantizedView view = backend_.dry_run() ? SizesOnly(matrix.scheme, matrix.n, matrix.k) : matrix.view();
  absl::StatusOr<std::unique_ptr<DeviceWeight>> packed = absl::InternalError("not packed");
  hooks_.OnDevice([&] {
    absl::Status supported = backend_.Supports(matrix.scheme, matrix.n, matrix.k);
    packed = supported.ok() ? backend_.Pack(view, tag_) : supported;
  });
  if (!packed.ok()) {
    Fail(absl::Status(packed.status().code(), absl::StrCat(layer, ": ", packed.status().message())));
    return nullptr;
  }
  params_.weights.push_back(*std::move(packed));
  return params_.weights.back().get();
}

size_t ParamLoader::Report(const std::string& name, const QuantRecipe::Choice& choice, const TensorInfo& info,
                           int64_t n, int64_t k) {
  LayerReport line;
  line.name = name;
  line.scheme = Name(choice.scheme);
  line.reason = choice.reason;
  if (info.scheme.quantized() && !(info.scheme == choice.scheme)) {
    line.reason = absl::StrCat(line.reason, ", requantized from ", Name(info.scheme));
  }
  line.n = n, line.k = k;
  line.bf16_bytes = n * k * 2;
  params_.report.push_back(std::move(line));
  return params_.report.size() - 1;
}

// Shares the packed bytes out to the report lines from `first_report` on, by their rows.
void ParamLoader::Account(size_t first_report, const DeviceWeight& weight) {
  for (size_t i = first_report; i < params_.report.size(); ++i) {
    LayerReport& line = params_.report[i];
    line.bytes = weight.bytes() * line.n / weight.n();
    line.kernel = std::string(weight.layout_id());
  }
}

QuantizedLinear ParamLoader::Linear(const std::vector<LinearSpec>& specs, int64_t k, Bias rule) {
  std::vector<QuantizedLinear::Part> parts;
  QuantizedMatrix stacked;
  std::vector<float> bias;  // of what is stacked, where one of it has any
  bool has_bias = false;
  size_t first_report = params_.report.size();
  int64_t column = 0;
  auto flush = [&] {
    if (stacked.n == 0) return;
    const DeviceWeight* weight = Pack(stacked, specs[0].layer);
    if (weight == nullptr) return;
    Account(first_report, *weight);
    parts.push_back({weight, has_bias ? Upload(bias.data(), {weight->n()}) : Tensor(), column});
    column += weight->n();
    first_report = params_.report.size();
    stacked = {};
    bias.clear();
    has_bias = false;
  };
  for (const LinearSpec& spec : specs) {
    const TensorInfo* info = Use(spec.layer + ".weight", {spec.n, k});
    if (info == nullptr) return {};
    QuantRecipe::Choice choice = recipe_.Choose(spec.layer, WeightRole::kLinear, k, info->scheme);
    if (stacked.n != 0 && !(stacked.scheme == choice.scheme)) flush();
    Report(info->name, choice, *info, spec.n, k);
    QuantizedMatrix matrix = Load(*info, choice.scheme);
    const bool assumed = rule == Bias::kExpected && store_.assumed().has_value();
    const bool bias_is_there = rule != Bias::kNone && (assumed || Has(spec.layer + ".bias"));
    const std::vector<float> b = bias_is_there ? HostVector(spec.layer + ".bias", spec.n) : std::vector<float>();
    bias.insert(bias.end(), b.begin(), b.end());
    bias.resize(bias.size() + static_cast<size_t>(spec.n) - b.size());
    has_bias |= bias_is_there;
    if (rule == Bias::kExpected && !bias_is_there) zero_biases_.push_back(spec.layer + ".bias");
    if (!status_.ok()) return {};
    if (stacked.n == 0) {
      stacked = std::move(matrix);
    } else {
      AppendRows(stacked, matrix);
    }
  }
  flush();
  if (!status_.ok()) return {};
  return QuantizedLinear(std::move(parts), activations_);
}

const DeviceWeight* ParamLoader::Table(const std::string& layer, int64_t n, int64_t k, WeightRole role) {
  const TensorInfo* info = Use(layer + ".weight", {n, k});
  if (info == nullptr) return nullptr;
  QuantRecipe::Choice choice = recipe_.Choose(layer, role, k, info->scheme);
  size_t line = Report(info->name, choice, *info, n, k);
  QuantizedMatrix matrix = Load(*info, choice.scheme);
  const DeviceWeight* weight = Pack(matrix, layer);
  if (weight != nullptr) Account(line, *weight);
  return weight;
}

QuantizedLinear ParamLoader::Head(const DeviceWeight* table) const {
  if (table == nullptr) return {};
  return QuantizedLinear({{table, Tensor(), 0}}, activations_);
}

std::vector<float> ParamLoader::HostVector(const std::string& name, int64_t size) {
  const TensorInfo* info = Use(name, {size});
  if (info == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(size), 1.0f);
  if (backend_.dry_run()) return values;
  absl::StatusOr<QuantizedMatrix> stored = store_.Read(name);
  if (stored.ok()) {
    DequantizeRow(stored->view(), 0, values.data());
  } else {
    Fail(stored.status());
  }
  return values;
}

Tensor ParamLoader::Vector(const std::string& name, int64_t size) {
  std::vector<float> values = HostVector(name, size);
  return Upload(values.data(), {size});
}

Tensor ParamLoader::Constant(Shape shape, const std::function<void(float*)>& fill) {
  std::vector<float> values;
  if (status_.ok() && !backend_.dry_run()) {
    values.resize(static_cast<size_t>(shape.elements()));
    fill(values.data());
  }
  return Upload(values.data(), shape);
}

Tensor ParamLoader::Upload(const float* host, Shape shape) {
  if (!status_.ok()) return {};
  absl::StatusOr<Buffer> buffer = absl::InternalError("not allocated");
  Tensor tensor;
  hooks_.OnDevice([&] {
    buffer = backend_.Allocate(shape.elements() * SizeOf(DType::kF32), tag_);
    if (!buffer.ok()) return;
    tensor = Tensor(buffer->data(), DType::kF32, shape);
    backend_.CopyIn(host, tensor);
    Fail(backend_.Synchronize());
  });
  if (!buffer.ok()) {
    Fail(buffer.status());
    return {};
  }
  params_.buffers.push_back(*std::move(buffer));
  return tensor;
}

bool ParamLoader::SameValues(const std::string& a, const std::string& b) {
  const TensorInfo* first = store_.Find(a);
  const TensorInfo* second = store_.Find(b);
  if (!status_.ok() || first == nullptr || second == nullptr) return false;
  if (!(first->shape == second->shape) || !(first->scheme == second->scheme)) return false;
  const absl::StatusOr<QuantizedMatrix> x = store_.Read(a);
  const absl::StatusOr<QuantizedMatrix> y = x.ok() ? store_.Read(b) : x.status();
  if (!y.ok()) Fail(y.status());
  return y.ok() && x->data == y->data && x->scales == y->scales && x->zeros == y->zeros;
}

absl::Status ParamLoader::Finish() {
  QD_RETURN_IF_ERROR(status_);
  std::vector<std::string> unused;
  for (const TensorInfo& info : store_.tensors()) {
    if (!used_.contains(info.name) && !Harmless(info.name)) unused.push_back(info.name);
  }
  if (!unused.empty()) Warn(Listed("tensors of the checkpoint are not of the model and are not used", unused));
  if (!zero_biases_.empty())
    Warn(Listed("biases that the configuration asks for are missing and count as 0", zero_biases_));
  std::vector<std::string> layers;
  for (const LayerReport& line : params_.report) layers.push_back(line.name.substr(0, line.name.rfind(".weight")));
  return recipe_.CheckRules(layers);
}

}  // namespace quantd
