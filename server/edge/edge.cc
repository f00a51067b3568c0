#include "server/edge/edge.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <queue>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/allocation_failure.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/edge/connect_probe.h"
#include "server/edge/connection.h"
#include "server/edge/lingering_sockets.h"
#include "server/edge/listen_sockets.h"
#include "server/edge/peer_table.h"
#include "server/edge/replacement.h"
#include "server/edge/token_bucket.h"

namespace quantd {
namespace {

constexpr Duration kTick = std::chrono::milliseconds(500), kStoppingTick = std::chrono::milliseconds(50);
constexpr int kAcceptsAtOnce = 64;  // before connections that have something are looked at again
constexpr Duration kAcceptPause = std::chrono::milliseconds(50);  // where not even the spare descriptor helps
// Connections of a newcomer's address, where it is not accepted yet: it may be one that has many.
constexpr int kUnknown = 1 << 24;
constexpr Duration kRelieveInterval = std::chrono::milliseconds(10);
// Of the socket pair, each way. The kernel doubles it for its own needs.
constexpr int kPairBytes = 64 * 1024;
// Lines on connections that were cut; the rest are counted.
constexpr TokenBucket::Rate kNotes{10, 1};

// What an epoll event is about: a connection's number and which of its sockets, or one of these.
constexpr uint64_t kWake = 0, kListener = 1, kFirstConnection = 2;
uint64_t ClientTag(uint64_t id) { return id * 2; }
uint64_t ServerTag(uint64_t id) { return id * 2 + 1; }

sockaddr_storage AddressOf(int fd, int (*get)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  get(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return address;
}
int PortOf(const sockaddr_storage& a) {
  if (a.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(a).sin_port);
  if (a.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(a).sin6_port);
  return 0;
}

bool IsOutOfDescriptors(int error) { return error == EMFILE || error == ENFILE; }

class EpollEdge final : public Edge {
 public:
  EpollEdge(ListenSockets sockets, const EdgeLimits& limits)
      : limits_(limits), sockets_(std::move(sockets)), address_(sockets_.address()), scratch_(Connection::kReadBytes) {}
  ~EpollEdge() override {
    Stop(Duration::zero());
    for (const int fd : {epoll_fd_, wake_fd_, spare_fd_}) {
      if (fd >= 0) close(fd);
    }
  }

  absl::Status Open() {
    epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    spare_fd_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (epoll_fd_ < 0 || wake_fd_ < 0 || spare_fd_ < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot listen on ", ToString(address_), ": ", std::strerror(errno)));
    }
    Watch(EPOLL_CTL_ADD, wake_fd_, EPOLLIN, kWake);
    sockaddr_storage bound{};
    socklen_t size = 0;
    sockets_.GetAddress(bound, size);
    probe_ = std::make_unique<ConnectProbe>(bound, size, [this](int port) { probe_port_ = port; });
    return absl::OkStatus();
  }

  void Start(std::function<void(int fd)> hand_over) override {
    hand_over_ = std::move(hand_over);
    for (int fd : sockets_.fds()) Watch(EPOLL_CTL_ADD, fd, EPOLLIN, kListener);
    thread_ = std::thread([this] { Run(); });
  }
  void StopAccepting(Duration quiet) override {
    if (!thread_.joinable()) return;
    MutexLock lock(mutex_);
    stop_accepting_ = true;
    quiet_ = quiet;
    eventfd_write(wake_fd_, 1);
    while (!accepts_none_) changed_.Wait(mutex_);
  }
  void Stop(Duration flush) override {
    if (!thread_.joinable()) return;
    {
      MutexLock lock(mutex_);
      stop_accepting_ = true;
      stop_at_ = Now() + flush;
    }
    eventfd_write(wake_fd_, 1);
    thread_.join();
  }

  const HostPort& address() const override { return address_; }
  const EdgeStats& stats() const override { return stats_; }
  const EdgeLimits& limits() const override { return limits_; }
  bool Answers() override { return probe_->Answers(); }

 private:
  struct Place {
    std::unique_ptr<Connection> connection;
    uint32_t client_events = 0, server_events = 0;  // that epoll waits for
    TimePoint resume_at;                            // that resumes_ knows
  };
  using Places = std::unordered_map<uint64_t, Place>;  // whole after an allocation that fails

  void Watch(int operation, int fd, uint32_t events, uint64_t tag) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    epoll_ctl(epoll_fd_, operation, fd, &event);
  }

  void Run() {
    std::array<epoll_event, 256> events;
    TimePoint next_tick = Now();
    for (;;) {
      const int n = epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), Timeout(next_tick));
      const TimePoint now = Now();
      if (TakeOrders(now)) return;
      for (int i = 0; i < n; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        For(event.data.u64 / 2, now, [&] { OnEvent(event, now); });
      }
      ResumeWaiting(now);
      if (now >= next_tick) {
        IfMemoryAllows([&] { Tick(now); });
        next_tick = now + (stopping_ ? kStoppingTick : kTick);
      }
    }
  }

