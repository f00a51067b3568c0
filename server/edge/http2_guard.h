// Http2Guard: what one client may send to gRPC, judged by the headers of its HTTP/2 frames before gRPC sees them.
//
// gRPC 1.51 takes what it is sent: a header of 16 MiB costs it 11 s of CPU, resets without end take all threads and
// gigabytes, and a message that never becomes whole is kept for ever. The guard reads frame by frame and says of each:
// forward it, wait, or cut the connection. A *rate* is paced (the client waits, its frames stay in its socket) and only
// a *stock*, or a frame that no client may send, cuts. Header blocks are not decoded: that is gRPC's.
//
// Pure: bytes and `now` in, decisions out. The caller keeps what is not forwarded yet and gives it again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "server/edge/http2_frame.h"
#include "server/edge/limits.h"
#include "server/edge/peer_budget.h"
#include "server/edge/token_bucket.h"

namespace quantd {

// Why a connection was cut; the names are labels of a metric.
enum class Cut {
  kNotHttp2,          // the first bytes are no preface
  kHandshakeTimeout,  // no preface and SETTINGS in time
  kFrameTimeout,      // a frame or a header block that does not become whole
  kFrameSize,         // over kMaxFrameBytes
  kHeaderBlock,       // too many bytes or CONTINUATION frames
  kProtocol,          // a frame that may not stand where it stands
  kStreams,           // far more open streams than SETTINGS allow
  kResets,            // calls given up before any answer, over and over
  kControlFrames,     // PING, SETTINGS, WINDOW_UPDATE and the like without a reason
  kReplaced,          // idle, and its place was needed for another
  kStalled,           // its streams were not read while the server stopped
  kReceiveBudget,     // what it sent waited for longest when too much of all connections did
};
inline constexpr int kNumCuts = 12;
std::string_view Name(Cut cut);
// What GOAWAY says.
Http2Error ErrorOf(Cut cut);

// Which rate made a connection wait; the names are labels of a metric.
enum class Pace { kStreams, kHeaderBytes, kResets, kConnections, kSmallData, kFailedCalls };
inline constexpr int kNumPaces = 6;
std::string_view Name(Pace pace);

class Http2Guard {
 public:
  // A call whose block has more is refused alone, which gRPC 1.51 cannot: it ends the connection. So what the edge
  // takes gRPC takes (daemon.cc), and this bounds what that costs: time goes with the square of a string that comes in
  // many frames, 0.7 ms for this much. Signed tokens and baggage make 8 to 16 KiB.
  static constexpr size_t kMaxHeaderBlockBytes = 128 * 1024;
  // Of one block. Clients fill frames of 16 KiB, so eight would do.
  static constexpr int kMaxContinuations = 16;
  // Of refused blocks, and of what was on its way after the first, this much is read and dropped; beyond it the
  // connection is cut.
  static constexpr size_t kMaxRefusedBytes = 4 << 20;
  static constexpr int kMaxRefusedFrames = 4096;
  // Of a block this much is the stream's own (kStreamBytes); the rest counts as received until the stream ends.
  static constexpr int64_t kFreeHeaderBytes = 16 * 1024;
  // Of a whole message that waits to be read, what gRPC keeps besides its bytes (46 measured).
  static constexpr int64_t kMessageOverhead = 64;
  // PINGs and SETTINGS that the server has not acknowledged yet. Clients have one or two under way.
  static constexpr int kMaxUnacknowledged = 32;
  // DATA frames under this size are paced: 10 MB/s in frames of 500 bytes, a fiftieth of a core. gRPC keeps
  // kSmallDataOverhead bytes of its own for each until its message is whole. One without a byte is a control frame.
  static constexpr size_t kSmallDataBytes = 1024;
  static constexpr int64_t kSmallDataOverhead = 32;
  static constexpr TokenBucket::Rate kSmallDataRate{4096, 20'000};
  // 5,000 short calls a second on one connection pass without a wait.
  static constexpr TokenBucket::Rate kStreamRate{1024, 8000};
  // 8 KiB of metadata with each of 500 calls a second; clients that index their headers send a hundredth of it.
  static constexpr TokenBucket::Rate kHeaderByteRate{1 << 20, 4 << 20};
  // Calls given up before the server said anything: each costs gRPC 60 µs and 15 KiB, and nothing holds them back, as
  // they never count as open (CVE-2023-44487). As many as may be open at once pass at once, then they are paced at a
  // twentieth of a core: who gives up 3,000 is done within 6 s. An attack is cut at the four thousandth. Calls that
  // were answered are paced by their answers.
  static constexpr TokenBucket::Rate kResetPace{256, 500};
  static constexpr TokenBucket::Rate kResetRate{4000, 100};
  // Clients send them because of what they receive (WINDOW_UPDATE, grpc-go's PING to measure the line): what the server
  // sends of substance earns kControlFramesPerAnswer, and so does each call that opens, which is paced itself (grpcio
  // sends two WINDOW_UPDATEs with it).
  static constexpr TokenBucket::Rate kControlRate{1000, 100};
  static constexpr double kControlFramesPerAnswer = 4;

  // `peer` is shared by the connections of an address and outlives them.
  Http2Guard(const EdgeLimits& limits, PeerBudget& peer);

  struct Step {
    enum What { kNeedMore, kForward, kDrop, kWait, kCut } what = kNeedMore;
    size_t bytes = 0;            // kForward: this many are good; kDrop: this many are not for gRPC
    uint32_t refused = 0;        // kDrop: the stream whose header block is too large; 0 = none
    uint32_t window = 0;         // kDrop: what the client is to be given back of the connection's window
    uint32_t opened = 0;         // kForward: the stream that begins with them; 0 = none
    TimePoint until{};           // kWait: ask again then
    Pace pace = Pace::kStreams;  // kWait
    Cut cut = Cut::kProtocol;    // kCut: all is over
  };
  // `bytes` is what the client sent and the guard has not let pass yet, all of it. One frame a step, or one header
  // block: between two steps anything may be sent to gRPC.
  Step Next(std::span<const uint8_t> bytes, TimePoint now);
  // A frame of the server has gone by.
  void OnServerFrame(const FrameHeader& frame, TimePoint now);

  // The preface and the first SETTINGS were let pass.
  bool greeted() const { return greeted_; }
  // A header block was refused. Its effect on the compression of headers is lost, so no later one can be understood:
  // the streams that are open go on, what the client begins after it is dropped.
  bool leaving() const { return refused_stream_ != 0; }
  size_t open_streams() const { return streams_.size(); }
  // Every open stream has had a part of its answer.
  bool all_answered() const;
  // A request is whole and has no part of its answer yet.
  bool owes_answers() const { return owed_ > 0; }
  // When a stream was last opened, or had a byte of its request or of its answer.
  TimePoint active_at() const { return active_at_; }
  uint32_t last_stream() const { return last_stream_; }

  // Bytes of messages that are not whole, of those after a stream's first, and of large headers, with what gRPC spends
  // on them besides; kStreamBytes for each message that is awaited.
  int64_t receiving_bytes() const { return receiving_bytes_; }
  struct Unfinished {
    uint32_t stream = 0;
    int64_t bytes = 0;
    double byte_seconds = 0;  // bytes times age: what it has cost the server so far
  };
  // The streams that hold receiving_bytes.
  std::vector<Unfinished> ListUnfinished(TimePoint now) const;
  // Streams whose message is late (EdgeLimits::receive_timeout).
  std::vector<uint32_t> Late(TimePoint now) const;
  // The caller resets it on both sides. True where the server had begun to answer.
  bool Forget(uint32_t stream);

 private:
  // gRPC's messages in a stream's DATA: a byte of flags, four of length, as many bytes as that.
  struct Stream {
    bool answered = false;      // by HEADERS or DATA of the server
    bool client_done = false;   // END_STREAM was seen
    bool had_message = false;   // one is whole
    uint32_t length = 0;        // of the current message, as far as its prefix is there
    int64_t message_bytes = 0;  // received of the current message, prefix included; 0 between two
    int64_t frame_bytes = 0;    // kSmallDataOverhead for each frame of the current message
    int64_t later_bytes = 0;    // of whole messages after the first, kMessageOverhead each included
    int64_t header_bytes = 0;   // over kFreeHeaderBytes
    TimePoint since;            // its oldest unfinished message is awaited since then
    int64_t held() const {
      return message_bytes + frame_bytes + later_bytes + header_bytes + (unfinished() ? kStreamBytes : 0);
    }
    bool unfinished() const { return !client_done && (message_bytes > 0 || !had_message); }
    bool owed() const { return !answered && !unfinished(); }
  };

  Step Preface(std::span<const uint8_t> bytes) const;
  Step Frame(const FrameHeader& frame, std::span<const uint8_t> payload, TimePoint now);
  // kCut where `frame`, of which only the header may be there, cannot be let pass.
  std::optional<Cut> Refusal(const FrameHeader& frame) const;
  Step Block(std::span<const uint8_t> bytes, const FrameHeader& first, TimePoint now);
  Step Refuse(uint32_t stream, size_t bytes, bool ends);
  Step DropRefused(const FrameHeader& frame);
  Step Headers(const FrameHeader& first, size_t block_bytes, size_t all_bytes, TimePoint now);
  Step Data(const FrameHeader& frame, std::span<const uint8_t> payload, TimePoint now);
  Step Reset(const FrameHeader& frame, TimePoint now);
  Step Control(const FrameHeader& frame, TimePoint now);
  static void Receive(Stream& stream, std::span<const uint8_t> data, TimePoint now);
  std::optional<Step> PaceHeaderBytes(double bytes, TimePoint now);
  // Waits where a bucket of this connection or of its address has too little, else takes it of both.
  static std::optional<Step> PaceBoth(TokenBucket& own, TokenBucket& shared, const PeerBudget& peer, Pace pace,
                                      TimePoint now);
  void Count(const Stream& stream, int sign);
  void Replace(Stream& stream, const Stream& after);
  void Erase(uint32_t stream);

  const EdgeLimits& limits_;
  PeerBudget& peer_;
  std::unordered_map<uint32_t, Stream> streams_;  // whole after an allocation that fails
  bool preface_seen_ = false, greeted_ = false;
  uint32_t last_stream_ = 0;
  uint32_t refused_stream_ = 0;  // the first; 0 = none
  bool dropping_block_ = false;  // of a refused one the end has not come
  size_t dropped_bytes_ = 0;
  int dropped_frames_ = 0;
  int unacknowledged_ = 0;
  int64_t receiving_bytes_ = 0;
  int owed_ = 0;  // streams
  TimePoint active_at_;
  TokenBucket stream_rate_{kStreamRate}, header_bytes_{kHeaderByteRate}, resets_pace_{kResetPace}, resets_{kResetRate},
      small_data_{kSmallDataRate}, control_{kControlRate};
};

}  // namespace quantd
