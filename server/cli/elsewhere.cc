#include "server/cli/elsewhere.h"

#include <absl/strings/str_split.h>

#include "base/strings.h"

namespace quantd {
namespace {

// A word of the row, whole.
bool HasWord(const Elsewhere& row, std::string_view word) {
  for (const absl::string_view one : absl::StrSplit(ToAbsl(row.words), ' ')) {
    if (ToStd(one) == word) return true;
  }
  return false;
}

constexpr Elsewhere kCommands[] = {
    {"run", Side::kBoth, "`quantd serve MODEL` serves a model, `quantd chat` talks to it"},
    {"start server daemon up launch load api-server", Side::kBoth, "did you mean \"serve\"?"},
    {"list ls ps show status info", Side::kBoth, "did you mean \"models\"?"},
    {"complete completion completions prompt", Side::kBoth, "did you mean \"generate\"?"},
    {"cli client ask talk", Side::kBoth, "did you mean \"chat\"?"},
    {"estimate inspect fit", Side::kBoth, "did you mean \"plan\"?"},
    {"env collect-env", Side::kBoth, "did you mean \"version\"?"},
    {"pull download get fetch", Side::kBoth,
     "quantd downloads no models: `quantd serve PATH` serves a GGUF file or a Hugging Face folder"},
    {"push login create cp import", Side::kBoth,
     "quantd keeps no store of models: `quantd serve NAME=PATH` gives a file or folder a name"},
    {"rm", Side::kBoth, "quantd keeps no store of models: they are the files that `quantd serve PATH` names"},
    {"stop kill unload", Side::kBoth, "Ctrl-C or SIGTERM ends `quantd serve`, once what runs is done"},
    {"restart reload", Side::kBoth,
     "SIGTERM ends `quantd serve` once what runs is done; start it again to change its configuration"},
    {"bench benchmark", Side::kBoth, "`make bench` measures, in a checkout"},
    {"tokenize detokenize tokens", Side::kBoth,
     "tokens are RPCs of the daemon: quantd.v1.Generation/Tokenize and /Detokenize"},
    {"quantize convert", Side::kBoth,
     "`quantd serve MODEL --quantize SCHEME` quantizes while it loads, from a GGUF file or a Hugging Face folder"},
    {"embed embedding embeddings rerank", Side::kBoth, "embeddings are not built"},
    {"perplexity score eval", Side::kBoth, "scoring is not built"},
    {"health ping", Side::kBoth,
     "the daemon's health is grpc.health.v1 on its gRPC port and /readyz on its metrics port"},
    {"metrics stats", Side::kBoth, "metrics are HTTP: /metrics on the port of `quantd serve --metrics-listen`"},
    {"logs log", Side::kBoth, "`quantd serve` logs to standard error"},
};

constexpr Elsewhere kFlags[] = {
    {"--ctx-size -c --n-ctx --num-ctx --max-model-len --context-length --context-size --max-seq-len --max-seq-length "
     "--max-total-tokens --max-sequence-length",
     Side::kServe, "did you mean --max-context?"},
    {"--ctx-size -c --n-ctx --num-ctx --max-model-len --context-length --context-size", Side::kClient,
     "the context is the daemon's: `quantd serve --max-context TOKENS`"},
    {"--parallel -np --max-num-seqs --max-batch-size --max-running-requests", Side::kServe,
     "did you mean --max-sequences?"},
    {"--max-num-batched-tokens --batch-size -b --ubatch-size -ub --max-batch-prefill-tokens", Side::kServe,
     "did you mean --max-batch-tokens?"},
    {"--max-concurrent-requests --max-queue-size", Side::kServe,
     "--max-sequences run at once, and --max-waiting-requests wait"},
    {"--enable-chunked-prefill --cont-batching -cb --enable-prefix-caching --cache-prompt", Side::kServe,
     "that is always on here"},
    {"--no-enable-chunked-prefill --no-cont-batching -nocb --no-enable-prefix-caching --no-cache-prompt", Side::kServe,
     "that is always on here; a request may ask for cache.bypass_prefix_cache"},
    {"--host --port --uds --hostname --bind --grpc-port --grpc-address --http-port", Side::kServe,
     "an address is given whole: --listen HOST:PORT, such as 127.0.0.1:9000, or --listen unix:/PATH"},
    {"--address", Side::kServe, "did you mean --listen?"},
    {"--host --port --hostname", Side::kClient,
     "an address is given whole: --address HOST:PORT, such as 127.0.0.1:9000"},
    {"--url --base-url --api-base --endpoint --server --listen -a", Side::kClient, "did you mean --address?"},
    {"--metrics-port --metrics-address", Side::kServe, "did you mean --metrics-listen?"},
    {"--metrics", Side::kServe, "metrics are always on; --metrics-listen HOST:PORT says where"},
    {"--api-key --auth-token --token", Side::kBoth, "quantd has no authentication yet"},
    {"--ssl-keyfile --ssl-certfile --ssl-key-file --ssl-cert-file --ssl-ca-certs --tls --tls-cert --tls-key",
     Side::kBoth, "quantd has no TLS yet: a proxy in front of it can"},
    {"--allowed-origins --cors-allow-origin --root-path --api-prefix --path --webui --no-webui", Side::kServe,
     "quantd speaks gRPC: there are no pages and no HTTP API"},
    {"--served-model-name --alias -a --name --model-alias", Side::kServe,
     "a name stands before its path: --model NAME=PATH"},
    {"--model-path --model-id --model-name --model-dir --model-repository --models-dir", Side::kServe,
     "did you mean --model?"},
    {"--hf-repo -hf --hf-file -hff --model-url -mu --hf-token -hft --revision --download-dir", Side::kServe,
     "quantd downloads no models: give the path of a GGUF file or of a Hugging Face folder"},
    {"--tokenizer --tokenizer-mode --tokenizer-path", Side::kServe,
     "the tokenizer is the one that lies with the model"},
    {"--chat-template --chat-template-file --jinja --no-jinja", Side::kBoth,
     "a chat uses the template that came with the model; a chat_template.jinja in its folder wins over the others"},
    {"--tool-call-parser --enable-auto-tool-choice --reasoning-parser --reasoning-format", Side::kServe,
     "answers are text as the model writes it: tool calls and reasoning are not parsed"},
    {"--lora --lora-modules --lora-scaled --enable-lora --control-vector", Side::kServe, "adapters are not built"},
    {"--draft-model --model-draft -md --draft --draft-max --speculative-config --speculative-model", Side::kServe,
     "speculation is not built"},
    {"--embedding --embeddings --reranking --task --runner", Side::kServe,
     "quantd generates text; embeddings are not built"},
    {"--mmproj -mm --image --images", Side::kBoth, "text only: images are not built"},
    {"--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --hf-overrides --override-kv", Side::kServe,
     "the model's own files say it: config.json, or the metadata of a GGUF"},
    {"--trust-remote-code --load-format --config-format", Side::kServe,
     "a model's files say what they are, and none of their code is run"},
    {"--quantization -q --quant --quantise", Side::kServe, "did you mean --quantize?"},
    {"--load-in-8bit --int8", Side::kServe, "did you mean --quantize int8_weight_only?"},
    {"--load-in-4bit --int4", Side::kServe, "did you mean --quantize int4_weight_only?"},
    {"--cache-type-k --cache-type-v -ctk -ctv", Side::kServe, "did you mean --kv-cache-dtype?"},
    {"--dtype", Side::kServe,
     "did you mean --activations? The weights are as the file has them, or as --quantize says"},
    {"--gpu-memory-utilization --mem-fraction-static --gpu-mem", Side::kServe, "did you mean --memory-budget SIZE?"},
    {"--kv-cache-memory-bytes --kv-cache-memory --num-gpu-blocks-override --swap-space --cache-ram", Side::kServe,
     "did you mean --kv-cache-bytes?"},
    {"--mlock --mmap --no-mmap --block-size", Side::kServe,
     "weights are read into memory whole, and the KV cache has blocks of 16 tokens: there is no such setting"},
    {"--n-gpu-layers --gpu-layers -ngl --num-gpu --main-gpu -mg --split-mode -sm --tensor-split -ts --gpus "
     "--tensor-parallel-size -tp --tp --tp-size --pipeline-parallel-size -pp --data-parallel-size -dp --num-shard "
     "--sharded --device -dev --cpu-offload-gb --no-kv-offload --flash-attn -fa --enforce-eager",
     Side::kServe, "models run on the processor: there is no setting for other devices; --threads says how many cores"},
    {"--n-gpu-layers --gpu-layers -ngl --num-gpu", Side::kClient,
     "models run on the daemon's processor: `quantd serve --threads N` says how many cores"},
    {"--threads-batch -tb --n-threads --num-threads --cpu-threads --threads-http", Side::kServe,
     "did you mean --threads?"},
    {"--cpu-mask --cpu-range --numa --prio", Side::kServe,
     "--threads says how many cores; which ones, `taskset` and `numactl` say"},
    {"--verbose -v --debug", Side::kServe, "did you mean --log-level debug?"},
    {"--verbosity -lv --uvicorn-log-level", Side::kServe, "did you mean --log-level?"},
    {"--log-disable --disable-log-requests --no-log-requests --disable-log-stats", Side::kServe,
     "did you mean --log-level warning?"},
    {"--log-file --log-format", Side::kServe, "logs go to standard error, a line each: redirect it"},
    {"--config-file", Side::kServe, "did you mean --config?"},
    {"--daemon --detach -d --background", Side::kServe,
     "quantd stays in the foreground: a service manager, nohup or & put it into the background"},
    {"--keep-alive --keepalive --sleep-idle-seconds", Side::kBoth, "models stay loaded until `quantd serve` ends"},
    {"--timeout -to --request-timeout", Side::kServe,
     "a request's deadline is its client's; --receive-timeout bounds how long it takes to arrive"},
    {"--warmup --no-warmup --slots --no-slots --slot-save-path --props", Side::kServe, "there is no such setting here"},
    {"--temperature --temp", Side::kServe, "--temperature belongs to a request: it is a flag of chat and generate"},
    {"--top-k", Side::kServe, "--top-k belongs to a request: it is a flag of chat and generate"},
    {"--top-p", Side::kServe, "--top-p belongs to a request: it is a flag of chat and generate"},
    {"--min-p", Side::kServe, "--min-p belongs to a request: it is a flag of chat and generate"},
    {"--repetition-penalty --repeat-penalty", Side::kServe,
     "--repetition-penalty belongs to a request: it is a flag of chat and generate"},
    {"--presence-penalty", Side::kServe, "--presence-penalty belongs to a request: it is a flag of chat and generate"},
    {"--frequency-penalty", Side::kServe,
     "--frequency-penalty belongs to a request: it is a flag of chat and generate"},
    {"--seed", Side::kServe, "--seed belongs to a request: it is a flag of chat and generate"},
    {"--stop", Side::kServe, "--stop belongs to a request: it is a flag of chat and generate"},
    {"--max-tokens --n-predict --num-predict --max-new-tokens", Side::kServe,
     "--max-tokens belongs to a request: it is a flag of chat and generate"},
    {"-n -p --prompt -s --system --system-prompt -sys -i --interactive -cnv", Side::kServe,
     "a prompt and how it is answered belong to a request: `quantd chat` and `quantd generate` ask"},
    {"--override-generation-config --generation-config", Side::kServe,
     "a generation_config.json beside the model says what requests leave open"},
    {"--temp", Side::kClient, "did you mean --temperature?"},
    {"--n-predict --num-predict --max-new-tokens --max-completion-tokens --max-length --n-tokens", Side::kClient,
     "did you mean --max-tokens?"},
    {"--repeat-penalty --repetition_penalty", Side::kClient, "did you mean --repetition-penalty?"},
    {"--repeat-last-n", Side::kClient,
     "--repetition-penalty counts over the whole prompt and output, --presence-penalty and --frequency-penalty over "
     "the output"},
    {"-s", Side::kClient, "did you mean --seed?"},
    {"--top-n-sigma --typical --typical-p --xtc-probability --dry-multiplier --mirostat --dynatemp-range --samplers",
     Side::kClient, "that sampler is not built: --temperature, --top-k, --top-p and --min-p are"},
    {"--logit-bias --grammar --grammar-file --json-schema -j --logprobs --n-probs --best-of", Side::kClient,
     "that is not built yet"},
    {"--system-prompt -sys --system-prompt-file", Side::kClient, "did you mean --system?"},
    {"--stop-sequence --stop-sequences --stop-strings --reverse-prompt -r", Side::kClient, "did you mean --stop?"},
    {"--ignore-eos", Side::kClient, "the command line has no such flag; a request's `stopping` may say it"},
    {"--interactive -i -cnv --conversation --interactive-first -if --chat", Side::kClient,
     "`quantd chat` without a message is a conversation"},
    {"--single-turn -st -no-cnv --no-conversation", Side::kClient,
     "`quantd chat MESSAGE` asks once, `quantd generate TEXT` continues a text"},
    {"--multiline-input -mli --wordwrap --nowordwrap --color --simple-io", Side::kClient,
     "`quantd chat` on a terminal has an editor that takes several lines; there is no setting for it"},
    {"--stream --no-stream", Side::kClient,
     "answers are shown as they come; `quantd generate -o json` prints one at its end"},
    {"--think --hidethinking --chat-template-kwargs", Side::kClient,
     "a request's chat.template_args sets the template's variables; the command line has no flag for it"},
    {"--file", Side::kClient, "did you mean --prompt-file? It is a flag of generate"},
    {"--json", Side::kBoth, "did you mean -o json?"},
    {"--format", Side::kBoth, "did you mean -o?"},
};

}  // namespace

std::span<const Elsewhere> CommandsElsewhere() { return kCommands; }
std::span<const Elsewhere> FlagsElsewhere() { return kFlags; }

std::string_view AnswerFor(std::span<const Elsewhere> table, std::string_view word, Side side) {
  for (const Elsewhere& row : table) {
    if (HasWord(row, word) && (row.side == Side::kBoth || side == Side::kBoth || row.side == side)) return row.answer;
  }
  return {};
}

}  // namespace quantd
