#include "dist/gloo_communicator.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "core/cpu/convert.h"
#include "core/error.h"
#include "dist/block_signals.h"
#include "dist/sums.h"

namespace sg::dist {
namespace {

using std::chrono::milliseconds;

// Who waits too long is decided by Control alone. (Gloo takes 0 for no time at all.)
constexpr milliseconds kForever = std::chrono::hours(24 * 365 * 10);

class Store final : public gloo::rendezvous::Store {
 public:
  explicit Store(Control& control) : control_(control) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    control_.set("gloo/" + key, std::string(data.begin(), data.end()));
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = control_.get("gloo/" + key);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const milliseconds&) override { wait(keys); }

 private:
  Control& control_;
};

// Threads that are started while it lives do not take the core from one that runs when they wake.
// Gloo's thread tries for a lock in a loop: where it has taken the core from the thread that holds
// the lock, this lasts for its whole time slice (a sum of one number: 10 ms, not 0.2 ms, on 2
// cores).
class PatientThreads {
 public:
  PatientThreads() { set(SCHED_BATCH); }
  ~PatientThreads() { set(SCHED_OTHER); }

 private:
  static void set(int policy) {
    const sched_param parameters{};
    ::sched_setscheduler(0, policy, &parameters);
  }
};

enum class Kind : uint8_t { all_reduce, all_gather, broadcast };
constexpr const char* kKindNames[] = {"all-reduce", "all-gather", "broadcast"};

// What a rank says of its next collective before any data: Gloo ends the process where sizes
// differ. All fields are compared.
struct Header {
  int64_t sequence = 0, numel = 0;
  Kind kind{};
  Dtype dtype{};
  Wire wire{};
  char what[37] = {};  // cut

  std::string str() const {
    return fmt::format("{} '{}' of {} {}{}", kKindNames[int(kind)], what, numel, name_of(dtype),
                       wire == Wire::bf16 ? " as bf16" : "");
  }
};
static_assert(sizeof(Wire) == 4 && sizeof(Header) == 64);

// Bytes [begin, begin + size).
struct Range {
  size_t begin = 0, size = 0;
};
Range range(int index, size_t size) { return {size_t(index) * size, size}; }

// Cuts n elements of `size` bytes into a part for each rank, of whole cache lines.
struct Parts {
  int64_t n, each;
  size_t size;
  Parts(int64_t n, size_t size, int ranks)
      : n(n), each(((n + ranks - 1) / ranks + 15) / 16 * 16), size(size) {}
  Range operator()(int rank) const {
    const int64_t begin = std::min(n, rank * each), end = std::min(n, begin + each);
    return {size_t(begin) * size, size_t(end - begin) * size};
  }
};

struct Job {
  Kind kind{};
  std::string what;
  Tensor tensor, all;  // `all` of an all-gather
  Wire wire = Wire::f32;
};

class GlooCommunicator final : public Communicator {
 public:
  explicit GlooCommunicator(Control& control)
      : control_(control), rank_(control.rank()), ranks_(control.ranks()) {
    const BlockSignals block;
    connect();
    worker_ = std::thread([this] { work(); });
  }

