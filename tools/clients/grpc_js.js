// @grpc/grpc-js with proto-loader, and reflection under both names. usage: grpc_js.js ADDRESS MODEL PROTOS
'use strict';
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');
const { GrpcReflection } = require('grpc-js-reflection-client');

const [address, model, protos] = process.argv.slice(2);
const insecure = grpc.credentials.createInsecure();
const files = ['quantd/v1/generation.proto', 'quantd/v1/models.proto', 'grpc/health/v1/health.proto'];
const definitions = loader.loadSync(files, { includeDirs: [protos], keepCase: true, longs: String, enums: String, oneofs: true });
const api = grpc.loadPackageDefinition(definitions);
const generation = new api.quantd.v1.Generation(address, insecure);

const chat = (newTokens, more = {}) => ({ model, chat: { messages: [{ role: 'user', content: 'Name one colour of the rainbow.' }] },
  sampling: { temperature: 0 }, stopping: { max_new_tokens: newTokens, ...more } });
const endless = () => chat(4000, { ignore_eos: true });
const within = (seconds) => ({ deadline: Date.now() + seconds * 1000 });

function need(condition, what) {
  if (!condition) throw new Error(typeof what === 'string' ? what : JSON.stringify(what));
}
function unary(client, method, request) {
  return new Promise((resolve, reject) => client[method](request, within(120), (error, answer) => (error ? reject(error) : resolve(answer))));
}
// The events of a stream and how it ended; `seen` is told of each event with the call.
function stream(call, seen = () => {}) {
  return new Promise((resolve) => {
    const events = [];
    call.on('data', (event) => { events.push(event); seen(event, call); });
    call.on('error', (error) => resolve({ events, error }));
    call.on('end', () => resolve({ events, error: null }));
  });
}
const root = new protobuf.Root();
root.resolvePath = (origin, target) => (target.startsWith('google/protobuf/') ? protobuf.util.path.resolve(origin, target, true) : `${protos}/${target}`);
root.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto']);
// The messages of grpc-status-details-bin.
function details(error) {
  const [status] = error.metadata.get('grpc-status-details-bin');
  need(status, 'no details');
  return root.lookupType('google.rpc.Status').decode(status).details.map((any) => {
    const type = any.type_url.split('/').pop();
    return { type, value: root.lookupType(type).decode(any.value) };
  });
}

const checks = {
  async reflection() {
    for (const version of ['v1', 'v1alpha']) {
      const names = (await new GrpcReflection(address, insecure, {}, version).listServices()).map((service) => service.name || service);
      need(names.length === 7 && names.includes('quantd.v1.Generation'), names);
    }
    const methods = await new GrpcReflection(address, insecure, {}, 'v1').listMethods('quantd.v1.Generation');
    need(methods.length === 5, methods);
    return 'v1, v1alpha';
  },
  async health() {
    const { statuses } = await unary(new api.grpc.health.v1.Health(address, insecure), 'List', {});
    need(statuses[`model:${model}`].status === 'SERVING', statuses);
  },
  async stream() {
    const { events, error } = await stream(generation.GenerateStream(chat(16), within(120)));
    need(!error && events[0].event === 'accepted' && events.at(-1).event === 'finished', error ? error.message : events);
    return events.filter((event) => event.delta).map((event) => event.delta.text).join('').trim().slice(0, 40);
  },
  async details() {
    const error = await unary(generation, 'Generate', { ...chat(4), model: 'none' }).then(() => null, (e) => e);
    need(error && error.code === grpc.status.NOT_FOUND, error);
    const [info] = details(error);
    need(info.type === 'google.rpc.ErrorInfo' && info.value.reason === 'MODEL_NOT_FOUND', info);
    return info.value.reason;
  },
  async unbuilt() {
    const { error } = await stream(new api.quantd.v1.Models(address, insecure).LoadModel({}, within(120)));
    need(error && error.code === grpc.status.UNIMPLEMENTED && error.details.includes('not built yet'), error);
  },
  async cancel() {
    const { error } = await stream(generation.GenerateStream(endless(), within(120)), (event, call) => event.delta && call.cancel());
    need(error && error.code === grpc.status.CANCELLED, error);
  },
  async deadline() {
    const { error } = await stream(generation.GenerateStream(endless(), within(0.5)));
    need(error && error.code === grpc.status.DEADLINE_EXCEEDED, error);
  },
  async gzip() {
    const zipped = new api.quantd.v1.Generation(address, insecure, { 'grpc.default_compression_algorithm': 2 });
    need((await unary(zipped, 'Generate', chat(4))).usage.new_tokens > 0, 'no tokens');
  },
};

(async () => {
  for (const [check, action] of Object.entries(checks)) {
    try {
      console.log(JSON.stringify({ check, ok: true, note: (await action()) || '' }));
    } catch (error) {
      console.error(error);
      console.log(JSON.stringify({ check, ok: false, note: String(error.message).slice(0, 200) }));
    }
  }
  process.exit(0);
})();
