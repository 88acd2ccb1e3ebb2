// Lets the threads of emulated CUDA blocks take turns in the opposite order. The emulation fills
// the hook; on a card the order is the card's own.
#pragma once

namespace sg::test {

inline void (*set_descending_threads)(bool) = nullptr;

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
