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
      "not_http2", "handshake_timeout", "frame_timeout", "frame_size", "header_block",  "protocol", "streams",
      "resets",    "control_frames",    "replaced",      "stalled",    "receive_budget"};
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
  static constexpr std::array<std::string_view, kNumPaces> kNames = {"streams",     "header_bytes", "resets",
                                                                     "connections", "small_data",   "failed_calls"};
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
  const bool dropped = dropping_block_ || (leaving() && frame.type == kHeaders);
  if (frame.type == kHeaders && !dropped) return Block(bytes, frame, now);
  if (bytes.size() < kFrameHeaderBytes + frame.length) return {};
  if (dropped || (leaving() && frame.stream >= refused_stream_)) return DropRefused(frame);
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
  if (dropping_block_ && f.type != kContinuation) return Cut::kProtocol;
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
    case kContinuation:  // of a block that goes to gRPC, Block has seen it
      return dropping_block_ ? std::nullopt : std::optional(Cut::kProtocol);
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
  return WaitUntil(here ? peer_.When(peer_.header_bytes, bytes, now) : header_bytes_.When(bytes, now),
                   Pace::kHeaderBytes);
}

std::optional<Step> Http2Guard::PaceBoth(TokenBucket& own, TokenBucket& shared, const PeerBudget& peer, Pace pace,
                                         TimePoint now) {
  if (!own.Has(1, now)) return WaitUntil(own.When(1, now), pace);
  if (!shared.Has(1, now)) return WaitUntil(peer.When(shared, 1, now), pace);
  own.Take(1);
  shared.Take(1);
  return std::nullopt;
}

// Nothing of a header block passes before all of it is there.
Step Http2Guard::Block(std::span<const uint8_t> bytes, const FrameHeader& first, TimePoint now) {
  size_t end = kFrameHeaderBytes + first.length;  // of the frames whose headers are there
  size_t whole = 0;                               // of those that are there
  size_t block = first.length;
  bool ends = first.Has(kEndHeaders);
  for (int continuations = 0; !ends && bytes.size() >= end + kFrameHeaderBytes;) {
    whole = end;
    const FrameHeader next = ParseFrameHeader(bytes.subspan(end));
    if (next.length > kMaxFrameBytes) return CutFor(Cut::kFrameSize);
    if (next.type != kContinuation || next.stream != first.stream) return CutFor(Cut::kProtocol);
    if (++continuations > kMaxContinuations || block + next.length > kMaxHeaderBlockBytes) {
      return Refuse(first.stream, whole, /*ends=*/false);
    }
    block += next.length;
    end += kFrameHeaderBytes + next.length;
    ends = next.Has(kEndHeaders);
  }
  if (!ends || bytes.size() < end) return {};
  return Headers(first, block, end, now);
}

Step Http2Guard::Refuse(uint32_t stream, size_t bytes, bool ends) {
  if (stream <= last_stream_) return CutFor(Cut::kHeaderBlock);  // trailers, which nobody can be refused
  refused_stream_ = last_stream_ = stream;
  dropping_block_ = !ends;
  dropped_bytes_ = bytes;
  return {.what = Step::kDrop, .bytes = bytes, .refused = stream};
}

Step Http2Guard::DropRefused(const FrameHeader& frame) {
  const bool of_block = frame.type == kHeaders || frame.type == kContinuation;
  dropped_bytes_ += of_block ? frame.length : 0;
  if (dropped_bytes_ > kMaxRefusedBytes || ++dropped_frames_ > kMaxRefusedFrames) return CutFor(Cut::kHeaderBlock);
  if (of_block) dropping_block_ = !frame.Has(kEndHeaders);
  Step step{.what = Step::kDrop, .bytes = kFrameHeaderBytes + frame.length};
  if (frame.type == kData) step.window = frame.length;
  return step;
}

