#include "core/profile.h"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

using namespace sg;

TEST_CASE("profile: slow paths count for the innermost operation, and are logged once a kind") {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_st>(log)));
  spdlog::default_logger()->set_pattern("%v");
  int examples = 0;
  const auto slow = [&](const char* op, const char* way) {
    profile::slow_path(op, way, 100, [&] { return ++examples, std::string("a shape"); });
  };
  slow("op", "one way"), profile::add_bytes(7);  // no profile runs
  profile::start();
  slow("op", "one way"), profile::add_bytes(7);  // outside of an operation
  for (int i = 0; i < 2; ++i) {
    const profile::OpScope outer("outer", 0, 1);
    {
      const profile::OpScope inner("inner", 0, 10);
      profile::add_bytes(1000);
      if (i == 1) slow("op", "one way"), slow("op", "another way");
    }
    profile::add_bytes(5);
  }
  const auto rows = profile::stop();
  spdlog::set_default_logger(before);
  CHECK(rows.size() == 2);
  CHECK(rows.at("outer").bytes == 2 * 6);
  CHECK(rows.at("outer").slow_calls == 0);
  CHECK(rows.at("inner").bytes == 2 * 1010 + 200);
  CHECK(rows.at("inner").calls == 2);
  CHECK(rows.at("inner").slow_calls == 1);
  CHECK(log.str() == "op: one way; first for a shape\nop: another way; first for a shape\n");
  CHECK(examples == 2);
}
