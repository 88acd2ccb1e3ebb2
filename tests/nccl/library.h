// A stand-in for NCCL, as a shared library of its name, on the stand-in for the CUDA runtime: the
// ranks are this process, or processes that share memory. So dist/cuda runs where there is no GPU.
//
// It finds what NCCL would not forgive: calls on a communicator that is busy, after the end, or of
// another device; ranks that do not do the same; an end while graphs still have its work.
#pragma once
#include <nccl.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace sg::test {

struct FakeNccl {
  int version = NCCL_VERSION_CODE;
  int polls = 2;             // how often it says "in progress" after each call
  bool never_ready = false;  // it says so for ever
  bool hangs = false;        // operations wait until they are aborted, as for a rank that is gone
  ncclResult_t asynchronous = ncclSuccess;      // what it says of work that was started
  std::map<std::string, ncclResult_t> failing;  // what the next call of a function ends with
  std::string last_error;
  std::function<bool()> graphs_exist = [] { return false; };

  std::vector<std::string> calls;   // all but the polls, in order
  std::vector<std::string> faults;  // of the caller
  ncclConfig_t config{};            // of the last communicator
  std::string name;                 // that it had there
  int communicators = 0;            // that exist
  int aborts = 0;                   // that have ended
};
FakeNccl& fake_nccl();

}  // namespace sg::test
