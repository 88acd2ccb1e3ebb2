#include "data/ahead.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

using namespace sg::data;

TEST_CASE("ahead: values in order, for any number of threads, each made once") {
  for (const int threads : {0, 1, 3}) {
    std::atomic<int> made = 0;
    Ahead<std::string> values(5, 40, threads, 4, [&](int64_t i) {
      if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++made;
      return std::to_string(i);
    });
    for (int64_t i = 5; i < 40; ++i) CHECK(values.next() == std::to_string(i));
    CHECK(!values.next());
    CHECK(!values.next());
    CHECK(made == 35);
  }
}

TEST_CASE("ahead: no further than it is told, and without a call from the start") {
  std::atomic<int64_t> most = -1;
  Ahead<int64_t> values(0, 100, 2, 3, [&](int64_t i) {
    int64_t seen = most;
    while (seen < i && !most.compare_exchange_weak(seen, i)) {
    }
    return i;
  });
  const auto made_to = [&](int64_t i) {
    for (int waits = 0; waits < 1000 && most < i; ++waits)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return most == i;
  };
  CHECK(made_to(3));
  CHECK(values.next() == 0);
  CHECK(made_to(4));
}

TEST_CASE("ahead: an error comes where its value would; it may be left at any time") {
  for (const int threads : {0, 2}) {
    Ahead<int64_t> values(0, 10, threads, 2, [](int64_t i) {
      if (i == 2) throw std::runtime_error("two");
      return i;
    });
    CHECK(values.next() == 0);
    CHECK(values.next() == 1);
    CHECK_THROWS_WITH(values.next(), "two");
    CHECK(values.next() == 3);
  }
}