  // Work of one connection: where an allocation of it fails, that one is closed.
  template <typename Work>
  void For(uint64_t id, TimePoint now, const Work& work) {
    bool done = false;
    IfMemoryAllows([&] {
      work();
      done = true;
    });
    if (!done && places_.contains(id)) Close(id, now);
  }

  int Timeout(TimePoint next_tick) const {
    if (places_.empty() && lingering_.empty() && !listen_again_.has_value() && !stopping_) return -1;
    TimePoint first = next_tick;
    if (!resumes_.empty()) first = std::min(first, resumes_.top().first);
    return static_cast<int>(std::max<int64_t>(std::chrono::ceil<std::chrono::milliseconds>(first - Now()).count(), 0));
  }

  // What other threads have asked for. True where it is time to end.
  bool TakeOrders(TimePoint now) {
    bool stop;
    std::optional<TimePoint> at;
    {
      MutexLock lock(mutex_);
      stop = stop_accepting_;
      at = stop_at_;
    }
    if (stop && !stopping_) {
      stopping_ = true;
      sockets_.Close();  // which takes them from epoll too
      listen_again_.reset();
      MutexLock lock(mutex_);
      accepts_none_ = true;
      changed_.NotifyAll();
    }
    if (!at.has_value()) return false;
    // A connection that only waits for its client to go has all it is to have.
    const bool done =
        std::all_of(places_.begin(), places_.end(), [](const auto& p) { return p.second.connection->settled(); });
    if (!done && now < *at) return false;
    places_.clear();
    stats_.connections = 0;
    return true;
  }

  void OnEvent(const epoll_event& event, TimePoint now) {
    const uint64_t tag = event.data.u64;
    if (tag == kWake) {
      eventfd_t ignored;
      eventfd_read(wake_fd_, &ignored);
      return;
    }
    if (tag == kListener) return AcceptAll(now);
    const auto it = places_.find(tag / 2);
    if (it == places_.end()) return;  // it was closed on behalf of another event
    Connection& c = *it->second.connection;
    if (tag == ServerTag(tag / 2)) {
      if (event.events & EPOLLOUT) c.OnServerWritable(now);
      if (event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) c.OnServerReadable(RoomForAnswers(), now);
    } else {
      if (event.events & (EPOLLHUP | EPOLLERR)) {
        c.OnClientGone();
      } else {
        if (event.events & EPOLLOUT) c.OnClientWritable(now);
        if ((event.events & EPOLLRDHUP) && c.interest().client_left) c.OnClientLeft(now);
        if (event.events & EPOLLIN) c.OnClientReadable(scratch_, now);
      }
    }
    Settle(tag / 2, now);
    if (stats_.receiving_bytes > limits_.receive_budget && now >= relieve_at_) RelieveBudget(now);
  }

  std::span<uint8_t> RoomForAnswers() {
    const std::span<uint8_t> all(scratch_);
    return stats_.sending_bytes > limits_.send_budget ? all.first(Connection::kScarceReadBytes) : all;
  }

  // After anything that happened to a connection.
  void Settle(uint64_t id, TimePoint now) {
    const auto it = places_.find(id);
    Connection& c = *it->second.connection;
    if (c.wants_server()) GiveServer(id, c, now);
    Note(c.TakeNote(), now);
    if (c.dead()) return Close(id, now);
    if (c.resume_at() != TimePoint() && c.resume_at() != it->second.resume_at) resumes_.emplace(c.resume_at(), id);
    it->second.resume_at = c.resume_at();
    UpdateInterest(id, it->second);
  }

