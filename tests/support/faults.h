// What stand-ins for a GPU can be told to do. They fill the hooks that they have
// (tests/emulation/backend.cpp, tests/cudart/library.cpp); on a real GPU all stay empty.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sg::test {

inline bool cuda_is_emulated = false;  // true where there is a stand-in, whatever it can do

inline void (*set_descending_threads)(bool) = nullptr;
inline void (*fail_cuda_launch)(int64_t n) = nullptr;      // the n-th kernel from now on fails
inline void (*limit_cuda_memory)(size_t bytes) = nullptr;  // of the device
inline void (*set_dry_cuda)(bool) = nullptr;               // launches are checked and not run
// Whether work of a stream waits until somebody waits for it.
inline void (*delay_cuda_work)(bool computing, bool copying) = nullptr;

// Lets the threads of emulated blocks take turns in the opposite order.
struct OtherThreadOrder {
  OtherThreadOrder() {
    if (set_descending_threads) set_descending_threads(true);
  }
  ~OtherThreadOrder() {
    if (set_descending_threads) set_descending_threads(false);
  }
  OtherThreadOrder(const OtherThreadOrder&) = delete;
  OtherThreadOrder& operator=(const OtherThreadOrder&) = delete;
};

}  // namespace sg::test