  ~GlooCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      if (!jobs_.empty()) abort("");
    }
    changed_.notify_all();
    worker_.join();
  }

  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }

  void start_all_reduce(std::string_view what, Tensor tensor, Wire wire) override {
    check(wire == Wire::f32 || tensor.dtype() == Dtype::f32,
          "all-reduce '{}': only f32 is sent as bf16, found {}", what, name_of(tensor.dtype()));
    start({Kind::all_reduce, std::string(what), std::move(tensor), {}, wire});
  }

  void start_all_gather(std::string_view what, Tensor mine, Tensor all) override {
    check(all.numel() == mine.numel() * ranks_ && all.dtype() == mine.dtype(),
          "all-gather '{}': of {} {} from {} ranks into {} {}", what, mine.numel(),
          name_of(mine.dtype()), ranks_, all.numel(), name_of(all.dtype()));
    start({Kind::all_gather, std::string(what), std::move(mine), std::move(all)});
  }

  void broadcast(std::string_view what, Tensor tensor) override {
    start({Kind::broadcast, std::string(what), std::move(tensor)});
    join();
  }

  void join() override {
    const auto begin = Clock::now();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return jobs_.empty() || error_; });
    times_.exposed += Seconds(Clock::now() - begin).count();
    if (error_) std::rethrow_exception(error_);
  }

  CommunicationTimes times() override {
    const std::lock_guard lock(mutex_);
    return std::exchange(times_, {});
  }

  std::optional<Reached> reached() override {
    const std::lock_guard lock(mutex_);
    if (!begin_) return Reached{begun_};
    return Reached{begun_, true, jobs_.front().what, Seconds(Clock::now() - *begin_).count()};
  }

  // Ends what is under way here, and what is to come: waiting in vain is how Gloo is told to close
  // connections. It wakes nobody whose message has come in part, so our own buffers are told too.
  void abort(std::string_view) override {
    const std::lock_guard lock(buffers_mutex_);
    aborted_ = true;
    if (in_) in_->abortWaitRecv();
    if (out_) out_->abortWaitSend();
    char byte = 0;
    try {
      context_->createUnboundBuffer(&byte, 1)->waitRecv(milliseconds(1));
    } catch (const std::exception&) {
    }
  }

 private:
  void connect() {
    const auto context = std::make_shared<gloo::rendezvous::Context>(rank_, ranks_);
    // Gloo waits five times as long for a connection.
    context->setTimeout(
        milliseconds(std::max<int64_t>(1, int64_t(control_.timeout().count() * 200))));
    auto device = open_device();
    guarded("connections", [&] {
      Store store(control_);
      context->connectFullMesh(store, device);
    });
    context_ = context;
  }

  // At the address by which others reach this rank.
  std::shared_ptr<gloo::transport::Device> open_device() const {
    gloo::transport::tcp::attr attr;
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    if (interface && *interface)
      attr.iface = std::string(interface).substr(0, std::strcspn(interface, ","));
    else
      attr.hostname = control_.address_of(rank_);
    try {
      const PatientThreads gloo;
      return gloo::transport::tcp::CreateDevice(attr);
    } catch (const std::exception& e) {
      fail(ExitCode::usage,
           "rank {} cannot open connections at {}: {}; GLOO_SOCKET_IFNAME names the interface to "
           "use",
           rank_, attr.iface.empty() ? attr.hostname : attr.iface, e.what());
    }
  }

  // What Gloo throws has no rank: Control finds who it was.
  template <class F>
  void guarded(std::string_view what, F&& f) {
    try {
      f();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& e) {
      control_.broken(fmt::format("{}: {}", what, e.what()));
    }
  }

  void start(Job job) {
    {
      const std::lock_guard lock(mutex_);
      if (error_) std::rethrow_exception(error_);
      jobs_.push_back(std::move(job));
    }
    changed_.notify_all();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      Job& job = jobs_.front();  // the queue's end grows, its front stays
      ++begun_;
      const auto begin = Clock::now();
      begin_ = begin;
      lock.unlock();
      std::exception_ptr error;
      try {
        guarded(job.what, [&] { run(job); });
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      begin_.reset();
      times_.busy += Seconds(Clock::now() - begin).count();
      if (error) {
        error_ = error;
        jobs_.clear();
      } else {
        jobs_.pop_front();
      }
      changed_.notify_all();
    }
  }

  void run(Job& job) {
    compare(job);
    auto* data = static_cast<std::byte*>(job.tensor.raw());
    const size_t bytes = job.tensor.bytes();
    if (bytes == 0) return;
    switch (job.kind) {
      case Kind::all_reduce:
        if (job.wire == Wire::bf16) {
          const int64_t n = job.tensor.numel();
          wire_.resize(size_t(n));
          convert(job.tensor.data<float>(), wire_.data(), n);
          all_reduce(reinterpret_cast<std::byte*>(wire_.data()), Dtype::bf16, n);
          convert(wire_.data(), job.tensor.data<float>(), n);
        } else {
          all_reduce(data, job.tensor.dtype(), job.tensor.numel());
        }
        return;
      case Kind::all_gather: {
        auto* all = static_cast<std::byte*>(job.all.raw());
        std::memcpy(all + size_t(rank_) * bytes, data, bytes);
        exchange(
            all, all, [&](int to) { return to == rank_ ? Range{} : range(rank_, bytes); },
            [&](int from) { return range(from, bytes); });
        return;
      }
      case Kind::broadcast: {
        // Rank 0 sends a part to each, and all exchange their parts: to any number of ranks it
        // sends no more than twice the whole.
        const Parts part_of(job.tensor.numel(), size_of(job.tensor.dtype()), ranks_);
        exchange(
            data, data, [&](int to) { return rank_ == 0 ? part_of(to) : Range{}; },
            [&](int from) { return from == 0 ? part_of(rank_) : Range{}; });
        exchange(
            data, data, [&](int) { return part_of(rank_); }, part_of);
        return;
      }
    }
  }

  void compare(const Job& job) {
    std::vector<Header>& all = headers_;
    all.assign(size_t(ranks_), {});
    Header& mine = all[size_t(rank_)];
    mine = {sequence_++, job.tensor.numel(), job.kind, job.tensor.dtype(), job.wire};
    job.what.copy(mine.what, sizeof(mine.what) - 1);
    exchange(
        all.data(), all.data(), [&](int) { return range(rank_, sizeof(Header)); },
        [&](int from) { return range(from, sizeof(Header)); });
    for (int r = 1; r < ranks_; ++r)
      check(std::memcmp(&all[0], &all[size_t(r)], sizeof(Header)) == 0,
            "the ranks do not do the same: rank 0 is in {}, {} in {}", all[0].str(),
            control_.name_of(r), all[size_t(r)].str());
  }

  // Sends sent(r) of `from` to each other rank r, and puts what comes from it in received(r) of
  // `to`. The ranges that are sent are not received into.
  template <class Sent, class Received>
  void exchange(void* from, void* to, Sent&& sent, Received&& received) {
    const auto whole = [&](auto& range_of) {
      size_t end = 0;
      for (int r = 0; r < ranks_; ++r) end = std::max(end, range_of(r).begin + range_of(r).size);
      return end;
    };
    // However this ends, what it used is not used by Gloo's thread afterwards.
    struct Release {
      GlooCommunicator& c;
      ~Release() {
        const std::lock_guard lock(c.buffers_mutex_);
        c.in_.reset();
        c.out_.reset();
      }
    } at_the_end{*this};
    {
      const std::lock_guard lock(buffers_mutex_);
      if (aborted_) throw std::runtime_error("the connections are closed");
      out_ = context_->createUnboundBuffer(from, whole(sent));
      in_ = context_->createUnboundBuffer(to, whole(received));
    }
    const uint64_t slot = slot_++;
    int sends = 0, receives = 0;
    // Each begins with another rank, so that not all send to the same.
    for (int i = 1; i < ranks_; ++i) {
      const int r = (rank_ + ranks_ - i) % ranks_;
      if (const Range p = received(r); p.size && ++receives) in_->recv(r, slot, p.begin, p.size);
    }
    for (int i = 1; i < ranks_; ++i) {
      const int r = (rank_ + i) % ranks_;
      if (const Range p = sent(r); p.size && ++sends) out_->send(r, slot, p.begin, p.size);
    }
    bool whole_came = true;
    while (whole_came && receives--) whole_came = in_->waitRecv(nullptr, kForever);
    while (whole_came && sends--) whole_came = out_->waitSend(nullptr, kForever);
    if (!whole_came) throw std::runtime_error("the connections were closed");
  }

  void all_reduce(std::byte* data, Dtype dtype, int64_t n) {
    const size_t size = size_of(dtype);
    const Parts part_of(n, size, ranks_);  // each rank sums one
    const Range mine = part_of(rank_);
    rows_.resize(std::max(rows_.size(), mine.size * size_t(ranks_)));
    exchange(data, rows_.data(), part_of, [&](int from) { return range(from, mine.size); });

    std::vector<const void*>& rows = row_pointers_;
    rows.resize(size_t(ranks_));
    for (int r = 0; r < ranks_; ++r) rows[size_t(r)] = rows_.data() + range(r, mine.size).begin;
    rows[size_t(rank_)] = data + mine.begin;
    sum_rows(dtype, rows, data + mine.begin, int64_t(mine.size / size));
    exchange(
        data, data, [&](int) { return mine; }, part_of);
  }

  Control& control_;
  const int rank_, ranks_;
  std::shared_ptr<gloo::Context> context_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;  // the first one is under way
  std::exception_ptr error_;
  int64_t begun_ = 0;                       // of all jobs
  std::optional<Clock::time_point> begin_;  // of the one under way
  CommunicationTimes times_;
  bool stop_ = false;

  std::mutex buffers_mutex_;
  bool aborted_ = false;
  std::unique_ptr<gloo::transport::UnboundBuffer> in_, out_;  // of the exchange under way

  // Of the worker alone.
  int64_t sequence_ = 0;
  uint64_t slot_ = 0;
  std::vector<Header> headers_;
  std::vector<std::byte> rows_;  // what came from each rank
  std::vector<const void*> row_pointers_;
  std::vector<bf16> wire_;

  std::thread worker_;  // the last member: it uses the others
};

}  // namespace

std::unique_ptr<Communicator> gloo_communicator(Control& control) {
  return std::make_unique<GlooCommunicator>(control);
}

}  // namespace sg::dist
