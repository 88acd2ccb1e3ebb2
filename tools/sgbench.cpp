// sgbench: images a second, memory, and where the time goes.
#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/allocator.h"
#include "core/cpu/parallel.h"
#include "core/text.h"
#include "infer/model_file.h"
#include "setups/detection.h"
#include "setups/segmentation.h"
#include "setups/setups.h"
#include "tools/bench/augment_speed.h"
#include "tools/bench/bench.h"
#include "tools/bench/loader_speed.h"
#include "tools/bench/scaling.h"
#include "tools/common/options.h"

namespace {

using sg::benchmark::BenchResult;

// Where --img-size does not say another: of segmentation, and of detection.
constexpr int kCropSide = 512;
constexpr sg::ImageSize kDetectionImage(800, 1344);

nlohmann::json to_json(const BenchResult& r) {
  nlohmann::json j{{"images_per_second", r.images_per_second},
                   {"step_seconds", r.step_seconds},
                   {"cpu_seconds", r.cpu_seconds},
                   {"spread", r.spread},
                   {"peak_memory_bytes", r.peak_memory_bytes},
                   {"peak_rss_bytes", r.peak_rss_bytes},
                   {"steady_allocations", r.steady_allocations},
                   {"roofline_matmul_flops", r.roofline.matmul_flops},
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
                        {"limited_by", op.limit.limited_by},
                        {"roofline_share", op.roofline_share()}});
  return j;
}

// "bf16 matmul 430 GFLOP/s, f32 matmul 218 GFLOP/s, copy 37.6 GB/s"
std::string to_text(const sg::benchmark::Roofline& r) {
  const auto matmul = [](sg::Dtype dtype, double flops) {
    return fmt::format("{} matmul {:.0f} GFLOP/s, ", sg::name_of(dtype), 1e-9 * flops);
  };
  const sg::Dtype acc = acc_dtype(r.dtype);
  return matmul(r.dtype, r.matmul_flops) + (acc == r.dtype ? "" : matmul(acc, r.flops)) +
         fmt::format("copy {:.1f} GB/s", 1e-9 * r.bytes);
}

void print_ops(const BenchResult& r, bool roofline) {
  fmt::print("\n");
  if (roofline)
    fmt::print(
        "Limits: of linear, conv2d and attention the {} matmul, of all others the {} matmul, or "
        "the copy.\nConvolutions are counted in direct form; Winograd's, in f32, multiply "
        "less.\n\n",
        sg::name_of(r.roofline.dtype), sg::name_of(acc_dtype(r.roofline.dtype)));
  const auto line = [&](const std::string& cells, const std::string& limit) {
    fmt::print("{}{}\n", cells, roofline ? limit : "");
  };
  line("| op | calls | ms | step | GFLOP/s | GB/s |", " limited by | of its limit |");
  line("|---|---:|---:|---:|---:|---:|", "---|---:|");
  double known = 0;
  for (const auto& op : r.ops) {
    const double s = op.row.seconds;
    known += s;
    const std::string slow =
        op.row.slow_calls ? fmt::format(" ({} on a slow path)", op.row.slow_calls) : "";
    line(fmt::format("| {} | {}{} | {:.2f} | {:.1f} % | {:.1f} | {:.1f} |", op.name, op.row.calls,
                     slow, 1e3 * s, 100 * s / r.profiled_seconds, 1e-9 * op.row.flops / s,
                     1e-9 * op.row.bytes / s),
         fmt::format(" {} | {:.0f} % |", op.limit.limited_by, 100 * op.roofline_share()));
  }
  line(fmt::format("| not in an op | | {:.2f} | {:.1f} % | | |", 1e3 * (r.profiled_seconds - known),
                   100 * (1 - known / r.profiled_seconds)),
       " | |");
}

// What was measured.
struct Measured {
  std::string model, mode;
  sg::ImageSize image;
  int64_t batch;
  sg::Compute compute;
};

void print_json(const Measured& what, const BenchResult& r) {
  nlohmann::json j = to_json(r);
  j["model"] = what.model, j["mode"] = what.mode, j["batch"] = what.batch;
  j["img_size"] = sg::str(what.image);
  j["device"] = sg::str(what.compute.device), j["dtype"] = sg::name_of(what.compute.dtype);
  j["arithmetic"] = sg::describe_dtype(what.compute);
  j["threads"] = sg::num_threads(), j["version"] = SG_VERSION;
  fmt::print("{}\n", j.dump(2));
}

