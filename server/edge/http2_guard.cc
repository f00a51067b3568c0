#include "server/edge/http2_guard.h"

#include <algorithm>
#include <array>

namespace quantd {
namespace {

using Step = Http2Guard::Step;

constexpr int64_t kPrefixBytes = 5;  // before each gRPC message

Step Forward(const FrameHeader& frame) { return {.what = Step::kForward, .bytes = kFrameHeaderBytes + frame.length}; }
Step CutFor(Cut cut) { return {.what = Step::kCut, .cut = cut}; }
Step WaitUntil(TimePoint until, Pace pace) { return {.what = Step::kWait, .until = until, .pace = pace}; }

}  // namespace

std::string_view Name(Cut cut) {
  static constexpr std::array<std::string_view, kNumCuts> kNames = {
      "not_http2", "handshake_timeout", "frame_timeout", "frame_size", "header_block", "protocol", "streams",
      "resets",    "control_frames",    "replaced",      "stalled"};
  return kNames[static_cast<size_t>(cut)];
}

Http2Error ErrorOf(Cut cut) {
  switch (cut) {
    case Cut::kReplaced:
    case Cut::kStalled:
      return kNoError;
    case Cut::kNotHttp2:
    case Cut::kProtocol:
      return kProtocolError;
    case Cut::kFrameSize:
      return kFrameSizeError;
    default:
      return kEnhanceYourCalm;
  }
}

std::string_view Name(Pace pace) {
  static constexpr std::array<std::string_view, kNumPaces> kNames = {"streams", "header_bytes", "resets",
                                                                     "connections"};
  return kNames[static_cast<size_t>(pace)];
}

Http2Guard::Http2Guard(const EdgeLimits& limits, PeerBudget& peer) : limits_(limits), peer_(peer) {}

Step Http2Guard::Next(std::span<const uint8_t> bytes, TimePoint now) {
  if (!preface_seen_) {
    const Step step = Preface(bytes);
    preface_seen_ = step.what == Step::kForward;
    return step;
  }
  if (bytes.size() < kFrameHeaderBytes) return {};
  const FrameHeader frame = ParseFrameHeader(bytes);
  if (std::optional<Cut> cut = Refusal(frame)) return CutFor(*cut);
  if (bytes.size() < kFrameHeaderBytes + frame.length) return {};
  return Frame(frame, bytes.subspan(kFrameHeaderBytes, frame.length), now);
}

Step Http2Guard::Preface(std::span<const uint8_t> bytes) const {
  const size_t n = std::min(bytes.size(), kHttp2Preface.size());
  for (size_t i = 0; i < n; ++i) {
    if (bytes[i] != static_cast<uint8_t>(kHttp2Preface[i])) return CutFor(Cut::kNotHttp2);
  }
  if (n < kHttp2Preface.size()) return {};
  return {.what = Step::kForward, .bytes = n};
}

std::optional<Cut> Http2Guard::Refusal(const FrameHeader& f) const {
  if (f.length > kMaxFrameBytes) return Cut::kFrameSize;
  if (!greeted_ && (f.type != kSettings || f.Has(kAck))) return Cut::kProtocol;
  if (block_stream_ != 0 && (f.type != kContinuation || f.stream != block_stream_)) return Cut::kProtocol;
  const bool on_stream = f.stream != 0;
  switch (f.type) {
    case kData:
      return on_stream ? std::nullopt : std::optional(Cut::kProtocol);
    case kHeaders:
      if (!on_stream || f.stream % 2 == 0) return Cut::kProtocol;
      if (f.stream > last_stream_ && streams_.size() >= 2 * static_cast<size_t>(limits_.max_streams)) {
        return Cut::kStreams;  // twice: the client may not have read SETTINGS yet
      }
      return std::nullopt;
    case kContinuation:
      if (block_stream_ == 0) return Cut::kProtocol;
      if (continuations_ >= kMaxContinuations || block_bytes_ + f.length > kMaxHeaderBlockBytes) {
        return Cut::kHeaderBlock;
      }
      return std::nullopt;
    case kRstStream:
      if (!on_stream) return Cut::kProtocol;
      return f.length == 4 ? std::nullopt : std::optional(Cut::kFrameSize);
    case kSettings:
      if (on_stream) return Cut::kProtocol;
      return f.length % 6 == 0 && !(f.Has(kAck) && f.length > 0) ? std::nullopt : std::optional(Cut::kFrameSize);
    case kPing:
      if (on_stream) return Cut::kProtocol;
      return f.length == 8 ? std::nullopt : std::optional(Cut::kFrameSize);
    case kWindowUpdate:
      return f.length == 4 ? std::nullopt : std::optional(Cut::kFrameSize);
    case kPushPromise:  // a server's
      return Cut::kProtocol;
    default:
      return std::nullopt;
  }
}

Step Http2Guard::Frame(const FrameHeader& frame, std::span<const uint8_t> payload, TimePoint now) {
  switch (frame.type) {
    case kHeaders:
    case kContinuation:
      return Headers(frame, now);
    case kData:
      return Data(frame, payload, now);
    case kRstStream:
      return Reset(frame, now);
    default:
      return Control(frame, now);
  }
}

std::optional<Step> Http2Guard::PaceHeaderBytes(double bytes, TimePoint now) {
  const bool here = header_bytes_.Has(bytes, now), there = peer_.header_bytes.Has(bytes, now);
  if (here && there) return std::nullopt;
  return WaitUntil(here ? peer_.header_bytes.When(bytes, now) : header_bytes_.When(bytes, now), Pace::kHeaderBytes);
}

// The frames of a block, the first of which may open a stream.
Step Http2Guard::Headers(const FrameHeader& frame, TimePoint now) {
  const double bytes = frame.length;
  const bool opens = frame.type == kHeaders && frame.stream > last_stream_;
  const bool closes = frame.type == kHeaders && frame.Has(kEndStream);
  const auto known = streams_.find(frame.stream);
  // Trailers, which gRPC's clients do not send, and blocks on streams that have ended.
  const bool again = frame.type == kHeaders && !opens;
  if (std::optional<Step> wait = PaceHeaderBytes(bytes, now)) return *wait;
  if (opens && !stream_rate_.Has(1, now)) return WaitUntil(stream_rate_.When(1, now), Pace::kStreams);
  if (again && !control_.Has(1, now)) return CutFor(Cut::kControlFrames);
  header_bytes_.Take(bytes);
  peer_.header_bytes.Take(bytes);
  if (again) control_.Take(1);
  if (opens) {
    stream_rate_.Take(1);
    last_stream_ = frame.stream;
    Stream& stream = streams_[frame.stream];
    stream.since = now;
    stream.client_done = closes;
    receiving_bytes_ += stream.held();
  } else if (closes && known != streams_.end()) {
    Stream after = known->second;
    after.client_done = true;
    Replace(known->second, after);
  }
  block_bytes_ = frame.type == kHeaders ? frame.length : block_bytes_ + frame.length;
  continuations_ = frame.type == kHeaders ? 0 : continuations_ + 1;
  if (const auto it = streams_.find(frame.stream); it != streams_.end()) {
    Stream after = it->second;
    after.header_bytes = std::max<int64_t>(0, static_cast<int64_t>(block_bytes_) - kFreeHeaderBytes);
    Replace(it->second, after);
  }
  block_stream_ = frame.Has(kEndHeaders) ? 0 : frame.stream;
  Step step = Forward(frame);
  if (opens) step.opened = frame.stream;
  return step;
}

Step Http2Guard::Data(const FrameHeader& frame, std::span<const uint8_t> payload, TimePoint now) {
  if (frame.Has(kPadded)) {
    if (payload.empty() || payload[0] >= payload.size()) return CutFor(Cut::kProtocol);
    payload = payload.subspan(1, payload.size() - 1 - payload[0]);
  }
  const auto it = streams_.find(frame.stream);  // none: it has ended, which the client may not know yet
  Stream after = it == streams_.end() ? Stream() : it->second;
  const bool completes = it != streams_.end() && Receive(after, payload, now);
  if (payload.size() < kSmallDataBytes && !completes && !frame.Has(kEndStream)) {
    if (!control_.Has(1, now)) return CutFor(Cut::kControlFrames);
    control_.Take(1);
  }
  if (it != streams_.end()) {
    after.client_done |= frame.Has(kEndStream);
    Replace(it->second, after);
  }
  return Forward(frame);
}

bool Http2Guard::Receive(Stream& s, std::span<const uint8_t> data, TimePoint now) {
  bool completes = false;
  while (!data.empty()) {
    if (s.message_bytes == 0) {
      if (s.had_message) s.since = now;  // the first one is awaited from the stream's beginning on
      s.length = 0;
    }
    if (s.message_bytes < kPrefixBytes) {
      if (s.message_bytes > 0) s.length = s.length << 8 | data[0];  // after the byte of flags
      ++s.message_bytes;
      data = data.subspan(1);
    } else {
      const auto n = std::min<int64_t>(static_cast<int64_t>(data.size()), s.length + kPrefixBytes - s.message_bytes);
      s.message_bytes += n;
      data = data.subspan(static_cast<size_t>(n));
    }
    if (s.message_bytes < kPrefixBytes || s.message_bytes < s.length + kPrefixBytes) continue;
    if (s.had_message) s.later_bytes += s.message_bytes;
    s.had_message = completes = true;
    s.message_bytes = 0;
  }
  return completes;
}

Step Http2Guard::Reset(const FrameHeader& frame, TimePoint now) {
  const auto it = streams_.find(frame.stream);
  if (it == streams_.end() || it->second.answered) {
    const Step step = Control(frame, now);
    if (step.what == Step::kForward) Erase(frame.stream);
    return step;
  }
  if (!resets_.Has(1, now) || !peer_.resets.Has(1, now)) return CutFor(Cut::kResets);
  for (TokenBucket* pace : {&resets_pace_, &peer_.resets_pace}) {
    if (!pace->Has(1, now)) return WaitUntil(pace->When(1, now), Pace::kResets);
  }
  for (TokenBucket* bucket : {&resets_, &peer_.resets, &resets_pace_, &peer_.resets_pace}) bucket->Take(1);
  Erase(frame.stream);
  return Forward(frame);
}

Step Http2Guard::Control(const FrameHeader& frame, TimePoint now) {
  const bool to_acknowledge = (frame.type == kPing || frame.type == kSettings) && !frame.Has(kAck);
  if (to_acknowledge && unacknowledged_ >= kMaxUnacknowledged) return CutFor(Cut::kControlFrames);
  if (!control_.Has(1, now)) return CutFor(Cut::kControlFrames);
  control_.Take(1);
  if (to_acknowledge) ++unacknowledged_;
  if (frame.type == kSettings) greeted_ = true;
  return Forward(frame);
}

void Http2Guard::OnServerFrame(const FrameHeader& frame) {
  const bool ack = frame.Has(kAck);
  switch (frame.type) {
    case kHeaders:
    case kData: {
      if (frame.length > 0) control_.Give(kControlFramesPerAnswer);
      const auto it = streams_.find(frame.stream);
      if (it != streams_.end()) it->second.answered = true;
      if (frame.Has(kEndStream)) Erase(frame.stream);
      return;
    }
    case kRstStream:
      Erase(frame.stream);
      return;
    case kPing:
    case kSettings:
      if (!ack) control_.Give(kControlFramesPerAnswer);
      if (ack && unacknowledged_ > 0) --unacknowledged_;
      return;
    default:
      return;
  }
}

bool Http2Guard::all_answered() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const auto& s) { return s.second.answered; });
}

std::vector<Http2Guard::Unfinished> Http2Guard::ListUnfinished(TimePoint now) const {
  std::vector<Unfinished> list;
  for (const auto& [id, s] : streams_) {
    if (s.held() > 0) list.push_back({id, s.held(), static_cast<double>(s.held()) * ToSeconds(now - s.since)});
  }
  return list;
}

std::vector<uint32_t> Http2Guard::Late(TimePoint now) const {
  std::vector<uint32_t> late;
  for (const auto& [id, s] : streams_) {
    const Duration allowed = limits_.receive_timeout + std::chrono::seconds(s.message_bytes / kSlowestBytesPerSecond);
    if (s.unfinished() && now - s.since > allowed) late.push_back(id);
  }
  return late;
}

bool Http2Guard::Forget(uint32_t stream) {
  const auto it = streams_.find(stream);
  const bool answered = it != streams_.end() && it->second.answered;
  Erase(stream);
  return answered;
}

void Http2Guard::Replace(Stream& stream, const Stream& after) {
  receiving_bytes_ += after.held() - stream.held();
  stream = after;
}

void Http2Guard::Erase(uint32_t stream) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  receiving_bytes_ -= it->second.held();
  streams_.erase(it);
}

}  // namespace quantd
