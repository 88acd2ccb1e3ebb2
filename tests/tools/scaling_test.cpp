#include "tools/bench/scaling.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "tests/tools/programs.h"

namespace sg {

namespace {

namespace fs = std::filesystem;
using benchmark::Scaling;
using benchmark::ScalingMachine;
using benchmark::Sent;
using doctest::Approx;

// 10 ms a step; loses nothing but by bandwidth and latency.
ScalingMachine plain() {
  return {.ranks_per_host = 4,
          .batch_size = 100,
          .images_per_second = 1e4,
          .reduction_start = 3e-6,
          .within_host = 1e9,
          .between_hosts = 5e8,
          .within_host_hop = 2e-6,
          .between_hosts_hop = 1e-5,
          .loader_images_per_second = 1e9};
}

const std::vector<Sent> kSent{{4e5, 0.4}, {4e5, 0.7}, {1e4, 1.0}};

nlohmann::json machine_json() {
  return nlohmann::json::parse(read_file(fs::path(SG_SOURCE_DIR) / "docs/scaling/dgx_h200.json"));
}

}  // namespace

TEST_CASE("scaling: the time of a sum, by ring and by tree") {
  ScalingMachine m = plain();
  const double bytes = 1e6;
  CHECK(benchmark::all_reduce_seconds(m, bytes, 1) == 0);
  CHECK(benchmark::all_reduce_seconds(m, 0, 4) == 0);
  CHECK(benchmark::all_reduce_seconds(m, bytes, 4) == Approx(3e-6 + 6 * 2e-6 + 1.5 * 1e-3));
  // Two hosts, of 4 and 2 ranks: 2 of 10 hops lead to another host, whose links are slower.
  CHECK(benchmark::all_reduce_seconds(m, bytes, 6) ==
        Approx(3e-6 + 8 * 2e-6 + 2 * 1e-5 + 10.0 / 6 * 2e-3));
  m.tree_share = 0.5;
  // A small sum of many ranks goes by the tree: 16 hosts are 4 hops up, and 4 down.
  CHECK(benchmark::all_reduce_seconds(m, 1, 64) ==
        Approx(3e-6 + 6 * 2e-6 + 8 * 1e-5 + 2 * 1 / 2.5e8));
  CHECK(benchmark::all_reduce_seconds(m, bytes, 4) == Approx(3e-6 + 6 * 2e-6 + 1.5 * 1e-3));
}

TEST_CASE("scaling: the mean of the largest of n normal numbers, against known ones") {
  CHECK(benchmark::expected_maximum(1) == 0);
  CHECK(benchmark::expected_maximum(2) == Approx(1 / std::sqrt(std::numbers::pi)));
  CHECK(benchmark::expected_maximum(3) == Approx(1.5 / std::sqrt(std::numbers::pi)));
  CHECK(benchmark::expected_maximum(10) == Approx(1.53875).epsilon(1e-5));
  CHECK(benchmark::expected_maximum(100) == Approx(2.50759).epsilon(1e-5));
}

TEST_CASE("scaling: nothing is lost alone, nor by links without limits") {
  ScalingMachine m = plain();
  m.jitter = 0.01, m.reduction_share = 0.2;
  const Scaling alone = benchmark::scaling(m, kSent, 1);
  CHECK(alone.efficiency == 1);
  CHECK(alone.step == Approx(0.01));
  CHECK(alone.communication == 0);
  CHECK(alone.lost.empty());
  m = plain();
  m.within_host = m.between_hosts = INFINITY;
  m.reduction_start = m.within_host_hop = m.between_hosts_hop = 0;
  CHECK(benchmark::scaling(m, kSent, 512).efficiency == Approx(1));
}

TEST_CASE("scaling: what is exposed, exactly") {
  ScalingMachine m = plain();
  const auto sum = [&](double bytes) { return benchmark::all_reduce_seconds(m, bytes, 8); };
  // One slice at the end: all of it.
  Scaling s = benchmark::scaling(m, {{4e5, 1}}, 8);
  CHECK(s.exposed == Approx(sum(4e5)));
  CHECK(s.communication == Approx(sum(4e5)));
  CHECK(s.step == Approx(0.01 + sum(4e5)));
  CHECK(s.efficiency == Approx(0.01 / (0.01 + sum(4e5))));
  CHECK(s.images_per_second == Approx(800 / s.step));
  // The first slices are hidden by what is computed after them, the last is not.
  s = benchmark::scaling(m, kSent, 8);
  CHECK(s.exposed == Approx(sum(1e4)));
  CHECK(s.communication == Approx(2 * sum(4e5) + sum(1e4)));
  // An optimizer after the last slice hides nothing.
  s = benchmark::scaling(m, {{4e5, 0.9}}, 8);
  CHECK(s.step == Approx(0.01 + sum(4e5)));
  // Too much to hide: sums run without a pause from the first slice on.
  m.between_hosts = 5e7;
  s = benchmark::scaling(m, kSent, 8);
  CHECK(s.step == Approx(0.004 + 2 * sum(4e5) + sum(1e4)));
  CHECK(s.lost[0].first == "bandwidth");
  // A hidden sum of half of the compute takes as long again from it.
  m = plain(), m.reduction_share = 0.5;
  s = benchmark::scaling(m, {{4e5, 0.4}, {0, 1}}, 8);
  CHECK(s.exposed == 0);
  CHECK(s.step == Approx(0.01 + sum(4e5) / 2));
  CHECK(s.lost[0].first == "compute taken");
}

TEST_CASE("scaling: what limits is named") {
  ScalingMachine m = plain();
  CHECK(benchmark::scaling(m, kSent, 8).lost[0].first == "last slice");
  m.reduction_start = 5e-3;
  CHECK(benchmark::scaling(m, kSent, 8).lost[0].first == "latency");
  m = plain(), m.jitter = 0.1;
  const Scaling s = benchmark::scaling(m, kSent, 8);
  CHECK(s.lost[0].first == "stragglers");
  CHECK(s.lost[0].second == Approx(0.001 * benchmark::expected_maximum(8)));
  m = plain(), m.loader_images_per_second = 1e4;  // of a host, for 4 ranks of as many each
  const Scaling loaded = benchmark::scaling(m, kSent, 8);
  CHECK(loaded.loader_images_per_second == 2e4);
  CHECK(loaded.lost[0].first == "loader");
  CHECK(loaded.lost[0].second == Approx(800 / 2e4 - loaded.step));
}

TEST_CASE("scaling: more ranks and slower links are never better") {
  ScalingMachine m = plain();
  m.jitter = 0.005, m.reduction_share = 0.1, m.tree_share = 0.6;
  double before = 1;
  for (const int64_t ranks : {1, 2, 4, 8, 16, 64, 512}) {
    const Scaling s = benchmark::scaling(m, kSent, ranks);
    CHECK(s.efficiency <= before);
    CHECK(s.half_bandwidth <= s.efficiency);
    CHECK(s.more_bandwidth >= s.efficiency);
    CHECK(s.triple_latency <= s.efficiency);
    CHECK(s.half_speed >= s.efficiency);
    before = s.efficiency;
  }
}

TEST_CASE("scaling: slices leave with their last gradient, then what the ranks agree on") {
  nn::ParameterStore store;
  for (const int64_t n : {16, 800, 1600})
    nn::ParameterScope(store).add({{.name = std::to_string(n), .official = {n}}}, {n});
  store.allocate();
  const std::vector<double> ready_times{0.4, 0.6, 0.9};
  const auto f32 = benchmark::sent_slices(store, ready_times, 2400, dist::Wire::f32);
  REQUIRE(f32.size() == 3);
  CHECK(f32[0].bytes == 4 * 2400);
  CHECK(f32[0].ready == 0.6);
  CHECK(f32[1].bytes == 4 * 16);
  CHECK(f32[1].ready == 0.9);
  CHECK(f32[2].ready == 0.9);
  CHECK(benchmark::sent_slices(store, ready_times, 2400, dist::Wire::bf16)[0].bytes == 2 * 2400);
}

TEST_CASE("scaling: the machines of the documentation are read; a wrong one is named") {
  const test::TemporaryFolder folder;
  size_t machines = 0;
  for (const auto& file : fs::directory_iterator(fs::path(SG_SOURCE_DIR) / "docs/scaling")) {
    if (file.path().extension() != ".json") continue;
    CHECK(benchmark::read_scaling_machine(file.path()).images_per_second > 0);
    ++machines;
  }
  CHECK(machines >= 5);
  const ScalingMachine h200 =
      benchmark::read_scaling_machine(fs::path(SG_SOURCE_DIR) / "docs/scaling/dgx_h200.json");
  CHECK(h200.within_host ==
        machine_json()["within_host_gb_per_second"]["value"].get<double>() * 1e9);
  CHECK(h200.within_host_hop ==
        Approx(machine_json()["within_host_hop_us"]["value"].get<double>() * 1e-6));

  const auto refused = [&](const nlohmann::json& j, const char* words) {
    test::put(folder / "m.json", j.dump());
    CHECK_THROWS_WITH_AS(benchmark::read_scaling_machine(folder / "m.json"),
                         doctest::Contains(words), Error);
  };
  nlohmann::json j = machine_json();
  j.erase("jitter");
  refused(j, "m.json: jitter: expected {\"value\"");
  j = machine_json(), j["jitter"]["value"] = -0.1;
  refused(j, "jitter: expected a number from 0 and at most 1, found -0.1");
  j = machine_json(), j["images_per_second"]["value"] = 0;
  refused(j, "images_per_second: expected a number above 0");
  j = machine_json(), j["jitter"].erase("source");
  refused(j, "jitter: expected {\"value\": a number, \"source\"");
  j = machine_json(), j["bandwith"] = 1;
  refused(j, "'bandwith' is no key of a machine; there are batch_size, ");
  refused(nlohmann::json::array(), "expected an object, found array");
}

TEST_CASE("scaling: the figures of the documentation, from its slices") {
  const std::vector<Sent> s{{16.87e6, 0.37}, {17.6e6, 0.48},  {17.09e6, 0.58}, {16.79e6, 0.69},
                            {16.84e6, 0.83}, {3.82e6, 0.937}, {1.18e6, 0.992}, {64, 0.992}};
  const auto percent = [&](const char* machine, int64_t ranks) {
    return 100 * benchmark::scaling(benchmark::read_scaling_machine(fs::path(SG_SOURCE_DIR) /
                                                                    "docs/scaling" / machine),
                                    s, ranks)
                     .efficiency;
  };
  CHECK(percent("dgx_h200.json", 8) == Approx(97.5).epsilon(0.001));
  CHECK(percent("dgx_h200.json", 512) == Approx(93.7).epsilon(0.001));
  CHECK(percent("dgx_h100.json", 64) == Approx(96.3).epsilon(0.001));
  CHECK(percent("dgx_a100.json", 8) == Approx(98.2).epsilon(0.001));
  CHECK(percent("l40s_pcie.json", 512) == Approx(97.0).epsilon(0.001));
  CHECK(percent("cpu_100gbe.json", 8) == Approx(95.0).epsilon(0.001));
}

TEST_CASE("sgbench: ranks are simulated with the slices of the model") {
  const std::string h200 = (fs::path(SG_SOURCE_DIR) / "docs/scaling/dgx_h200.json").string();
  const std::string command =
      "sgbench --model sgformer_nano --batch-size 1 --repeats 1 --simulate-ranks ";
  auto ran = test::run_program(command + "1 8 " + h200 + " --json --bucket-cap-mb 0.1");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  const nlohmann::json j = ran.json();
  REQUIRE(j["ranks"].size() == 2);
  CHECK(j["ranks"][0]["efficiency"] == 1);
  CHECK(j["ranks"][1]["ranks"] == 8);
  CHECK(j["ranks"][1]["efficiency"] < 1);
  CHECK(j["sent"].size() > 3);
  double ready = 0;
  for (const auto& s : j["sent"]) {
    CHECK(s["ready"] >= ready);
    ready = s["ready"];
  }
  // Of measured times the order alone is certain.
  CHECK(j["sent"][0]["ready"] > 0);
  CHECK(j["sent"][0]["ready"] < ready);
  CHECK(ready < 1);

  ran = test::run_program(command + h200);
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(ran.out.find("| 512 |") != std::string::npos);
  ran = test::run_program(command + "0 " + h200);
  CHECK(ran.code == 2);
  ran = test::run_program(command + h200 + " --data .");
  CHECK(ran.code == 2);
  CHECK(ran.err.find("--data: --simulate-ranks does not use it") != std::string::npos);
  CHECK(test::run_program("sgbench --mode train --bucket-cap-mb 2").code == 2);
}

}  // namespace sg