  void UpdateInterest(uint64_t id, Place& place) {
    const Connection& c = *place.connection;
    const Connection::Interest i = c.interest();
    const uint32_t client =
        (i.client_readable ? EPOLLIN : 0u) | (i.client_writable ? EPOLLOUT : 0u) | (i.client_left ? EPOLLRDHUP : 0u);
    uint32_t server = (i.server_readable ? EPOLLIN : 0u) | (i.server_writable ? EPOLLOUT : 0u);
    if (client != place.client_events) Watch(EPOLL_CTL_MOD, c.client_fd(), client, ClientTag(id));
    place.client_events = client;
    if (c.server_fd() < 0) {
      server = 0;  // closing it took it from epoll
    } else if (server != place.server_events) {
      // Not there at all where nothing is waited for: that the other end has closed would be told without end.
      const int operation = server == 0 ? EPOLL_CTL_DEL : place.server_events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
      Watch(operation, c.server_fd(), server, ServerTag(id));
    }
    place.server_events = server;
  }

  void Close(uint64_t id, TimePoint now) {
    const auto it = places_.find(id);
    const PeerKey key = it->second.connection->origin().key;
    places_.erase(it);
    peers_.Leave(key, now);
    stats_.connections = static_cast<int64_t>(places_.size());
  }

  void ResumeWaiting(TimePoint now) {
    while (!resumes_.empty() && resumes_.top().first <= now) {
      const auto [when, id] = resumes_.top();
      resumes_.pop();
      const auto it = places_.find(id);
      if (it == places_.end() || it->second.connection->resume_at() != when) continue;
      For(id, now, [&] {
        it->second.connection->Resume(now);
        Settle(id, now);
      });
    }
  }

  void Tick(TimePoint now) {
    if (listen_again_.has_value() && now >= *listen_again_) {
      listen_again_.reset();
      for (int fd : sockets_.fds()) Watch(EPOLL_CTL_MOD, fd, EPOLLIN, kListener);
    }
    lingering_.CloseDue(now);
    const Duration quiet = std::min<Duration>(stopping_ ? Quiet() : Connection::kPatience, Connection::kPatience);
    std::vector<uint64_t> ids;
    ids.reserve(places_.size());
    for (const auto& [id, place] : places_) ids.push_back(id);
    for (uint64_t id : ids) {
      const auto it = places_.find(id);
      if (it == places_.end()) continue;  // another one needed its place
      For(id, now, [&] {
        Connection& c = *it->second.connection;
        c.Tick(now, quiet);
        if (stopping_ && c.stalled_since(now - quiet)) c.CutOff(Cut::kStalled, now);
        Settle(id, now);
      });
    }
  }
  Duration Quiet() {
    MutexLock lock(mutex_);
    return quiet_;
  }

  void AcceptAll(TimePoint now) {
    for (int fd : sockets_.fds()) {
      for (int i = 0; i < kAcceptsAtOnce; ++i) {
        if (!AcceptOne(fd, now)) break;
      }
    }
  }

