// How fast training would be on many ranks: a model of one step, from measured times at which
// gradients are ready and from published rates of a machine. docs/scaling.md has its formulas.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "dist/communicator.h"
#include "nn/gradient_slices.h"

namespace sg::benchmark {

// A machine.json: {"name": ..., and each number as {"value": ..., "source": where it is from}}.
struct ScalingMachine {
  std::string name;
  double ranks_per_host = 1;
  double batch_size = 1;         // images of a rank
  double images_per_second = 1;  // of one rank alone
  double jitter = 0;             // standard deviation of a rank's step over its mean
  double reduction_share = 0;    // of a rank's compute, which a reduction takes while it runs
  // A reduction of B bytes takes reduction_start, a hop's time for each hop, and the time of
  // 2 (n - 1) / n B at the bus bandwidth.
  double reduction_start = 0;  // seconds
  double within_host = 1,
         between_hosts = 1;  // bus bandwidth of a ring, bytes/s; all links of a host
  double within_host_hop = 0, between_hosts_hop = 0;  // seconds
  double tree_share = 0;  // bus bandwidth of a tree over that of the ring; 0: there is no tree
  double loader_images_per_second = 1;  // of a host
};

// Throws ExitCode::usage, naming the key: one is missing, unknown, has no source, or is outside its
// range.
ScalingMachine read_scaling_machine(const std::filesystem::path& file);

// What a rank sends in a step: so many bytes, ready when this share of the step is done.
struct Sent {
  double bytes, ready;
};

// The slices of slice_table(), each ready with its last gradient (`ready_times`, of the parameters
// in order), and the small tensor by which the ranks agree after the last.
std::vector<Sent> sent_slices(const nn::ParameterStore& parameters,
                              const std::vector<double>& ready_times, int64_t slice_elements,
                              dist::Wire wire);

// Seconds of a sum over `ranks` ranks, by the faster of ring and tree; 0 for one rank or no bytes.
double all_reduce_seconds(const ScalingMachine& machine, double bytes, int64_t ranks);

// Of a step whose batches are always there.
struct Scaling {
  int64_t ranks = 1;
  double step = 0;           // seconds
  double communication = 0;  // seconds in which sums run
  double exposed = 0;        // seconds of it that computation waits
  double efficiency = 1;     // step of one rank over this one, the batch of a rank being the same
  double images_per_second = 0;
  double loader_images_per_second = 0;  // of all hosts
  // By how many seconds a step would be shorter without each cause, the largest first: "bandwidth",
  // "latency", "last slice" (with what is sent after it), "compute taken" by sums, "stragglers";
  // "loader": by how many it is longer, since images do not come as fast.
  std::vector<std::pair<std::string, double>> lost;
  // Efficiency with half the bandwidth, with half as much more, with three times the latency, and
  // of ranks that compute half as fast.
  double half_bandwidth = 1, more_bandwidth = 1, triple_latency = 1, half_speed = 1;
};

Scaling scaling(const ScalingMachine& machine, const std::vector<Sent>& sent, int64_t ranks);

// Mean of the largest of n standard normal numbers.
double expected_maximum(int64_t n);

}  // namespace sg::benchmark
