#include "tools/bench/scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <set>

#include "io/file.h"
#include "io/json.h"

namespace sg::benchmark {
namespace {

constexpr double kAgreementBytes = 64;  // loss, its parts, the wish to stop

struct Key {
  const char* name;
  double ScalingMachine::*field;
  double low = 0, high = INFINITY;
  double unit = 1;
  bool low_itself = true;  // is allowed
};

const Key kKeys[] = {
    {"ranks_per_host", &ScalingMachine::ranks_per_host, 1, 1e6},
    {"batch_size", &ScalingMachine::batch_size, 1, 1e6},
    {"images_per_second", &ScalingMachine::images_per_second, 0, 1e12, 1, false},
    {"jitter", &ScalingMachine::jitter, 0, 1},
    {"reduction_share", &ScalingMachine::reduction_share, 0, 0.99},
    {"reduction_start_us", &ScalingMachine::reduction_start, 0, 1e9, 1e-6},
    {"within_host_gb_per_second", &ScalingMachine::within_host, 0, 1e9, 1e9, false},
    {"within_host_hop_us", &ScalingMachine::within_host_hop, 0, 1e9, 1e-6},
    {"between_hosts_gb_per_second", &ScalingMachine::between_hosts, 0, 1e9, 1e9, false},
    {"between_hosts_hop_us", &ScalingMachine::between_hosts_hop, 0, 1e9, 1e-6},
    {"tree_share", &ScalingMachine::tree_share, 0, 1},
    {"loader_images_per_second", &ScalingMachine::loader_images_per_second, 0, 1e12, 1, false},
};

// Hosts are filled one after the other.
double hosts_of(const ScalingMachine& m, int64_t ranks) {
  return std::ceil(double(ranks) / m.ranks_per_host);
}

struct Step {
  double seconds = 0, communication = 0, exposed = 0;
};

// Sums run one after the other beside backward, which they slow, and the optimizer waits for the
// last of them.
Step step_of(const ScalingMachine& m, const std::vector<Sent>& sent, int64_t ranks) {
  const double alone = m.batch_size / m.images_per_second;
  Step s;
  double now = 0, done = 0;  // seconds; and of them, in which one rank alone would be so far
  double idle = 0;           // when the last sum so far ends
  for (const Sent& slice : sent) {
    const double left = alone * slice.ready - done;
    const double slowed = std::min(left, std::max(0.0, idle - now) * (1 - m.reduction_share));
    now += slowed / (1 - m.reduction_share) + (left - slowed), done += left;
    const double seconds = all_reduce_seconds(m, slice.bytes, ranks);
    idle = std::max(idle, now) + seconds, s.communication += seconds;
  }
  s.exposed = std::max(0.0, idle - now);
  s.seconds = now + s.exposed + (alone - done);
  s.seconds += m.jitter * alone * expected_maximum(ranks);
  return s;
}

ScalingMachine with_links(ScalingMachine m, double bandwidth, double latency) {
  m.within_host *= bandwidth, m.between_hosts *= bandwidth;
  m.reduction_start *= latency, m.within_host_hop *= latency, m.between_hosts_hop *= latency;
  return m;
}

}  // namespace

ScalingMachine read_scaling_machine(const std::filesystem::path& file) {
  const std::string name = file.string();
  const nlohmann::json j =
      parse_json(read_file(file, ExitCode::usage), name, ExitCode::usage, true);
  const auto wrong = [&](std::string_view key, std::string_view expected,
                         const std::string& found) {
    fail(ExitCode::usage, "{}: {}: expected {}, found {}", name, key, expected, found);
  };
  if (!j.is_object()) wrong("the file", "an object", j.type_name());
  std::set<std::string> known{"name"};
  ScalingMachine m;
  if (!j.contains("name") || !j["name"].is_string())
    wrong("name", "a text", j.contains("name") ? j["name"].dump() : "nothing");
  m.name = j["name"];
  for (const Key& key : kKeys) {
    known.insert(key.name);
    const auto found = j.find(key.name);
    const std::string form = "{\"value\": a number, \"source\": where it is from}";
    if (found == j.end()) wrong(key.name, form, "nothing");
    if (!found->is_object() || found->size() != 2 || !found->contains("value") ||
        !(*found)["value"].is_number() || !found->contains("source") ||
        !(*found)["source"].is_string() || (*found)["source"] == "")
      wrong(key.name, form, found->dump());
    const double value = (*found)["value"];
    if (!(value >= key.low && value <= key.high) || (value == key.low && !key.low_itself))
      wrong(key.name,
            fmt::format("a number {} {:g} and at most {:g}", key.low_itself ? "from" : "above",
                        key.low, key.high),
            fmt::format("{:g}", value));
    m.*key.field = value * key.unit;
  }
  for (const auto& [key, value] : j.items())
    if (!known.contains(key))
      fail(ExitCode::usage, "{}: '{}' is no key of a machine; there are {}", name, key,
           fmt::join(known, ", "));
  return m;
}

std::vector<Sent> sent_slices(const nn::ParameterStore& parameters,
                              const std::vector<double>& ready_times, int64_t slice_elements,
                              dist::Wire wire) {
  const double bytes = wire == dist::Wire::bf16 ? 2 : 4;
  std::vector<Sent> sent;
  const auto in_order = parameters.in_order();
  check(ready_times.size() == in_order.size(), "slices: {} times of {} parameters",
        ready_times.size(), in_order.size());
  size_t next = 0;
  for (const nn::GradientRange& slice : nn::slice_table(parameters, slice_elements)) {
    while (next < in_order.size() && in_order[next]->offset < slice.end) ++next;
    sent.push_back({bytes * double(slice.end - slice.begin), ready_times[next - 1]});
  }
  sent.push_back({kAgreementBytes, sent.back().ready});
  return sent;
}

double all_reduce_seconds(const ScalingMachine& m, double bytes, int64_t ranks) {
  if (ranks <= 1 || bytes <= 0) return 0;
  const double n = double(ranks), hosts = hosts_of(m, ranks);
  const double of_host = std::min(n, m.ranks_per_host);
  const double bandwidth = hosts > 1 ? std::min(m.within_host, m.between_hosts) : m.within_host;
  const double ring = 2 * (n - hosts) * m.within_host_hop + 2 * (hosts - 1) * m.between_hosts_hop +
                      2 * (n - 1) / n * bytes / bandwidth;
  if (m.tree_share == 0) return m.reduction_start + ring;
  const double tree = 2 * (of_host - 1) * m.within_host_hop +
                      2 * std::ceil(std::log2(hosts)) * m.between_hosts_hop +
                      2 * bytes / (m.tree_share * bandwidth);
  return m.reduction_start + std::min(ring, tree);
}

double expected_maximum(int64_t n) {
  if (n <= 1) return 0;
  // The integral of x d(Phi(x)^n), by parts, over where the powers are not 0 or 1.
  double sum = 0;
  constexpr double kStep = 1e-2, kEnd = 10;
  for (double x = -kEnd + kStep / 2; x < kEnd; x += kStep) {
    const double below = std::pow(0.5 * std::erfc(-x / std::numbers::sqrt2), double(n));
    sum += kStep * (x > 0 ? 1 - below : -below);
  }
  return sum;
}

Scaling scaling(const ScalingMachine& m, const std::vector<Sent>& sent, int64_t ranks) {
  const Step step = step_of(m, sent, ranks);
  const auto efficiency = [&](const ScalingMachine& machine) {
    return step_of(machine, sent, 1).seconds / step_of(machine, sent, ranks).seconds;
  };
  const auto with = [&](double ScalingMachine::*field, double value) {
    ScalingMachine machine = m;
    machine.*field = value;
    return machine;
  };
  const double images = double(ranks) * m.batch_size;
  Scaling s{
      .ranks = ranks,
      .step = step.seconds,
      .communication = step.communication,
      .exposed = step.exposed,
      .efficiency = efficiency(m),
      .images_per_second = images / step.seconds,
      .loader_images_per_second = hosts_of(m, ranks) * m.loader_images_per_second,
      .half_bandwidth = efficiency(with_links(m, 0.5, 1)),
      .more_bandwidth = efficiency(with_links(m, 1.5, 1)),
      .triple_latency = efficiency(with_links(m, 1, 3)),
      .half_speed = efficiency(with(&ScalingMachine::images_per_second, m.images_per_second / 2))};
  const auto lost = [&](const char* by, double seconds) {
    if (seconds > 1e-9) s.lost.emplace_back(by, seconds);
  };
  const auto without = [&](const char* cause, const ScalingMachine& machine,
                           const std::vector<Sent>& slices) {
    lost(cause, step.seconds - step_of(machine, slices, ranks).seconds);
  };
  std::vector<Sent> hidden = sent;
  for (Sent& slice : hidden)
    if (slice.ready == sent.back().ready) slice.bytes = 0;
  without("bandwidth", with_links(m, INFINITY, 1), sent);
  without("latency", with_links(m, 1, 0), sent);
  without("last slice", m, hidden);
  without("compute taken", with(&ScalingMachine::reduction_share, 0), sent);
  without("stragglers", with(&ScalingMachine::jitter, 0), sent);
  lost("loader", images / s.loader_images_per_second - step.seconds);
  std::ranges::stable_sort(s.lost, std::greater{}, [](const auto& l) { return l.second; });
  return s;
}

}  // namespace sg::benchmark
