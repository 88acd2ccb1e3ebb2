// sgbench: images a second, memory, and where the time goes.
#include <fmt/core.h>
#include <sys/resource.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

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

// The training set, or of shards alone and of a folder of classes all images.
std::unique_ptr<sg::data::Dataset> open_images(const sg::train::Options& o) {
  const auto request = sg::train::dataset_request(o);
  const bool has_train = sg::data::has_training_set(o.data, request);
  return sg::data::open_dataset(o.data, has_train ? sg::data::Split::train : sg::data::Split::val,
                                request);
}

// Images a second that one core makes for training, and where its time goes.
sg::ExitCode bench_loader(const sg::train::Options& o, bool json) {
  const auto r = sg::benchmark::benchmark_loader(*open_images(o), sg::train::transforms(o));
  if (json)
    fmt::print("{}\n", nlohmann::json{{"mode", "loader"},
                                      {"img_size", sg::str(*o.img_size)},
                                      {"aa", o.aa},
                                      {"images_per_second", r.images_per_second},
                                      {"slowest", r.slowest},
                                      {"fastest", r.fastest},
                                      {"images_per_second_without_aa", r.without_augmentation},
                                      {"decode_seconds", r.decode},
                                      {"resize_seconds", r.resize},
                                      {"augment_seconds", r.augment},
                                      {"images", r.images},
                                      {"broken", r.broken}}
                           .dump(2));
  else
    fmt::print(
        "{}, --aa {}: {:.0f} images/s of one core ({:.0f} to {:.0f}), {:.0f} without --aa; {} of "
        "{} broken\nan image, us: decode {:.0f}, resize {:.0f}, augment {:.0f}\n",
        sg::str(*o.img_size), o.aa, r.images_per_second, r.slowest, r.fastest,
        r.without_augmentation, r.broken, r.images + r.broken, 1e6 * r.decode, 1e6 * r.resize,
        1e6 * r.augment);
  return sg::ExitCode::ok;
}

// Resident memory while the loader hands out batches.
sg::ExitCode bench_loader_memory(const sg::train::Options& o, int64_t batches, bool json) {
  const auto samples = sg::benchmark::loader_memory(open_images(o),
                                                    {.batch_size = int(o.batch_size),
                                                     .workers = int(sg::train::loading_threads(o)),
                                                     .max_broken_share = 1,
                                                     .transform = sg::train::transforms(o)},
                                                    batches);
  nlohmann::json rows;
  for (const auto& s : samples) {
    rows.push_back({{"batches", s.batches}, {"resident_bytes", s.resident}});
    if (!json)
      fmt::print("{:>9} batches: {:.1f} MiB resident\n", s.batches, double(s.resident) / (1 << 20));
  }
  if (json) fmt::print("{}\n", nlohmann::json{{"mode", "loader-memory"}, {"memory", rows}}.dump(2));
  return sg::ExitCode::ok;
}

// Seconds to list the images of the training set, and what the process then has had in memory.
sg::ExitCode bench_listing(const sg::train::Options& o, bool json) {
  const auto start = std::chrono::steady_clock::now();
  const auto dataset = open_images(o);
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

bool of_model(std::string_view mode) { return mode == "train" || mode == "infer"; }
bool needs_data(std::string_view mode) { return mode.starts_with("loader") || mode == "listing"; }

// Throws ExitCode::usage where a flag was given that means nothing to the mode.
void check_flags(const CLI::App& app, const std::string& mode) {
  using Flags = std::set<std::string_view>;
  const Flags of_data{"data", "no-listing-cache", "aa", "workers", "batches"};
  Flags used{"mode", "json"};  // where no model is measured
  if (mode != "listing") used.insert("img-size");
  if (needs_data(mode)) used.insert("data");
  if (mode == "listing") used.insert("no-listing-cache");
  if (mode.starts_with("loader")) used.insert("aa");
  if (mode == "loader-memory") used.insert({"batch-size", "workers", "batches"});
  for (const CLI::Option* option : app.get_options()) {
    if (!option->count()) continue;
    const std::string& name = option->get_lnames().back();
    if (of_model(mode) ? of_data.contains(name) : !used.contains(name))
      sg::fail(sg::ExitCode::usage, "--{}: --mode {} does not use it; leave the flag out", name,
               mode);
  }
  if (needs_data(mode) && !app.count("--data"))
    sg::fail(sg::ExitCode::usage, "--mode {} needs --data DIR", mode);
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Measures training or inference of a model on random images, or how images of --data are "
        "listed, loaded and augmented.");
    sg::train::Options shared;
    sg::benchmark::BenchOptions options;
    std::string mode = "infer";
    bool json = false;
    int64_t batches = 10000;
    shared.batch_size = options.batch;
    shared.aa = "rand-m9-mstd0.5-inc1";
    sg::tools::add_options(app, shared, {"model"});
    sg::tools::add_options(app, shared, sg::tools::kModelFlags);
    sg::tools::add_options(app, shared,
                           {"img-size", "data", "no-listing-cache", "aa", "batch-size", "device",
                            "dtype", "threads", "workers", "eager"});
    sg::tools::add_choice(
        app, "--mode", mode, {"train", "infer", "loader", "loader-memory", "augment", "listing"},
        "what is measured; loader: one core makes training images; loader-memory: resident memory "
        "of the loader; augment: RandAugment; listing: the images of --data are listed");
    sg::tools::add_option(
        app,
        {.flags = "--batches", .help = "that --mode loader-memory loads", .low = 1, .high = 1e9},
        batches);
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
    if (!of_model(mode)) {
      shared.img_size = shared.img_size.value_or(224);
      if (mode == "loader") return bench_loader(shared, json);
      if (mode == "loader-memory") return bench_loader_memory(shared, batches, json);
      if (mode == "listing") return bench_listing(shared, json);
      return bench_augment(*shared.img_size, json);
    }
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
