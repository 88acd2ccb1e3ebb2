#include "core/profile.h"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

using namespace sg;

TEST_CASE("profile: rows are of what was issued since the last ones were taken") {
  profile::start();
  { const profile::OpScope op("first", 7, 0); }
  { const profile::OpScope op("first", profile::multiply_adds(5), 0); }
  const auto first = profile::take();
  CHECK(profile::running());
  { const profile::OpScope op("second", profile::multiply_adds(3), 0); }
  const auto second = profile::stop();
  CHECK_FALSE(profile::running());
  CHECK(first.size() == 1);
  CHECK(first.at("first").calls == 2);
  CHECK(first.at("first").flops == 7 + 2 * 5);
  CHECK(first.at("first").macs == 5);
  CHECK(second.size() == 1);
  CHECK(second.at("second").macs == 3);
}

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
