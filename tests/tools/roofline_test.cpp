#include "tools/bench/roofline.h"

#include <doctest/doctest.h>

#include "core/cpu/bf16_products.h"
#include "tests/tools/programs.h"

namespace sg {

using benchmark::limit_of;

TEST_CASE("roofline: an op is compared with the dtype that it computes in, or with the copy") {
  const benchmark::Roofline bf16{
      .dtype = Dtype::bf16, .matmul_flops = 400, .flops = 200, .bytes = 10};
  const profile::Row row{.flops = 800, .bytes = 1};
  for (const char* op : {"linear.fwd", "conv2d.bwd", "attention.fwd"}) {
    CHECK(limit_of(bf16, op, row).seconds == 2);
    CHECK(limit_of(bf16, op, row).limited_by == "bf16");
  }
  for (const char* op : {"depthwise3x3.fwd", "lepe.bwd", "adamw"}) {
    CHECK(limit_of(bf16, op, row).seconds == 4);
    CHECK(limit_of(bf16, op, row).limited_by == "f32");
  }
  CHECK(limit_of(bf16, "linear.fwd", {.flops = 800, .bytes = 30}).seconds == 3);
  CHECK(limit_of(bf16, "linear.fwd", {.flops = 800, .bytes = 30}).limited_by == "bytes");
}

TEST_CASE("roofline: one matmul is measured in f32, and one more in bf16") {
  const auto f32 = benchmark::measure_roofline({}, Dtype::f32);
  CHECK(f32.flops == f32.matmul_flops);
  CHECK(f32.bytes > 0);
  const auto bf16 = benchmark::measure_roofline({}, Dtype::bf16);
  CHECK(bf16.dtype == Dtype::bf16);
  CHECK(bf16.flops > 0);
  CHECK(bf16.flops != bf16.matmul_flops);
}

TEST_CASE("roofline: the first line of sgbench names the limits, and each row its own") {
  const auto run = [](const std::string& flags) {
    const auto ran = test::run_program(
        "sgbench --device cpu --model sgformer_nano --batch 1 --repeats 1 --ops " + flags);
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    return ran.out;
  };
  const auto first_line = [](const std::string& out) { return out.substr(0, out.find('\n')); };
  const std::string f32 = first_line(run("--dtype f32"));
  CHECK(f32.starts_with("limits measured now: f32 matmul "));
  CHECK(test::contains(f32, " GFLOP/s, copy "));
  CHECK_FALSE(test::contains(run("--dtype f32 --no-roofline"), "limit"));
  if (!has_bf16_products()) return;
  const std::string bf16 = first_line(run("--dtype bf16"));
  CHECK(bf16.starts_with("limits measured now: bf16 matmul "));
  CHECK(test::contains(bf16, " GFLOP/s, f32 matmul "));
  const auto j = nlohmann::json::parse(run("--dtype bf16 --json"));
  CHECK(j["roofline_matmul_flops"] != j["roofline_flops"]);
  for (const auto& op : j["ops"]) {
    const std::string name = op["name"], by = op["limited_by"];
    CAPTURE(name);
    CHECK((by == "bytes" || by == (benchmark::is_matmul(name) ? "bf16" : "f32")));
  }
}

}  // namespace sg
