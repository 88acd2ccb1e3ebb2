// What a sample becomes in a batch (data/loader.h): the tensors of one sample, and how they are
// made.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"
#include "data/image_set.h"

namespace sg::data {

// Of data that no run can use as it is asked to: it ends the run, where any other error of
// ExitCode::data counts its sample as broken.
class UnusableData : public Error {
 public:
  explicit UnusableData(const std::string& message) : Error(ExitCode::data, message) {}
};

// A tensor of one sample.
struct SampleTensor {
  Shape shape;
  Dtype dtype;

  // (samples, ...shape)
  Shape of_batch(int64_t samples) const {
    Shape all{samples};
    for (int d = 0; d < shape.size(); ++d) all.push_back(shape[d]);
    return all;
  }
};

// A sample to make: what is drawn at random for it is a function of these four alone. `copy` says
// which of the repeats of its sample it is; 0 where there are none.
struct SampleDraw {
  uint64_t seed = 0;
  int64_t epoch = 0, sample = 0, copy = 0;
};

// Immutable after construction; all members may be called from several threads.
class SampleMaker {
 public:
  virtual ~SampleMaker() = default;
  virtual const ImageSet& images() const = 0;
  virtual std::vector<SampleTensor> tensors() const = 0;

  // Makes samples in one thread, with scratch memory of its own.
  class Worker {
   public:
    virtual ~Worker() = default;
    // Writes each tensor of the sample, dense, to its place in `out`. Throws ExitCode::data where
    // the sample is broken (what it has written is then of no use), and UnusableData.
    virtual void make(const SampleDraw& draw, std::span<std::byte* const> out) = 0;
  };
  // The maker must outlive it. training: with random changes; else as evaluation sees samples.
  virtual std::unique_ptr<Worker> worker(bool training) const = 0;
};

}  // namespace sg::data
