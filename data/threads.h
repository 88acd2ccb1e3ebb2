// Work that several threads share.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace sg::data {

// Of threads that wait for disks and servers: more than cores. Measured: docs/performance.md,
// "Listing".
constexpr size_t kWaitingThreads = 16;

// f(i) of [0, n), each once, by at most `count` threads. After an error no further ones begin; of
// several errors the one of the lowest i is thrown.
template <class F>
void each_by_threads(size_t count, size_t n, F&& f) {
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr error;
  size_t of_error = n;
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < std::min(count, n); ++t)
      threads.emplace_back([&] {
        for (size_t i = next++; i < n; i = next++) try {
            f(i);
          } catch (...) {
            const std::lock_guard lock(mutex);
            next = n;
            if (i < of_error) error = std::current_exception(), of_error = i;
          }
      });
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace sg::data
