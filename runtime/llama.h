// Llama: LlamaForCausalLM of transformers (modeling_llama.py).
#pragma once

#include <memory>

#include "runtime/language_model.h"
#include "runtime/llama_config.h"
#include "runtime/param_loader.h"

namespace quantd {

// Names its parameters to `loader`, whose Finish tells whether they were all there.
std::unique_ptr<LanguageModel> MakeLlama(const LlamaConfig& config, const ContextLimits& context, DType activations,
                                         ParamLoader& loader, std::unique_ptr<ModelParams> params);

}  // namespace quantd