void print(const Measured& what, const BenchResult& r, const sg::benchmark::BenchOptions& options) {
  const sg::Device device = what.compute.device;
  if (options.roofline) fmt::print("limits measured now: {}\n", to_text(r.roofline));
  fmt::print("{} {}, batch {}, {}x{}, {}, {}\n", what.model, what.mode, what.batch,
             what.image.height, what.image.width, sg::describe_dtype(what.compute),
             device.type == sg::DeviceType::cpu ? fmt::format("{} threads", sg::num_threads())
                                                : sg::backend(device.type).describe(device));
  fmt::print("{:.2f} images/s ({:.1f} ms a step, spread {:.0f} %)\n", r.images_per_second,
             1e3 * r.step_seconds, 100 * r.spread);
  fmt::print(
      "peak memory {:.1f} MiB of tensors, {:.1f} MiB resident; {} blocks asked of the system "
      "after warm-up\n",
      double(r.peak_memory_bytes) / (1 << 20), double(r.peak_rss_bytes) / (1 << 20),
      r.steady_allocations);
  if (options.roofline)
    fmt::print("the matmuls alone would take {:.0f} % of the step\n", 100 * r.roofline_share);
  if (options.ops) print_ops(r, options.roofline);
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
                                      {"read_seconds", r.read},
                                      {"decode_seconds", r.decode},
                                      {"resize_seconds", r.resize},
                                      {"augment_seconds", r.augment},
                                      {"images", r.images},
                                      {"broken", r.broken}}
                           .dump(2));
  else
    fmt::print(
        "{}, --aa {}: {:.0f} images/s of one core ({:.0f} to {:.0f}), {:.0f} without --aa; {} of "
        "{} broken\nan image, us: read {:.0f}, decode {:.0f}, resize {:.0f}, augment {:.0f}\n",
        sg::str(*o.img_size), o.aa, r.images_per_second, r.slowest, r.fastest,
        r.without_augmentation, r.broken, r.images + r.broken, 1e6 * r.read, 1e6 * r.decode,
        1e6 * r.resize, 1e6 * r.augment);
  return sg::ExitCode::ok;
}