  // False where nobody waits, or nobody can be taken now.
  bool AcceptOne(int listener, TimePoint now) {
    int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && IsOutOfDescriptors(errno)) {
      if (!lingering_.CloseAll() && !Replace(nullptr, 0, kUnknown, now)) return Shed(listener, now);
      fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    }
    if (fd < 0) {
      const bool other = errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ECONNABORTED;
      if (other) PauseAccepting(now);
      return errno == ECONNABORTED || errno == EINTR;
    }
    bool taken = false;
    IfMemoryAllows([&] {
      Admit(fd, now);
      taken = true;
    });
    if (!taken) close(fd);
    return true;
  }

  // Takes the connection with the descriptor that is kept for this, to close it: else it would stay at the head of the
  // queue, and the listener would be readable for ever.
  bool Shed(int listener, TimePoint now) {
    if (spare_fd_ >= 0) close(std::exchange(spare_fd_, -1));
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    const bool nobody_waits = fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (fd >= 0) {
      ++stats_.refused[static_cast<size_t>(Refusal::kDescriptors)];
      Note("out of file descriptors: refused a connection", now);
      close(fd);
    }
    spare_fd_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if ((fd < 0 && !nobody_waits) || spare_fd_ < 0) PauseAccepting(now);
    return fd >= 0;
  }

  void PauseAccepting(TimePoint now) {
    listen_again_ = now + kAcceptPause;
    for (int fd : sockets_.fds()) Watch(EPOLL_CTL_MOD, fd, 0, kListener);
  }

  void Admit(int fd, TimePoint now) {
    Connection::Origin origin{AddressOf(fd, getpeername), {}, false};
    origin.key = KeyOf(origin.address);
    origin.probe = IsProbe(fd, origin);
    const bool is_unix = origin.address.ss_family != AF_INET && origin.address.ss_family != AF_INET6;
    const int per_peer =
        limits_.max_connections_per_peer > 0 ? limits_.max_connections_per_peer : (limits_.max_connections + 1) / 2;
    const int own = peers_.connections(origin.key);
    if (!is_unix && !origin.probe && own >= per_peer && !Replace(&origin.key, 0, own, now)) {
      return Refuse(fd, Refusal::kPeerLimit, origin, now);
    }
    if (static_cast<int>(places_.size()) >= limits_.max_connections && !Replace(nullptr, 0, own, now)) {
      return Refuse(fd, Refusal::kLimit, origin, now);
    }
    if (!is_unix) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    if (!origin.probe) ++stats_.accepted;
    const uint64_t id = next_id_++;
    Place& place = NewPlace(id, fd, origin, now);
    stats_.connections = static_cast<int64_t>(places_.size());
    Watch(EPOLL_CTL_ADD, fd, 0, ClientTag(id));
    UpdateInterest(id, place);
  }

  // All of it or nothing, where an allocation fails.
  Place& NewPlace(uint64_t id, int fd, const Connection::Origin& origin, TimePoint now) {
    Peer& peer = peers_.Enter(origin.key, now);
    try {
      Place& place = places_[id];
      place.connection = std::make_unique<Connection>(fd, origin, limits_, peer, stats_, now);
      return place;
    } catch (...) {
      places_.erase(id);
      peers_.Leave(origin.key, now);
      throw;
    }
  }

  bool IsProbe(int fd, const Connection::Origin& origin) {
    int expected = probe_port_;
    if (expected == 0 || PortOf(origin.address) != expected) return false;
    if (KeyOf(AddressOf(fd, getsockname)) != origin.key) return false;
    return probe_port_.compare_exchange_strong(expected, 0);
  }

  void Refuse(int fd, Refusal why, const Connection::Origin& origin, TimePoint now) {
    ++stats_.refused[static_cast<size_t>(why)];
    Note(absl::StrCat("refused a connection of ", DescribePeer(origin.address), ": ", ToAbsl(Name(why))), now);
    const std::string answer = EmptySettingsFrame() + GoAwayFrame(0, kEnhanceYourCalm, "too many connections");
    [[maybe_unused]] const ssize_t sent = send(fd, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    lingering_.Add(fd, now);
  }

  // Closes the connection that is least missed (Replacement), of `key` or of all but `except`. `connections` are those
  // of the newcomer's address. False where none may go.
  bool Replace(const PeerKey* key, uint64_t except, int connections, TimePoint now) {
    constexpr int kLooks = 4;  // some may turn out to have bytes on their way
    uint64_t found = 0;
    for (int i = 0; i < kLooks; ++i) {
      found = FindReplaceable(key, except, connections, now);
      if (found == 0) return false;
      Connection& c = *places_.find(found)->second.connection;
      if (!c.idle() || !c.TakesStill(now)) break;
    }
    Connection& c = *places_.find(found)->second.connection;
    c.CutOff(Cut::kReplaced, now);  // no line of the log: the metric tells
    lingering_.Add(c.TakeClient(), now);
    Close(found, now);
    return true;
  }
  uint64_t FindReplaceable(const PeerKey* key, uint64_t except, int connections, TimePoint now) const {
    Replacement replacement(connections, limits_.quiet_time, now);
    for (const auto& [id, place] : places_) {
      const Connection& c = *place.connection;
      if (id == except || c.origin().probe || (key != nullptr && c.origin().key != *key)) continue;
      const std::optional<TimePoint> since = c.spare_since();
      if (since.has_value()) replacement.Offer({id, !c.idle(), *since, c.peer().budget.connections});
    }
    return replacement.best();
  }

  void GiveServer(uint64_t id, Connection& c, TimePoint now) {
    if (stopping_) return c.OnClientGone();  // gRPC takes no more
    TokenBucket& rate = c.peer().budget.greetings;
    if (!c.origin().probe && !rate.Has(1, now)) {
      ++stats_.paced[static_cast<size_t>(Pace::kConnections)];
      return c.WaitForServer(c.peer().budget.When(rate, 1, now));
    }
    int ends[2];
    constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int failed = socketpair(AF_UNIX, kType, 0, ends);
    if (failed != 0 && IsOutOfDescriptors(errno) && Replace(nullptr, id, c.peer().budget.connections, now))
      failed = socketpair(AF_UNIX, kType, 0, ends);
    if (failed != 0) {
      ++stats_.refused[static_cast<size_t>(Refusal::kDescriptors)];
      Note("out of file descriptors: refused a connection", now);
      return c.OnClientGone();
    }
    if (!c.origin().probe) rate.Take(1);
    for (int end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kPairBytes, sizeof kPairBytes);
    hand_over_(ends[1]);  // first: else gRPC would begin to serve what it finds there on this thread
    c.GiveServer(ends[0], now);
  }

  // A warning about strangers, of which there may be thousands a second.
  void Note(const std::string& note, TimePoint now) {
    if (note.empty()) return;
    if (!notes_.Has(1, now)) {
      ++unlogged_;
      return;
    }
    notes_.Take(1);
    const int64_t more = std::exchange(unlogged_, 0);
    LogWarning(more == 0 ? note : absl::StrCat(note, " (and ", more, " more such lines before)"));
  }

  // Ends the streams that have cost the most, bytes times age, until an eighth of the budget is free: a quick upload
  // goes on beside any number of those that stand still.
  void RelieveBudget(TimePoint now) {
    struct Candidate {
      uint64_t id;
      Http2Guard::Unfinished unfinished;
    };
    std::vector<Candidate> all;
    relieve_at_ = now + kRelieveInterval;  // it looks at every stream
    for (const auto& [id, place] : places_) {
      const Connection& c = *place.connection;
      // What is of no stream yet, and where gRPC knows none: the connection is to go, for which stream 0 stands.
      const int64_t bytes = c.pending_bytes() + (c.open() ? 0 : c.guard().receiving_bytes());
      if (bytes > 0) all.push_back({id, {0, bytes, static_cast<double>(bytes) * ToSeconds(now - c.frame_since())}});
      if (!c.open()) continue;
      for (const Http2Guard::Unfinished& u : c.guard().ListUnfinished(now)) all.push_back({id, u});
    }
    std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
      return a.unfinished.byte_seconds > b.unfinished.byte_seconds;
    });
    for (const Candidate& c : all) {
      if (stats_.receiving_bytes <= limits_.receive_budget / 8 * 7) return;
      const auto it = places_.find(c.id);
      if (it == places_.end()) continue;
      if (c.unfinished.stream == 0) {
        it->second.connection->CutOff(Cut::kReceiveBudget, now);
      } else if (it->second.connection->open()) {
        it->second.connection->EndStream(c.unfinished.stream, StreamReset::kReceiveBudget, now);
      }
      Settle(c.id, now);
    }
  }

  const EdgeLimits limits_;
  ListenSockets sockets_;  // of the thread once it runs
  const HostPort address_;
  std::function<void(int)> hand_over_;
  EdgeStats stats_;
  std::atomic<int> probe_port_{0};  // of the readiness check that comes next
  std::unique_ptr<ConnectProbe> probe_;
  int epoll_fd_ = -1, wake_fd_ = -1, spare_fd_ = -1;
  Mutex mutex_;
  CondVar changed_;
  bool stop_accepting_ QD_GUARDED_BY(mutex_) = false, accepts_none_ QD_GUARDED_BY(mutex_) = false;
  Duration quiet_ QD_GUARDED_BY(mutex_) = Duration::max();
  std::optional<TimePoint> stop_at_ QD_GUARDED_BY(mutex_);
  // Of the thread.
  PeerTable peers_;  // outlives the connections
  Places places_;
  using Resume = std::pair<TimePoint, uint64_t>;
  std::priority_queue<Resume, std::vector<Resume>, std::greater<>> resumes_;
  std::vector<uint8_t> scratch_;
  LingeringSockets lingering_;
  uint64_t next_id_ = kFirstConnection;
  bool stopping_ = false;
  std::optional<TimePoint> listen_again_;
  TimePoint relieve_at_;
  TokenBucket notes_{kNotes};
  int64_t unlogged_ = 0;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Edge>> Edge::Listen(const HostPort& address, const EdgeLimits& limits) {
  QD_ASSIGN_OR_RETURN(ListenSockets sockets, ListenSockets::Bind(address));
  auto edge = std::make_unique<EpollEdge>(std::move(sockets), limits);
  QD_RETURN_IF_ERROR(edge->Open());
  return edge;
}

}  // namespace quantd
