// Connection: one client, and gRPC's end of a socket pair behind it. Passes what the guard lets through to gRPC and
// everything of gRPC's back. Buffers are bounded by one read (kReadBytes) and a header block each way, and counted:
// whoever does not read holds up its own connection, and through it gRPC's writes to it. Of the edge's thread; sockets
// do not block.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "server/edge/edge_stats.h"
#include "server/edge/http2_guard.h"
#include "server/edge/peer_table.h"
#include "server/edge/reply_frames.h"

namespace quantd {

class Connection {
 public:
  static constexpr size_t kReadBytes = 64 * 1024;
  static constexpr size_t kScarceReadBytes = 2 * 1024;  // of gRPC, over EdgeLimits::send_budget
  // After the server's last byte has come to the client, for it to close: a socket that is closed with unread bytes
  // loses what it has sent.
  static constexpr Duration kLinger = std::chrono::milliseconds(500);
  // A client that takes nothing for this long of an end that it is owed loses the rest.
  static constexpr Duration kPatience = std::chrono::seconds(10);
  static constexpr size_t kLingerBytes = 1 << 20;  // of what it still sends, read and dropped

  struct Origin {
    sockaddr_storage address;
    PeerKey key;
    bool probe;  // of our own readiness check
  };

  // Owns the socket. `limits`, `peer` and `stats` outlive it.
  Connection(int client_fd, const Origin& origin, const EdgeLimits& limits, Peer& peer, EdgeStats& stats,
             TimePoint now);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // What to wait for at each socket.
  struct Interest {
    bool client_readable = false, client_writable = false, client_left = false;
    bool server_readable = false, server_writable = false;
    bool operator==(const Interest&) const = default;
  };
  Interest interest() const;
  void OnClientReadable(std::span<uint8_t> scratch, TimePoint now);  // of kReadBytes
  void OnClientWritable(TimePoint now);
  void OnServerReadable(std::span<uint8_t> scratch, TimePoint now);
  void OnServerWritable(TimePoint now);
  void OnClientGone() { state_ = State::kDead; }  // reset
  // It sends no more, of which there may be some to read yet. It may read still: its machine tells, with a reset, once
  // it is sent something.
  void OnClientLeft(TimePoint now);
  // A wait is over.
  void Resume(TimePoint now);
  // Looks at the timeouts. Every half second or so. `patience` is at most kPatience.
  void Tick(TimePoint now, Duration patience);

  // It speaks HTTP/2 and is to be given to gRPC: `server_fd` is our end, which the connection owns from now on.
  bool wants_server() const { return state_ == State::kGreeted && resume_at_ == TimePoint(); }
  void GiveServer(int server_fd, TimePoint now);
  void WaitForServer(TimePoint until);

  // Ends it: GOAWAY where a frame may stand, then the client has kLinger to read it.
  void CutOff(Cut cut, TimePoint now);
  // Ends one stream, on both sides.
  void EndStream(uint32_t stream, StreamReset why, TimePoint now);

  bool dead() const { return state_ == State::kDead; }
  bool open() const { return state_ == State::kOpen; }
  // Nothing is lost if it is closed: no stream is open, and the last answer is whole and has left. Its client may have
  // to take it yet: TakesStill.
  bool idle() const { return state_ <= State::kOpen && AllIsSaid(); }
  // Bytes are on their way to the client. If so, it is not idle: it had a call just now.
  bool TakesStill(TimePoint now);
  // The client has all that it is to have.
  bool settled() const;
  // When it last had a call, or came; while it has calls, when one of them last moved. nullopt: the server owes an
  // answer.
  std::optional<TimePoint> spare_since() const;
  // Its streams have begun to be answered and it took nothing of substance since then.
  bool stalled_since(TimePoint then) const {
    return open() && guard_.open_streams() > 0 && guard_.all_answered() && answered_at_ <= then;
  }
  // When Resume is due; TimePoint() = it does not wait.
  TimePoint resume_at() const { return resume_at_; }
  const Http2Guard& guard() const { return guard_; }
  // Of the client, for which gRPC has no room yet or may not have them yet; they wait since frame_since().
  int64_t pending_bytes() const { return static_cast<int64_t>(in_.size() + up_.size()); }
  TimePoint frame_since() const { return frame_since_; }
  const Origin& origin() const { return origin_; }
  Peer& peer() const { return peer_; }
  int client_fd() const { return client_fd_; }
  int server_fd() const { return server_fd_; }
  // The client's socket, which is the caller's from now on; the connection is dead.
  int TakeClient();
  // Why it was cut, once, for the log.
  std::string TakeNote() { return std::exchange(note_, {}); }

 private:
  enum class State {  // in this order
    kGreeting,        // the preface and SETTINGS are awaited
    kGreeted,         // gRPC is not there yet
    kOpen,
    kFlushing,   // gRPC has closed; what is left goes to the client
    kLingering,  // all was sent; the client is to read the end and close
    kDead,
  };

  void Judge(std::span<const uint8_t> bytes, TimePoint now);
  void ToServer(std::span<const uint8_t> bytes);
  void ToClient(std::string_view bytes);
  void Inject(const std::string& frames);  // to the client, at the next place between two frames
  void AskWhetherClientReads();
  void RefuseCall(uint32_t stream);
  // No stream is open, and all that was to be said has left this process.
  bool AllIsSaid() const;
  void LeaveIfDone(TimePoint now);
  void ServerGone(TimePoint now);
  void Linger(TimePoint now);
  void AwaitTheEnd(TimePoint now, Duration patience);
  void CloseServer();
  bool TooManyStreams() const;
  void Account();  // brings the counts up to what the guard holds now
  void CountAs(int64_t streams, int64_t receiving, int64_t sending);

  const Origin origin_;
  Peer& peer_;
  EdgeStats& stats_;
  const EdgeLimits& limits_;
  Http2Guard guard_;
  ReplyFrames replies_;
  int client_fd_, server_fd_ = -1;
  State state_ = State::kGreeting;
  std::string in_;             // of the client, not let pass yet
  std::string up_;             // for gRPC, which has no room for it yet
  std::string down_;           // for the client, likewise
  std::string inject_;         // frames of ours for the client, until a place between two of gRPC's
  bool server_spoke_ = false;  // gRPC's first frame, SETTINGS, has gone by
  bool frame_timed_ = false;   // a part of a frame or of a header block is there, since frame_since_
  bool client_left_ = false;   // it sends no more
  bool read_all_ = false;      // and all that it sent was read
  TimePoint frame_since_;
  TimePoint greeting_deadline_;
  // While flushing and lingering: how much the client has to take yet, and since when that has not changed.
  int64_t untaken_ = 0;
  TimePoint untaken_since_;
  Duration patience_ = kPatience;
  TimePoint resume_at_;
  TimePoint idle_since_, answered_at_;
  std::vector<uint32_t> refused_;  // streams that were one too many
  size_t dropped_bytes_ = 0;       // while lingering
  int64_t counted_streams_ = 0, counted_receiving_ = 0, counted_sending_ = 0;
  std::string note_;
};

}  // namespace quantd
