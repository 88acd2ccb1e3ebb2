// Values made ahead by threads and handed out in order, where batches of one size do not fit:
// images of any size in evaluation.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace sg::data {

// make(begin) to make(end - 1). At most `ahead` values are made or in the making beyond the one
// that next() gives, by `threads` threads; without any, next() makes each.
template <class T>
class Ahead {
 public:
  using Make = std::function<T(int64_t i)>;

  Ahead(int64_t begin, int64_t end, int threads, int64_t ahead, Make make)
      : make_(std::move(make)), begin_(begin), next_(begin), end_(end), slots_(size_t(ahead) + 1) {
    for (int t = 0; t < threads; ++t) threads_.emplace_back([this] { work(); });
  }
  ~Ahead() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
  }
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;

  // Nothing after the last. Throws what make(i) has thrown, where its value would come; the next
  // call goes on behind it.
  std::optional<T> next() {
    std::unique_lock lock(mutex_);
    if (next_ == end_) return {};
    const int64_t i = next_;
    if (threads_.empty()) {
      ++next_;
      return make_(i);
    }
    Slot& slot = slots_[place_of(i)];
    ready_.wait(lock, [&] { return slot.done; });
    Slot taken = std::exchange(slot, {});
    ++next_;
    lock.unlock();
    work_.notify_one();
    if (taken.error) std::rethrow_exception(taken.error);
    return std::move(taken.value);
  }

 private:
  struct Slot {
    std::optional<T> value;
    std::exception_ptr error;
    bool done = false;
  };
  size_t place_of(int64_t i) const { return size_t(i - begin_) % slots_.size(); }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [&] {
        return stopping_ || (to_make_ < end_ && to_make_ < next_ + int64_t(slots_.size()));
      });
      if (stopping_) return;
      const int64_t i = to_make_++;
      lock.unlock();
      Slot made;
      try {
        made.value.emplace(make_(i));
      } catch (...) {
        made.error = std::current_exception();
      }
      made.done = true;
      lock.lock();
      slots_[place_of(i)] = std::move(made);
      ready_.notify_all();
    }
  }

  Make make_;
  int64_t begin_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable work_, ready_;
  int64_t next_, end_;  // the next value to hand out
  int64_t to_make_ = begin_;
  std::vector<Slot> slots_;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;  // the first to go: they are joined
};

}  // namespace sg::data
