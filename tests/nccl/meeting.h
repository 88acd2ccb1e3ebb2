// Processes that share memory wait for each other.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace sg::test {

// Zeros where it is new; `name` begins with a slash.
template <class T>
T* shared_memory(const std::string& name) {
  const int file = ::shm_open(name.c_str(), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ::ftruncate(file, sizeof(T)) != 0) throw std::runtime_error(name);
  void* const p = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (p == MAP_FAILED) throw std::runtime_error(name);
  return static_cast<T*>(p);
}

// In shared memory, one for all ranks.
struct Arrivals {
  std::atomic<uint64_t> all{0};
};
// Of one process.
struct Meeting {
  int ranks;
  uint64_t times = 0;

  void arrive(Arrivals& arrivals) { ++times, ++arrivals.all; }
  bool complete(const Arrivals& arrivals) const { return arrivals.all >= times * uint64_t(ranks); }
  // False where `stop` says so before all have come.
  template <class F>
  bool wait(Arrivals& arrivals, const F& stop) {
    arrive(arrivals);
    while (!complete(arrivals)) {
      if (stop()) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
  }
};

}  // namespace sg::test
