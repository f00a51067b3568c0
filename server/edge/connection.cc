#include "server/edge/connection.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/strings.h"

namespace quantd {
namespace {

constexpr int kGrpcResourceExhausted = 8;

// Bytes that the socket took, -1 where the other side is gone.
ssize_t SendSome(int fd, std::string_view bytes) {
  for (;;) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) return n;
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -1;
  }
}

struct Received {
  size_t bytes = 0;
  bool end = false;
  bool failed = false;
};
Received Receive(int fd, std::span<uint8_t> buffer) {
  for (;;) {
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) return {.bytes = static_cast<size_t>(n)};
    if (n == 0) return {.end = true};
    if (errno != EINTR) return {.failed = errno != EAGAIN && errno != EWOULDBLOCK};
  }
}
bool HasUnread(int fd) {
  char byte;
  return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}
// Bytes that were sent and have not come to the other machine.
int64_t UndeliveredBytes(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

std::string_view AsText(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const uint8_t> AsBytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Idle connections own no buffers.
void RemoveFront(std::string& buffer, size_t bytes) {
  buffer.erase(0, bytes);
  if (buffer.empty()) std::string().swap(buffer);
}

// A browser or curl is told what this port is, in the form of an error of Connect (connectrpc.com/docs/protocol, "Error
// codes"), whose clients then show it too; whoever speaks neither HTTP gets no answer.
std::string_view AnswerToHttp1(std::string_view first_bytes) {
  for (std::string_view method : {"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH "}) {
    if (!first_bytes.starts_with(method)) continue;
    return "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
           "{\"code\": \"unimplemented\", \"message\": \"this port speaks gRPC: HTTP/2 without TLS "
           "(buf curl --protocol grpc --http2-prior-knowledge)\"}\n";
  }
  return "";
}

std::string_view MessageOf(StreamReset why) {
  switch (why) {
    case StreamReset::kReceiveBudget:
      return "the server receives too many unfinished requests, and this one was unfinished for longest";
    case StreamReset::kReceiveTimeout:
      return "the message of the request was not whole in time";
    case StreamReset::kLimit:
      return "too many calls are open";
    case StreamReset::kHeaders:
      return "the metadata of the call has more than 128 KiB";
  }
  return "";
}

}  // namespace

Connection::Connection(int client_fd, const Origin& origin, const EdgeLimits& limits, Peer& peer, EdgeStats& stats,
                       TimePoint now)
    : origin_(origin),
      peer_(peer),
      stats_(stats),
      limits_(limits),
      guard_(limits, peer.budget),
      client_fd_(client_fd),
      greeting_deadline_(now + limits.handshake_timeout),
      idle_since_(now),
      answered_at_(now) {}

Connection::~Connection() {
  CloseServer();
  CountAs(0, 0, 0);
  if (client_fd_ >= 0) close(client_fd_);
}

Connection::Interest Connection::interest() const {
  Interest i;
  const bool waits = resume_at_ != TimePoint();
  switch (state_) {
    case State::kGreeting:
      i.client_readable = true;
      break;
    case State::kGreeted:
      i.client_left = !client_left_;
      break;
    case State::kOpen:
      // Who takes no answers asks for no more of them: each of the edge's own would need room.
      i.client_readable = !waits && !read_all_ && up_.empty() && down_.size() + inject_.size() <= 2 * kReadBytes;
      i.client_left = !i.client_readable && !client_left_;
      i.client_writable = !down_.empty();
      i.server_readable = down_.empty();
      i.server_writable = !up_.empty();
      break;
    case State::kFlushing:
      i.client_writable = true;
      break;
    case State::kLingering:
      i.client_readable = true;
      i.client_writable = !down_.empty();
      break;
    case State::kDead:
      break;
  }
  return i;
}

void Connection::OnClientReadable(std::span<uint8_t> scratch, TimePoint now) {
  if (!interest().client_readable) return;
  const Received r = Receive(client_fd_, scratch);
  if (state_ == State::kLingering) {
    dropped_bytes_ += r.bytes;
    if (r.end || r.failed || dropped_bytes_ > kLingerBytes) state_ = State::kDead;
    return;
  }
  if (r.bytes > 0) {
    const std::span<const uint8_t> bytes = scratch.first(r.bytes);
    if (!in_.empty()) {
      in_.append(AsText(bytes));
      Judge(AsBytes(in_), now);
    } else {
      Judge(bytes, now);
    }
  }
  if (r.failed) return OnClientGone();
  if (!r.end) return;
  read_all_ = true;
  OnClientLeft(now);
}

void Connection::OnClientLeft(TimePoint now) {
  if (state_ > State::kOpen) return;
  if (read_all_ && resume_at_ == TimePoint()) {
    RemoveFront(in_, in_.size());  // a part of a frame
    frame_timed_ = false;
    Account();
  }
  const bool has_calls = guard_.open_streams() > 0 || !in_.empty() || (!read_all_ && HasUnread(client_fd_));
  if (state_ == State::kGreeting || (state_ == State::kGreeted && !has_calls)) return OnClientGone();
  if (!std::exchange(client_left_, true)) AskWhetherClientReads();
  LeaveIfDone(now);
}

// gRPC would cancel the calls of a client that sends no more. Whoever has only shut down its sending side gets its
// answers here; the machine of one that is gone answers this with a reset.
void Connection::AskWhetherClientReads() {
  if (server_fd_ < 0) return ToClient(EmptySettingsFrame());  // with which any server may begin
  if (inject_.empty() && down_.empty()) Inject(PingFrame("leaving?"));
}

// `bytes` are all that the guard has not let pass: those of in_, or others while in_ is empty.
void Connection::Judge(std::span<const uint8_t> bytes, TimePoint now) {
  const bool are_in = bytes.data() == AsBytes(in_).data();
  size_t good = 0, sent = 0;
  Http2Guard::Step step;
  for (;;) {
    step = guard_.Next(bytes.subspan(good), now);
    if (step.what == Http2Guard::Step::kDrop) {
      ToServer(bytes.subspan(sent, good - sent));
      good += step.bytes;
      sent = good;
      if (step.refused != 0) RefuseCall(step.refused);
      if (step.window != 0) Inject(WindowUpdateFrame(step.window));
      continue;
    }
    if (step.what != Http2Guard::Step::kForward) break;
    good += step.bytes;
    if (step.opened != 0 && TooManyStreams()) refused_.push_back(step.opened);
  }
  if (step.what == Http2Guard::Step::kCut) {
    if (!are_in) in_.assign(AsText(bytes.subspan(good)));
    return CutOff(step.cut, now);
  }
  resume_at_ = step.what == Http2Guard::Step::kWait ? step.until : TimePoint();
  if (resume_at_ != TimePoint()) ++stats_.paced[static_cast<size_t>(step.pace)];
  ToServer(bytes.subspan(sent, good - sent));
  if (are_in) {
    RemoveFront(in_, good);
  } else {
    in_.assign(AsText(bytes.subspan(good)));
  }
  if (read_all_ && step.what == Http2Guard::Step::kNeedMore) std::string().swap(in_);
  const bool partial = step.what == Http2Guard::Step::kNeedMore && !in_.empty();
  if (!partial || !frame_timed_ || good > 0) frame_since_ = now;
  frame_timed_ = partial && state_ != State::kGreeting;
  if (state_ == State::kGreeting && guard_.greeted()) state_ = State::kGreeted;
  if (guard_.open_streams() > 0) idle_since_ = now;
  Account();
  for (uint32_t stream : std::exchange(refused_, {})) EndStream(stream, StreamReset::kLimit, now);
  LeaveIfDone(now);
}

// One call of many, of which gRPC has not heard. The connection takes no more of them, which GOAWAY says: the client
// opens another for those that it begins from now on.
void Connection::RefuseCall(uint32_t stream) {
  ++stats_.streams_reset[static_cast<size_t>(StreamReset::kHeaders)];
  note_ = absl::StrCat("ended a call of ", DescribePeer(origin_.address), ": ", ToAbsl(Name(StreamReset::kHeaders)));
  Inject(TrailersOnlyFrame(stream, kGrpcResourceExhausted, MessageOf(StreamReset::kHeaders)) +
         RstStreamFrame(stream, kNoError) + GoAwayFrame(stream, kNoError, Name(Cut::kHeaderBlock)));
}

bool Connection::AllIsSaid() const {
  return guard_.open_streams() == 0 && inject_.empty() && down_.empty() && replies_.at_boundary();
}

void Connection::LeaveIfDone(TimePoint now) {
  if (state_ != State::kOpen || !AllIsSaid()) return;
  if (read_all_ && in_.empty()) return OnClientGone();  // the system delivers what has left: nothing can cross it
  if (guard_.leaving()) ServerGone(now);
}

std::optional<TimePoint> Connection::spare_since() const {
  switch (state_) {
    case State::kGreeting:
    case State::kGreeted:
      return idle_since_;
    case State::kOpen:
      if (AllIsSaid()) return idle_since_;
      return guard_.owes_answers() ? std::nullopt : std::optional(std::max(guard_.active_at(), answered_at_));
    default:
      return untaken_since_;
  }
}

bool Connection::TakesStill(TimePoint now) {
  if (UndeliveredBytes(client_fd_) == 0) return false;
  idle_since_ = now;
  return true;
}

bool Connection::settled() const {
  switch (state_) {
    case State::kOpen:
    case State::kFlushing:
      return false;
    case State::kLingering:
      return down_.empty() && UndeliveredBytes(client_fd_) == 0;
    default:
      return true;
  }
}

int Connection::TakeClient() {
  state_ = State::kDead;
  return std::exchange(client_fd_, -1);
}

bool Connection::TooManyStreams() const {
  const int64_t more = static_cast<int64_t>(guard_.open_streams()) - counted_streams_;
  return stats_.streams + more > limits_.max_open_streams || peer_.streams + more > (limits_.max_open_streams + 1) / 2;
}

void Connection::Resume(TimePoint now) {
  resume_at_ = TimePoint();
  if (state_ == State::kOpen && up_.empty()) Judge(AsBytes(in_), now);
}

void Connection::WaitForServer(TimePoint until) { resume_at_ = until; }

void Connection::GiveServer(int server_fd, TimePoint now) {
  server_fd_ = server_fd;
  state_ = State::kOpen;
  OnServerWritable(now);
}

void Connection::ToServer(std::span<const uint8_t> bytes) {
  size_t sent = 0;
  if (server_fd_ >= 0 && up_.empty() && !bytes.empty()) {
    // Where it fails gRPC has closed, which reading from it tells.
    sent = static_cast<size_t>(std::max<ssize_t>(SendSome(server_fd_, AsText(bytes)), 0));
  }
  up_.append(AsText(bytes.subspan(sent)));
}

void Connection::OnServerWritable(TimePoint now) {
  if (server_fd_ < 0) return;
  const ssize_t sent = SendSome(server_fd_, up_);
  if (sent < 0) return std::string().swap(up_);
  RemoveFront(up_, static_cast<size_t>(sent));
  Account();
  if (!up_.empty()) return;
  frame_since_ = now;  // the client was not read meanwhile
  if (state_ == State::kOpen && resume_at_ == TimePoint() && !in_.empty()) Judge(AsBytes(in_), now);
}

void Connection::OnServerReadable(std::span<uint8_t> scratch, TimePoint now) {
  if (!interest().server_readable) return;
  const Received r = Receive(server_fd_, scratch);
  if (r.bytes > 0) {
    const std::string_view bytes = AsText(scratch.first(r.bytes));
    const bool had_streams = guard_.open_streams() > 0;
    const size_t boundary = replies_.Pass(scratch.first(r.bytes), [&](const FrameHeader& frame) {
      guard_.OnServerFrame(frame, now);
      if (frame.type == kHeaders || frame.type == kData) answered_at_ = now;
    });
    if (had_streams) idle_since_ = now;
    server_spoke_ |= boundary > 0;
    if (!inject_.empty() && boundary > 0) {
      ToClient(bytes.substr(0, boundary));
      ToClient(std::exchange(inject_, {}));
      ToClient(bytes.substr(boundary));
    } else {
      ToClient(bytes);
    }
    Account();
  }
  if (r.end || r.failed) return ServerGone(now);
  LeaveIfDone(now);
}

void Connection::ToClient(std::string_view bytes) {
  if (state_ == State::kDead) return;
  if (down_.empty() && !bytes.empty()) {
    const ssize_t sent = SendSome(client_fd_, bytes);
    if (sent < 0) return OnClientGone();
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  if (bytes.empty()) return;
  down_.append(bytes);
  Account();
}

void Connection::OnClientWritable(TimePoint now) {
  if (state_ == State::kDead) return;
  if (!down_.empty()) {
    const ssize_t sent = SendSome(client_fd_, down_);
    if (sent < 0) return OnClientGone();
    if (sent > 0) answered_at_ = now;
    RemoveFront(down_, static_cast<size_t>(sent));
    Account();
  }
  if (!down_.empty()) return;
  if (state_ == State::kFlushing) Linger(now);
  if (state_ == State::kLingering) shutdown(client_fd_, SHUT_WR);
  LeaveIfDone(now);
}

void Connection::ServerGone(TimePoint now) {
  CloseServer();
  state_ = State::kFlushing;
  untaken_ = std::numeric_limits<int64_t>::max();
  untaken_since_ = now;
  std::string().swap(up_);
  if (down_.empty()) Linger(now);
}

void Connection::Linger(TimePoint now) {
  if (state_ == State::kDead) return;
  state_ = State::kLingering;
  resume_at_ = TimePoint();
  untaken_ = std::numeric_limits<int64_t>::max();
  untaken_since_ = now;
  if (down_.empty()) shutdown(client_fd_, SHUT_WR);
}

void Connection::Inject(const std::string& frames) {
  if (server_spoke_ && replies_.at_boundary()) {
    ToClient(frames);
  } else {
    inject_.append(frames);
    Account();
  }
}

void Connection::CutOff(Cut cut, TimePoint now) {
  if (state_ == State::kDead || state_ == State::kLingering || state_ == State::kFlushing) return;
  ++stats_.cut[static_cast<size_t>(cut)];
  note_ = absl::StrCat("cut the connection of ", DescribePeer(origin_.address), ": ", ToAbsl(Name(cut)));
  if (cut == Cut::kNotHttp2) {
    ToClient(AnswerToHttp1(in_));
  } else if (replies_.at_boundary()) {
    const std::string settings = server_spoke_ ? "" : EmptySettingsFrame();  // it begins what a server says
    ToClient(settings + GoAwayFrame(guard_.last_stream(), ErrorOf(cut), Name(cut)));
  }
  CloseServer();
  std::string().swap(in_);
  std::string().swap(up_);
  if (cut != Cut::kReplaced) patience_ = kLinger;
  Linger(now);
}

void Connection::EndStream(uint32_t stream, StreamReset why, TimePoint now) {
  const bool answered = guard_.Forget(stream);
  ++stats_.streams_reset[static_cast<size_t>(why)];
  note_ = absl::StrCat("ended a call of ", DescribePeer(origin_.address), ": ", ToAbsl(Name(why)));
  idle_since_ = now;
  Account();
  const std::string code = RstStreamFrame(stream, kCancel);
  ToServer(AsBytes(code));
  if (answered) return Inject(RstStreamFrame(stream, kEnhanceYourCalm));
  Inject(TrailersOnlyFrame(stream, kGrpcResourceExhausted, MessageOf(why)) + RstStreamFrame(stream, kNoError));
}

void Connection::Tick(TimePoint now, Duration patience) {
  switch (state_) {
    case State::kGreeting:
      if (now >= greeting_deadline_) CutOff(Cut::kHandshakeTimeout, now);
      return;
    case State::kGreeted:
      if (client_left_) AskWhetherClientReads();
      return;
    case State::kOpen:
      if (client_left_) AskWhetherClientReads();
      if (frame_timed_ && up_.empty() && now - frame_since_ >= limits_.handshake_timeout) {
        return CutOff(Cut::kFrameTimeout, now);
      }
      for (uint32_t stream : guard_.Late(now)) EndStream(stream, StreamReset::kReceiveTimeout, now);
      LeaveIfDone(now);
      return;
    case State::kFlushing:
    case State::kLingering:
      return AwaitTheEnd(now, std::min(patience, patience_));
    case State::kDead:
      return;
  }
}

// As long as the client takes what it is owed, it gets it; then it has kLinger to close.
void Connection::AwaitTheEnd(TimePoint now, Duration patience) {
  const int64_t untaken = static_cast<int64_t>(down_.size()) + UndeliveredBytes(client_fd_);
  if (untaken < untaken_) {
    untaken_ = untaken;
    untaken_since_ = now;
  }
  if (now - untaken_since_ >= (untaken > 0 ? patience : kLinger)) state_ = State::kDead;
}

void Connection::CloseServer() {
  CountAs(0, 0, static_cast<int64_t>(down_.size()));  // gRPC ends what is open
  if (server_fd_ >= 0) close(std::exchange(server_fd_, -1));
}

void Connection::Account() {
  const auto sending = static_cast<int64_t>(down_.size() + inject_.size());
  if (state_ > State::kOpen) return CountAs(0, 0, sending);
  CountAs(static_cast<int64_t>(guard_.open_streams()), guard_.receiving_bytes() + pending_bytes(), sending);
}

void Connection::CountAs(int64_t streams, int64_t receiving, int64_t sending) {
  const int64_t more = streams - std::exchange(counted_streams_, streams);
  stats_.streams += more;
  peer_.streams += more;
  stats_.receiving_bytes += receiving - std::exchange(counted_receiving_, receiving);
  stats_.sending_bytes += sending - std::exchange(counted_sending_, sending);
}

}  // namespace quantd
