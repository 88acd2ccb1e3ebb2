// A training step gives the same bits with any number of threads.
#include <doctest/doctest.h>

#include "core/cpu/parallel.h"
#include "nn/optim/optimizer.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "sgformer/classifier.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::sgformer;

namespace {

// sgformer_s with as few blocks as have every kind of layer at its own width.
Config shallow() {
  Config c = find_config("sgformer_s");
  for (StageConfig& stage : c.stages) stage.depth = std::min(stage.depth, 2);
  c.drop_path = 0.2;
  return c;
}

// Named, so that a failure says where bits begin to differ.
using Values = std::vector<std::pair<std::string, std::vector<float>>>;

Values training_step(int64_t batch, int64_t side, Dtype dtype) {
  Classifier model(shallow());
  nn::ParameterStore& p = model.parameters();
  p.allocate(dtype);
  p.initialize(3);
  nn::Optimizer optimizer(p, {.ema_decay = 0.9, .clip_grad = 1});
  const Tensor x = test::random({batch, side, side, 3}, 1).to(dtype);
  const Tensor drop_paths = draw_drop_paths(model.config(), batch, 1, 1, 0);
  const Tensor logits = model.forward(x, {.drop_paths = drop_paths}).logits;
  const Tensor labels = from_vector<int32_t>(std::vector<int32_t>(size_t(batch), 7), {batch});
  p.clear_grads();
  const Tensor loss = soft_cross_entropy(logits, smooth_one_hot(labels, 1000, 0.1)).loss;
  autograd::backward(loss);
  p.zero_unreached_grads();
  Values values{{"logits", to_vector<float>(logits)}, {"loss", to_vector<float>(loss)}};
  for (const std::string& name : p.names())
    values.emplace_back("gradient of " + name, to_vector<float>(p.get(p.grads(), name)));
  optimizer.prepare(1e-3);
  optimizer.update(loss.detach());
  optimizer.finish();
  values.emplace_back("weights", to_vector<float>(p.values()));
  values.emplace_back("averaged weights", to_vector<float>(optimizer.ema()));
  return values;
}

}  // namespace

// Libraries split sums by threads where they are long: batch * height * width, over which weights
// have their gradients, is a power of two at 256 x 256 and none at 224 x 224.
TEST_CASE("a training step has the same bits with 1, 2, 3 and 8 threads") {
  const int before = num_threads();
  struct Case {
    int64_t batch, side;
    Dtype dtype = Dtype::f32;
  };
  for (const auto& [batch, side, dtype] : {Case{2, 224}, Case{2, 256}, Case{1, 256}, Case{9, 64},
                                           Case{1, 256, Dtype::bf16}, Case{9, 64, Dtype::bf16}}) {
    CAPTURE(batch);
    CAPTURE(side);
    CAPTURE(name_of(dtype));
    set_num_threads(1);
    const Values expected = training_step(batch, side, dtype);
    for (const int threads : {2, 3, 8}) {
      CAPTURE(threads);
      set_num_threads(threads);
      const Values found = training_step(batch, side, dtype);
      REQUIRE(found.size() == expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        CAPTURE(found[i].first);
        CHECK((found[i].second == expected[i].second));
      }
    }
  }
  set_num_threads(before);
}