// Of a block of so many bytes, in so many with the headers of its frames; it may open a stream.
Step Http2Guard::Headers(const FrameHeader& first, size_t block_bytes, size_t all_bytes, TimePoint now) {
  const auto bytes = static_cast<double>(block_bytes);
  const bool opens = first.stream > last_stream_;
  if (std::optional<Step> wait = PaceHeaderBytes(bytes, now)) return *wait;
  if (opens && !stream_rate_.Has(1, now)) return WaitUntil(stream_rate_.When(1, now), Pace::kStreams);
  if (opens && !peer_.calls.Has(1, now)) return WaitUntil(peer_.When(peer_.calls, 1, now), Pace::kFailedCalls);
  // Trailers, which gRPC's clients do not send, and blocks on streams that have ended.
  if (!opens && !control_.Has(1, now)) return CutFor(Cut::kControlFrames);
  header_bytes_.Take(bytes);
  peer_.header_bytes.Take(bytes);
  Step step{.what = Step::kForward, .bytes = all_bytes};
  if (opens) {
    stream_rate_.Take(1);
    peer_.calls.Take(1);
    active_at_ = now;
    control_.Give(kControlFramesPerAnswer);  // a client gives each call a window before it knows of an answer
    step.opened = last_stream_ = first.stream;
    Stream& stream = streams_[first.stream];
    stream.since = now;
    stream.client_done = first.Has(kEndStream);
    stream.header_bytes = std::max<int64_t>(0, static_cast<int64_t>(block_bytes) - kFreeHeaderBytes);
    Count(stream, 1);
    return step;
  }
  control_.Take(1);
  if (const auto known = streams_.find(first.stream); known != streams_.end() && first.Has(kEndStream)) {
    Stream after = known->second;
    after.client_done = true;
    Replace(known->second, after);
  }
  return step;
}

Step Http2Guard::Data(const FrameHeader& frame, std::span<const uint8_t> payload, TimePoint now) {
  if (frame.Has(kPadded)) {
    if (payload.empty() || payload[0] >= payload.size()) return CutFor(Cut::kProtocol);
    payload = payload.subspan(1, payload.size() - 1 - payload[0]);
  }
  const auto it = streams_.find(frame.stream);  // none: it has ended, which the client may not know yet
  Stream after = it == streams_.end() ? Stream() : it->second;
  const bool small = payload.size() < kSmallDataBytes && !frame.Has(kEndStream);
  if (payload.empty() && small) {
    if (!control_.Has(1, now)) return CutFor(Cut::kControlFrames);
    control_.Take(1);
  } else if (small) {
    if (auto wait = PaceBoth(small_data_, peer_.small_data, peer_, Pace::kSmallData, now)) return *wait;
  }
  if (it == streams_.end()) return Forward(frame);
  Receive(after, payload, now);
  if (small && after.message_bytes > 0) after.frame_bytes += kSmallDataOverhead;
  after.client_done |= frame.Has(kEndStream);
  if (!payload.empty()) active_at_ = now;
  Replace(it->second, after);
  return Forward(frame);
}

void Http2Guard::Receive(Stream& s, std::span<const uint8_t> data, TimePoint now) {
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
    if (s.had_message) s.later_bytes += s.message_bytes + s.frame_bytes + kMessageOverhead;
    s.had_message = true;
    s.message_bytes = s.frame_bytes = 0;
  }
}

Step Http2Guard::Reset(const FrameHeader& frame, TimePoint now) {
  const auto it = streams_.find(frame.stream);
  if (it == streams_.end() || it->second.answered) {
    const Step step = Control(frame, now);
    if (step.what == Step::kForward) Erase(frame.stream);
    return step;
  }
  if (!resets_.Has(1, now) || !peer_.resets.Has(1, now)) return CutFor(Cut::kResets);
  if (auto wait = PaceBoth(resets_pace_, peer_.resets_pace, peer_, Pace::kResets, now)) return *wait;
  resets_.Take(1);
  peer_.resets.Take(1);
  peer_.calls.Give(1);  // it is paced as what it is
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

void Http2Guard::OnServerFrame(const FrameHeader& frame, TimePoint now) {
  const bool ack = frame.Has(kAck);
  switch (frame.type) {
    case kHeaders:
    case kData: {
      if (frame.length > 0) control_.Give(kControlFramesPerAnswer);
      const auto it = streams_.find(frame.stream);
      if (it == streams_.end()) return;
      active_at_ = now;
      // An answer that begins with its end is an error (gRPC over HTTP/2: Trailers-Only).
      const bool failed = frame.type == kHeaders && frame.Has(kEndStream);
      if (!it->second.answered && !failed) peer_.calls.Give(1);
      Stream after = it->second;
      after.answered = true;
      Replace(it->second, after);
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
  Count(stream, -1);
  Count(after, 1);
  stream = after;
}

void Http2Guard::Count(const Stream& stream, int sign) {
  receiving_bytes_ += sign * stream.held();
  owed_ += stream.owed() ? sign : 0;
}

void Http2Guard::Erase(uint32_t stream) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  Count(it->second, -1);
  streams_.erase(it);
}

}  // namespace quantd
