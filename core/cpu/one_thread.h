// oneDNN and OpenBLAS split the sums of one call by the number of threads. Where bits must not
// depend on it, threads share calls instead, each of which has one thread.
#pragma once
#include "core/cpu/parallel.h"

namespace sg {

// While it lives, the libraries use the calling thread alone.
class OneThread {
 public:
  OneThread() : before_(num_threads()) { set_num_threads(1); }
  ~OneThread() { set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace sg
