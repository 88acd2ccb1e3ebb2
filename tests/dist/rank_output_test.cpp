#include "dist/rank_output.h"

#include <doctest/doctest.h>

using namespace sg::dist;
using Shown = RankOutput::Shown;

TEST_CASE("rank output: whole lines, with the rank") {
  RankOutput o(3, Shown::with_rank);
  CHECK(o.take("one\ntw") == "[rank 3] one\n");
  CHECK(o.take("").empty());
  CHECK(o.take("o\n\nthr") == "[rank 3] two\n[rank 3] \n");
  CHECK(o.take_rest() == "[rank 3] thr\n");
  CHECK(o.take_rest().empty());
  CHECK(o.last_lines() == std::deque<std::string>{"one", "two", "", "thr"});
}

TEST_CASE("rank output: bytes that are no text, and those that a terminal obeys") {
  const std::string bytes = std::string("a\xff\0b\x1b[31m\r\tc", 12) + "é\n";
  RankOutput with_rank(0, Shown::with_rank), as_is(0, Shown::as_is);
  CHECK(with_rank.take(bytes) == "[rank 0] a\\xff?b?[31m?\tcé\n");
  CHECK(as_is.take(bytes) == bytes);
  CHECK(as_is.last_lines()[0] == "a\\xff?b?[31m?\tcé");  // for the launcher's own message
}

TEST_CASE("rank output: a line without end takes no memory without end") {
  RankOutput o(0, Shown::with_rank);
  std::string shown;
  for (int i = 0; i < 100; ++i) shown += o.take(std::string(10'000, 'x'));
  shown += o.take_rest();
  size_t x = 0, longest = 0, begin = 0;
  for (size_t end; (end = shown.find('\n', begin)) != shown.npos; begin = end + 1) {
    CHECK(shown.substr(begin, 9) == "[rank 0] ");
    x += end - begin - 9, longest = std::max(longest, end - begin - 9);
  }
  CHECK(x == 1'000'000);
  CHECK(longest == RankOutput::kLongestLine);
  for (int i = 0; i < 100; ++i) o.take("line\n");
  CHECK(o.last_lines().size() == RankOutput::kKept);
  CHECK(o.take(std::string(RankOutput::kLongestLine, 'y') + "\n") ==
        "[rank 0] " + std::string(RankOutput::kLongestLine, 'y') + "\n");  // as long as may be
}
