// sgbench: images a second, memory, and where the time goes.
#include <fmt/core.h>
#include <sys/resource.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "core/cpu/parallel.h"
#include "core/text.h"
#include "tools/bench/augment_speed.h"
#include "tools/bench/bench.h"
#include "tools/bench/loader_speed.h"
#include "tools/common/options.h"

namespace {

using sg::benchmark::BenchResult;

nlohmann::json to_json(const BenchResult& r) {
  nlohmann::json j{{"images_per_second", r.images_per_second},
                   {"step_seconds", r.step_seconds},
                   {"spread", r.spread},
                   {"peak_memory_bytes", r.peak_memory_bytes},
                   {"peak_rss_bytes", r.peak_rss_bytes},
                   {"steady_allocations", r.steady_allocations},
                   {"roofline_flops", r.roofline.flops},
                   {"roofline_bytes_per_second", r.roofline.bytes},
                   {"matmul_flops", r.matmul_flops},
                   {"roofline_share", r.roofline_share}};
  for (const auto& op : r.ops)
    j["ops"].push_back({{"name", op.name},
                        {"calls", op.row.calls},
                        {"slow_calls", op.row.slow_calls},
                        {"seconds", op.row.seconds},
                        {"flops", op.row.flops},
                        {"bytes", op.row.bytes},
                        {"roofline_share", op.roofline_share}});
  return j;
}

void print_ops(const BenchResult& r) {
  fmt::print("\n| op | calls | ms | step | GFLOP/s | GB/s | of its limit |\n");
  fmt::print("|---|---:|---:|---:|---:|---:|---:|\n");
  double known = 0;
  for (const auto& op : r.ops) {
    const double s = op.row.seconds;
    known += s;
    const std::string slow =
        op.row.slow_calls ? fmt::format(" ({} on a slow path)", op.row.slow_calls) : "";
    fmt::print("| {} | {}{} | {:.2f} | {:.1f} % | {:.1f} | {:.1f} | {:.0f} % |\n", op.name,
               op.row.calls, slow, 1e3 * s, 100 * s / r.profiled_seconds, 1e-9 * op.row.flops / s,
               1e-9 * op.row.bytes / s, 100 * op.roofline_share);
  }
  fmt::print("| not in an op | | {:.2f} | {:.1f} % | | | |\n", 1e3 * (r.profiled_seconds - known),
             100 * (1 - known / r.profiled_seconds));
}

// Images a second that one core decodes, crops, resizes and mirrors.
sg::ExitCode bench_loader(const std::string& data, sg::ImageSize size, bool json) {
  if (data.empty()) sg::fail(sg::ExitCode::usage, "--mode loader needs --data DIR");
  sg::data::TransformConfig transform;
  transform.img_size = size;
  const auto r = sg::benchmark::benchmark_loader(
      *sg::data::open_dataset(data, sg::data::Split::train), transform);
  if (json)
    fmt::print("{}\n", nlohmann::json{{"mode", "loader"},
                                      {"img_size", sg::str(size)},
                                      {"images_per_second", r.images_per_second},
                                      {"images_per_second_per_core", r.images_per_second},
                                      {"slowest", r.slowest},
                                      {"fastest", r.fastest},
                                      {"images", r.images},
                                      {"broken", r.broken}}
                           .dump(2));
  else
    fmt::print("{}: {:.0f} images/s on one core ({:.0f} to {:.0f}), {} of {} broken\n",
               sg::str(size), r.images_per_second, r.slowest, r.fastest, r.broken, r.images);
  return sg::ExitCode::ok;
}

// Seconds to list the images of the training set, and what the process then has had in memory.
sg::ExitCode bench_listing(const sg::train::Options& o, bool json) {
  if (o.data.empty()) sg::fail(sg::ExitCode::usage, "--mode listing needs --data DIR");
  const auto start = std::chrono::steady_clock::now();
  const auto dataset =
      sg::data::open_dataset(o.data, sg::data::Split::train, sg::train::dataset_request(o));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const int64_t bytes = int64_t{usage.ru_maxrss} * 1024;
  if (json)
    fmt::print("{}\n", nlohmann::json{{"mode", "listing"},
                                      {"images", dataset->size()},
                                      {"classes", dataset->num_classes()},
                                      {"seconds", seconds},
                                      {"peak_rss_bytes", bytes}}
                           .dump(2));
  else
    fmt::print("{} images of {} classes in {:.3f} s, {:.0f} MB resident at most\n", dataset->size(),
               dataset->num_classes(), seconds, 1e-6 * double(bytes));
  return sg::ExitCode::ok;
}

// Microseconds that one core takes for an image.
sg::ExitCode bench_augment(sg::ImageSize size, bool json) {
  if (size.height != size.width)
    sg::fail(sg::ExitCode::usage, "--img-size: --mode augment measures squares, found {}",
             sg::str(size));
  const auto rows = sg::benchmark::benchmark_augment(size.height);
  nlohmann::json ops;
  for (const auto& r : rows) ops.push_back({{"name", r.name}, {"seconds", r.seconds}});
  if (json)
    fmt::print(
        "{}\n",
        nlohmann::json{{"mode", "augment"}, {"img_size", sg::str(size)}, {"ops", ops}}.dump(2));
  else
    for (const auto& r : rows) fmt::print("{:<24} {:7.1f} us\n", r.name, 1e6 * r.seconds);
  return sg::ExitCode::ok;
}

// Throws ExitCode::usage where a flag was given that means nothing to the mode.
void check_flags(const CLI::App& app, const std::string& mode) {
  const bool of_model = mode == "train" || mode == "infer";
  const bool of_data = mode == "loader" || mode == "listing";
  for (const CLI::Option* option : app.get_options()) {
    const auto is = [&](const char* name) { return option->check_name(name); };
    const bool used =
        of_model ? !is("--data") && !is("--no-listing-cache")
                 : is("--mode") || is("--json") || (is("--img-size") && mode != "listing") ||
                       (is("--data") && of_data) || (is("--no-listing-cache") && mode == "listing");
    if (option->count() && !used)
      sg::fail(sg::ExitCode::usage, "{}: --mode {} does not use it; leave the flag out",
               "--" + option->get_lnames().back(), mode);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app("Measures training or inference of a model on random images.");
    sg::train::Options shared;
    sg::benchmark::BenchOptions options;
    std::string mode = "infer";
    bool json = false;
    shared.batch_size = options.batch;
    sg::tools::add_options(app, shared, {"model"});
    sg::tools::add_options(app, shared, sg::tools::kModelFlags);
    sg::tools::add_options(app, shared,
                           {"img-size", "data", "no-listing-cache", "batch-size", "device", "dtype",
                            "threads", "eager"});
    sg::tools::add_choice(
        app, "--mode", mode, {"train", "infer", "loader", "augment", "listing"},
        "what is measured; loader: one core makes training images; augment: RandAugment; listing: "
        "the images of --data are listed");
    sg::tools::add_option(app,
                          {.flags = "--warmup", .help = "untimed steps", .low = 0, .high = 1000},
                          options.warmup);
    sg::tools::add_option(app,
                          {.flags = "--repeats",
                           .help = "timed steps, of which the median is shown",
                           .low = 1,
                           .high = 100000},
                          options.repeats);
    app.add_flag("--ops", options.ops, "a row per operation, from one further step");
    app.add_flag("!--no-roofline", options.roofline,
                 "does not measure the machine's limits, which takes large copies and products");
    app.add_flag("--json", json, "JSON on standard output");
    sg::tools::parse(app, argc, argv);

    check_flags(app, mode);
    if (shared.threads) sg::set_num_threads(int(*shared.threads));
    const sg::ImageSize side = shared.img_size.value_or(224);  // where no model says it
    if (mode == "loader") return bench_loader(shared.data, side, json);
    if (mode == "listing") return bench_listing(shared, json);
    if (mode == "augment") return bench_augment(side, json);
    const sg::Compute compute = sg::parse_compute(shared.device, shared.dtype);
    sg::tools::announce(compute);
    options.batch = shared.batch_size, options.eager = shared.eager;
    options.mode =
        mode == "train" ? sg::benchmark::BenchMode::train : sg::benchmark::BenchMode::infer;

    sg::sgformer::Classifier model(sg::train::model_config(shared));
    const sg::ImageSize image = shared.img_size.value_or(int(model.config().image));
    options.height = image.height, options.width = image.width;
    model.parameters().allocate(compute.dtype, compute.device);
    model.parameters().initialize(0);
    const BenchResult r = sg::benchmark::bench(model, options);

    if (json) {
      nlohmann::json j = to_json(r);
      j["model"] = model.config().name, j["mode"] = mode, j["batch"] = options.batch;
      j["device"] = sg::str(compute.device), j["dtype"] = sg::name_of(compute.dtype);
      j["threads"] = sg::num_threads(), j["version"] = SG_VERSION;
      fmt::print("{}\n", j.dump(2));
      return sg::ExitCode::ok;
    }
    fmt::print("{} {}, batch {}, {}x{}, {}, {}\n", model.config().name, mode, options.batch,
               options.height, options.width, sg::name_of(compute.dtype),
               compute.device.type == sg::DeviceType::cpu
                   ? fmt::format("{} threads", sg::num_threads())
                   : sg::backend(compute.device.type).describe(compute.device));
    fmt::print("{:.2f} images/s ({:.1f} ms a step, spread {:.0f} %)\n", r.images_per_second,
               1e3 * r.step_seconds, 100 * r.spread);
    fmt::print(
        "peak memory {:.1f} MiB of tensors, {:.1f} MiB resident; {} blocks asked of the system "
        "after warm-up\n",
        double(r.peak_memory_bytes) / (1 << 20), double(r.peak_rss_bytes) / (1 << 20),
        r.steady_allocations);
    if (options.roofline)
      fmt::print(
          "limits measured now: {:.0f} GFLOP/s, {:.1f} GB/s; the matmuls alone would take "
          "{:.0f} % of the step\n",
          1e-9 * r.roofline.flops, 1e-9 * r.roofline.bytes, 100 * r.roofline_share);
    if (options.ops) print_ops(r);
    return sg::ExitCode::ok;
  });
}