// Resident memory while the loader hands out batches.
sg::ExitCode bench_loader_memory(const sg::train::Options& o, int64_t batches, bool json) {
  const auto samples = sg::benchmark::loader_memory(
      std::make_shared<sg::data::LabelledImages>(open_images(o), sg::train::transforms(o)),
      {.batch_size = int(o.batch_size),
       .workers = int(sg::train::loading_threads(o)),
       .max_broken_share = 1},
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

// What --simulate-ranks is given: numbers of ranks, or none, and a machine.json.
struct Simulation {
  std::vector<std::string> given;
  std::string machine() const { return given.back(); }
  std::vector<int64_t> ranks() const {
    std::vector<int64_t> all;
    for (size_t i = 0; i + 1 < given.size(); ++i) {
      const auto n = sg::parse_integer(given[i]);
      if (!n || *n < 1 || *n > 1'000'000)
        sg::fail(sg::ExitCode::usage,
                 "--simulate-ranks: expected numbers of ranks, 1 to 1000000, and a machine.json "
                 "last, found '{}'",
                 given[i]);
      all.push_back(*n);
    }
    return all.empty() ? std::vector<int64_t>{1, 2, 4, 8, 16, 64, 512} : all;
  }
};

// The model of scaling, with the slices of this model and, measured here, when they are ready.
sg::ExitCode simulate_ranks(const Simulation& simulation, const sg::train::Options& o,
                            sg::benchmark::BenchOptions options, bool json) {
  namespace bench = sg::benchmark;
  const auto ranks = simulation.ranks();
  const auto machine = bench::read_scaling_machine(simulation.machine());
  sg::sgformer::Classifier model(sg::train::model_config(o));
  options.mode = bench::BenchMode::train;
  model.parameters().allocate();
  model.parameters().initialize(0);
  const auto work =
      bench::workload(model, options.batch, o.img_size.value_or(int(model.config().image)));
  const auto sent =
      bench::sent_slices(model.parameters(), bench::gradient_ready_times(*work, options),
                         sg::train::slice_elements(o), sg::dist::parse_wire(o.reduce_dtype));

  nlohmann::json j{{"machine", machine.name}, {"model", model.config().name}};
  for (const bench::Sent& s : sent) j["sent"].push_back({{"bytes", s.bytes}, {"ready", s.ready}});
  fmt::memory_buffer text;
  const auto line = [&]<class... A>(fmt::format_string<A...> format, A&&... a) {
    fmt::format_to(std::back_inserter(text), format, std::forward<A>(a)...);
  };
  line("{} on {}\nMB sent, ready at % of the step:", model.config().name, machine.name);
  for (const bench::Sent& s : sent) line(" {:.3g} at {:.1f},", 1e-6 * s.bytes, 100 * s.ready);
  text.resize(text.size() - 1);
  line(
      "\n\n| ranks | step, ms | all-reduce, ms | exposed, ms | efficiency | lost by, ms | "
      "images/s "
      "| loader, images/s | bandwidth x 0.5, x 1.5 | latency x 3 | computing x 0.5 |\n"
      "|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|\n");
  for (const int64_t n : ranks) {
    const bench::Scaling s = bench::scaling(machine, sent, n);
    std::vector<std::string> lost;
    for (const auto& [cause, seconds] : s.lost)
      if (lost.size() < 3) lost.push_back(fmt::format("{} {:.2f}", cause, 1e3 * seconds));
    line("| {} | {:.2f} | {:.2f} | {:.2f} | {:.1f} % | {} | {:.0f} | {:.0f} ", n, 1e3 * s.step,
         1e3 * s.communication, 1e3 * s.exposed, 100 * s.efficiency, fmt::join(lost, ", "),
         s.images_per_second, s.loader_images_per_second);
    line("| {:.1f}, {:.1f} % | {:.1f} % | {:.1f} % |\n", 100 * s.half_bandwidth,
         100 * s.more_bandwidth, 100 * s.triple_latency, 100 * s.half_speed);
    j["ranks"].push_back(
        {{"ranks", n},
         {"step_seconds", s.step},
         {"communication_seconds", s.communication},
         {"exposed_seconds", s.exposed},
         {"efficiency", s.efficiency},
         {"images_per_second", s.images_per_second},
         {"loader_images_per_second", s.loader_images_per_second},
         {"lost_seconds", std::map<std::string, double>(s.lost.begin(), s.lost.end())},
         {"efficiency_half_bandwidth", s.half_bandwidth},
         {"efficiency_more_bandwidth", s.more_bandwidth},
         {"efficiency_triple_latency", s.triple_latency},
         {"efficiency_half_speed", s.half_speed}});
  }
  fmt::print("{}", json ? j.dump(2) + "\n" : fmt::to_string(text));
  return sg::ExitCode::ok;
}

bool of_model(std::string_view mode) { return mode == "train" || mode == "infer"; }
bool needs_data(std::string_view mode) { return mode.starts_with("loader") || mode == "listing"; }

// Throws ExitCode::usage where a flag was given that means nothing to the mode.
void check_flags(const CLI::App& app, const std::string& mode) {
  using Flags = std::set<std::string_view>;
  const Flags of_others{"data",    "no-listing-cache", "aa",          "workers",
                        "batches", "bucket-cap-mb",    "reduce-dtype"};
  const bool simulates = app.count("--simulate-ranks");
  Flags used{"mode", "json"};  // where no model is measured
  if (simulates) {
    used = {"simulate-ranks", "json",         "model",   "img-size", "batch-size",
            "bucket-cap-mb",  "reduce-dtype", "threads", "warmup",   "repeats"};
    used.insert(sg::tools::kModelFlags.begin(), sg::tools::kModelFlags.end());
  }
  if (mode != "listing") used.insert("img-size");
  if (needs_data(mode)) used.insert("data");
  if (mode == "listing") used.insert("no-listing-cache");
  if (mode.starts_with("loader")) used.insert("aa");
  if (mode == "loader-memory") used.insert({"batch-size", "workers", "batches"});
  for (const CLI::Option* option : app.get_options()) {
    if (!option->count()) continue;
    const std::string& name = option->get_lnames().back();
    if (of_model(mode) && !simulates ? of_others.contains(name) : !used.contains(name))
      sg::fail(sg::ExitCode::usage, "--{}: {} does not use it; leave the flag out", name,
               simulates ? "--simulate-ranks" : "--mode " + mode);
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
    Simulation simulation;
    int64_t batches = 10000;
    shared.batch_size = options.batch;
    shared.aa = "rand-m9-mstd0.5-inc1";
    sg::tools::add_options(app, shared, {"task", "head", "model"});
    sg::tools::add_options(app, shared, sg::tools::kModelFlags);
    sg::tools::add_options(
        app, shared,
        {"img-size", "data", "no-listing-cache", "aa", "batch-size", "device", "dtype", "threads",
         "workers", "eager", "bucket-cap-mb", "reduce-dtype"});
    sg::Bf16Emulation emulation;
    sg::tools::add_emulation_flag(app, emulation);
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
    app.add_option("--simulate-ranks", simulation.given,
                   "how fast so many ranks would train by the rates in a file, by default 1 2 4 8 "
                   "16 64 512 of them; docs/scaling.md")
        ->type_name("[N ...] machine.json")
        ->expected(1, 1000);
    app.add_flag("--ops", options.ops, "a row per operation, from one further step");
    app.add_flag("!--no-roofline", options.roofline,
                 "does not measure the machine's limits, which takes large copies and products");
    app.add_flag("--json", json, "JSON on standard output");
    sg::tools::parse(app, argc, argv);

    check_flags(app, mode);
    sg::setups::make_setup(shared.task);  // throws where it is none
    if (shared.task != sg::infer::kSegmentation && !shared.head.empty())
      sg::fail(sg::ExitCode::usage, "--head: of --task segmentation, found --task {}", shared.task);
    if (shared.threads) sg::set_num_threads(int(*shared.threads));
    if (!simulation.given.empty()) {
      options.batch = shared.batch_size;
      return simulate_ranks(simulation, shared, options, json);
    }
    if (!of_model(mode)) {
      shared.img_size = shared.img_size.value_or(224);
      if (mode == "loader") return bench_loader(shared, json);
      if (mode == "loader-memory") return bench_loader_memory(shared, batches, json);
      if (mode == "listing") return bench_listing(shared, json);
      return bench_augment(*shared.img_size, json);
    }
    if (mode == "train") emulation = sg::Bf16Emulation::never;
    const sg::Compute compute = sg::parse_compute(shared.device, shared.dtype, emulation);
    sg::tools::announce(compute);
    options.batch = shared.batch_size, options.eager = shared.eager;
    options.mode =
        mode == "train" ? sg::benchmark::BenchMode::train : sg::benchmark::BenchMode::infer;

    const auto measure = [&](auto& model, const std::string& name, sg::ImageSize usual) {
      const sg::ImageSize image = shared.img_size.value_or(usual);
      model.parameters().allocate(compute.dtype, compute.device, mode == "train");
      model.parameters().initialize(0);
      sg::Allocator::of({}).release_cached();  // what drawing them took is no step's memory
      const auto work = sg::benchmark::workload(model, options.batch, image);
      const BenchResult r = sg::benchmark::bench(*work, options);
      const Measured what{name, mode, image, options.batch, compute};
      json ? print_json(what, r) : print(what, r, options);
    };
    if (shared.task == sg::infer::kSegmentation) {
      shared.num_classes = shared.num_classes.value_or(150);
      if (shared.head.empty()) shared.head = name_of(sg::sgformer::SegmentorConfig().head);
      sg::sgformer::Segmentor model(sg::setups::segmentor_config(shared));
      model.parameters().set_groups(group_rule(model.config(), {}));
      measure(model, fmt::format("{} with {}", shared.model, shared.head), kCropSide);
    } else if (shared.task == sg::infer::kDetection) {
      sg::setups::check_detection_device(compute.device);
      shared.num_classes = shared.num_classes.value_or(80);
      sg::sgformer::Detector model(sg::setups::detector_config(shared));
      model.parameters().set_groups(group_rule(model.config(), {}));
      measure(model, fmt::format("{} in Mask R-CNN", shared.model), kDetectionImage);
    } else {
      sg::sgformer::Classifier model(sg::train::model_config(shared));
      measure(model, model.config().name, int(model.config().image));
    }
    return sg::ExitCode::ok;
  });
}
