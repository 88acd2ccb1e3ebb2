#include "train/step_cost.h"

#include <doctest/doctest.h>

#include "core/allocator.h"
#include "core/cpu/memory.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "sgformer/classifier.h"
#include "tests/support/files.h"
#include "tests/support/process.h"

#include <sys/resource.h>

using namespace sg;
using namespace sg::test;
using namespace sg::train;

namespace {

struct Nano {
  sgformer::Classifier model{sgformer::find_config("sgformer_nano")};
  Nano() {
    model.parameters().allocate();
    model.parameters().initialize(1);
  }
  // Bytes that forward and backward of a batch hold at once.
  double peak(int64_t batch, int64_t side) {
    Allocator& allocator = Allocator::of({});
    allocator.release_cached();
    const size_t before = allocator.stats().reserved;
    const Tensor logits = model.forward(zeros({batch, side, side, 3})).logits;
    autograd::backward(soft_cross_entropy(logits, zeros(logits.shape())).loss);
    return double(allocator.stats().reserved - before);
  }
};

StepCost cost_of(sgformer::Classifier& model, ImageSize size) {
  const auto loss = [&](const Tensor& images) {
    const Tensor logits = model.forward(images).logits;
    return soft_cross_entropy(logits, zeros(logits.shape())).loss;
  };
  return measure_step_cost(model.parameters(), loss, int(model.config().image), size);
}

}  // namespace

TEST_CASE("step cost: the estimate of memory holds a real step, and is no fantasy") {
  Nano nano;
  for (const auto& [batch, side] :
       {std::pair{1, 28}, {8, 28}, {4, 20}, {4, 56}, {2, 84}, {1, 224}}) {
    CAPTURE(batch);
    CAPTURE(side);
    const StepCost cost = cost_of(nano.model, side);
    const double real = nano.peak(batch, side);
    CHECK(cost.of_batch(batch) >= real);
    CHECK(cost.of_batch(batch) - cost.fixed_bytes <= 3 * real);
  }
}

TEST_CASE("step cost: what is unusual is said, in times the operations that sginfo counts") {
  Nano nano;
  CHECK(note_of_cost(cost_of(nano.model, 28), 28, 28) == "");
  const StepCost cost = cost_of(nano.model, 84);
  CHECK(cost.macs / cost.usual_macs >= 9);   // so many times the pixels
  CHECK(cost.macs / cost.usual_macs <= 20);  // attention is quadratic in them, in part
  CHECK(contains(note_of_cost(cost, 84, 28), "an image of 84 x 84 takes "));
}

TEST_CASE("step cost: operations are those of one forward pass, whatever backward repeats") {
  Nano nano;
  sgformer::Config config = nano.model.config();
  config.recompute = true;
  sgformer::Classifier repeats(config);
  repeats.parameters().allocate();
  repeats.parameters().initialize(1);
  const double macs = cost_of(nano.model, 28).macs;
  CHECK(macs > 0);
  CHECK(cost_of(repeats, 28).macs == macs);
}

TEST_CASE("step cost: a step that memory cannot hold is refused, with a batch that it can") {
  const StepCost cost{.macs = 1, .usual_macs = 1, .bytes = 1000, .fixed_bytes = 500};
  check_memory(cost, 4, 28, 4500);
  for (const double available : {4499.0, 1500.0}) {
    const int64_t fits = cost.batch_that_fits(available);
    check_memory(cost, fits, 28, available);
    error_of(ExitCode::failure, [&] { check_memory(cost, fits + 1, 28, available); });
  }
  const std::string message = error_of(ExitCode::failure, [&] { check_memory(cost, 4, 28, 4499); });
  CHECK(contains(message, "takes about 4500 bytes of memory, 4499 are available"));
  CHECK(contains(message, "--batch-size 3 fits"));
  CHECK(contains(error_of(ExitCode::failure, [&] { check_memory(cost, 1, 28, 1499); }),
                 "not even one image fits"));
}

TEST_CASE(
    "step cost: where images are mixed in groups, the batch that fits is a multiple of them") {
  const StepCost cost{.macs = 1, .usual_macs = 1, .bytes = 1000, .fixed_bytes = 500, .multiple = 2};
  CHECK(contains(error_of(ExitCode::failure, [&] { check_memory(cost, 4, 28, 4499); }),
                 "--batch-size 2 fits"));
  CHECK(contains(smaller_batch(cost, 4, 3500), "--batch-size 2 fits"));
  CHECK(contains(error_of(ExitCode::failure, [&] { check_memory(cost, 4, 28, 2499); }),
                 "not even a batch of 2 fits"));
}

TEST_CASE("step cost: after memory ran out, a batch is named where one is known to fit") {
  const StepCost cost{.macs = 1, .usual_macs = 1, .bytes = 1000, .fixed_bytes = 500};
  CHECK(contains(smaller_batch(cost, 4, 3500), "--batch-size 3 fits"));
  for (const auto& unknown :
       {smaller_batch({}, 4, 3500), smaller_batch(cost, 4, 9500), smaller_batch(cost, 4, 900)})
    CHECK(contains(unknown, "a --batch-size below 4 takes less"));
  CHECK(smaller_batch(cost, 1, 900) == "use a smaller --img-size or model");
}

TEST_CASE("available memory: no more than the limit on addresses leaves") {
  CHECK(available_memory() > size_t{1} << 20);
  const pid_t child = start_child([] {
    const rlimit limit{size_t{1} << 40, size_t{1} << 40};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) return 1;
    const size_t wide = available_memory();
    const rlimit narrow{size_t{1} << 30, size_t{1} << 30};
    if (::setrlimit(RLIMIT_AS, &narrow) != 0) return 2;
    return available_memory() < size_t{1} << 30 && available_memory() <= wide ? 0 : 3;
  });
  CHECK(wait_for(child) == 0);
}
