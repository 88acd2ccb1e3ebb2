// Training steps of segmentors: precisions and devices against each other, threads, memory, and
// batch norm that is shared by processes.
#include <doctest/doctest.h>

#include <cmath>

#include "core/cpu/parallel.h"
#include "core/profile.h"
#include "nn/optim/optimizer.h"
#include "ops/dropout2d/dropout2d.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"
#include "sgformer/segment/segmentor.h"
#include "tests/support/faults.h"
#include "tests/support/op_case.h"
#include "tools/golden/golden_heads.h"
#include "tools/golden/golden_sgformer.h"

using namespace sg;
using namespace sg::sgformer;

namespace {

const std::string kHeads[] = {"semantic_fpn", "upernet"};

// What is drawn for a step.
Segmentor::ForwardOptions drawn(const Segmentor& model, int64_t batch) {
  const Dtype dtype = acc_dtype(model.parameters().dtype());
  const Device device = model.parameters().device();
  const SegmentorConfig& c = model.config();
  Segmentor::ForwardOptions options{
      .drop_paths = draw_drop_paths(c.backbone, batch, 1, 1, 0, dtype).to(device),
      .training = true};
  const auto dropout = [&](int64_t channels, uint32_t layer) {
    Tensor keep = empty({batch, channels}, dtype);
    draw_dropout2d(c.dropout, 1, 1, layer, 0, keep);
    return keep.to(device);
  };
  options.dropout = dropout(model.dropout_channels(), 0);
  if (model.aux_dropout_channels()) options.aux_dropout = dropout(model.aux_dropout_channels(), 1);
  return options;
}

void backward(Segmentor& model, const Segmentor::Output& out) {
  const auto upstream = [&](const Tensor& logits, uint64_t seed) {
    return test::random(logits.shape(), seed).to(logits.dtype()).to(logits.device());
  };
  model.parameters().clear_grads();
  if (out.aux_logits)
    autograd::backward({out.logits, out.aux_logits},
                       {upstream(out.logits, 5), upstream(out.aux_logits, 6)});
  else
    autograd::backward({out.logits}, {upstream(out.logits, 5)});
  model.parameters().zero_unreached_grads();
}

Tensor images(const Segmentor& model, int64_t batch, int64_t height, int64_t width) {
  return test::random({batch, height, width, 3}, 1)
      .to(Dtype::f32)
      .to(model.parameters().dtype())
      .to(model.parameters().device());
}

// Named, so that a failure says where numbers begin to differ.
using Values = std::vector<std::pair<std::string, Tensor>>;

struct Step {
  Values outputs, gradients;
  std::vector<SignificanceMap> significance;
  golden::Bounds bounds;  // of its dtype
};

// With `reference`, tokens are ranked as there: rounding can change the order of near-ties.
Step run_step(const std::string& head, Device device, Dtype dtype, const Step* reference) {
  Segmentor model(find_segmentor_config("sgformer_nano", head, 5));
  nn::ParameterStore& p = model.parameters();
  p.allocate(dtype, device);
  for (const std::string& name : p.names())
    p.set(p.values(), name, golden::formula_parameter("step", name, p.part(name).official));
  for (const nn::Buffer& b : p.named_buffers()) Tensor(b.value).fill_(b.initial);
  Segmentor::ForwardOptions options = drawn(model, 4);
  options.significance = true;
  if (reference) options.given_significance = reference->significance;
  for (SignificanceMap& s : options.given_significance)
    s.map = s.map.to(acc_dtype(dtype)).to(device);
  const Segmentor::Output out = model.forward(images(model, 4, 30, 44), options);
  backward(model, out);
  Step step;
  step.outputs.emplace_back("logits", out.logits.detach().to(Device{}));
  if (out.aux_logits) step.outputs.emplace_back("aux_logits", out.aux_logits.detach().to(Device{}));
  for (const nn::Buffer& b : p.named_buffers())
    step.outputs.emplace_back(b.name, b.value.to(Device{}));
  for (const std::string& name : p.names())
    step.gradients.emplace_back(name, p.get(p.grads(), name));
  step.significance = out.significance;
  for (SignificanceMap& s : step.significance) s.map = s.map.to(Device{});
  // Through the backbone, then through the head.
  const Config& backbone = model.config().backbone;
  const int64_t pixels = out.logits.numel() / out.logits.dim(3);
  const golden::Chain& chain =
      model.config().head == Head::upernet ? golden::kUperNet : golden::kSemanticFpn;
  step.bounds = golden::chain_bounds(dtype, p, chain, pixels, golden::model_bound(backbone, dtype));
  step.bounds.gradients += golden::model_gradient_bound(backbone, dtype);
  return step;
}

void check_step(Dtype dtype, const Step& found, const Step& expected) {
  REQUIRE(found.outputs.size() == expected.outputs.size());
  for (size_t i = 0; i < found.outputs.size(); ++i) {
    CAPTURE(found.outputs[i].first);
    const auto e = relative_error_of(found.outputs[i].second, expected.outputs[i].second);
    CAPTURE(e.whole);
    CAPTURE(e.worst_row);
    CHECK(e.within(found.bounds.outputs));
  }
  double squares = 0, elements = 0;
  for (const auto& [name, gradient] : expected.gradients) {
    for (const double g : gradient.span<double>()) squares += g * g;
    elements += double(gradient.numel());
  }
  for (size_t i = 0; i < found.gradients.size(); ++i) {
    CAPTURE(found.gradients[i].first);
    const Tensor &g = found.gradients[i].second, &e = expected.gradients[i].second;
    // In bf16 the gradients of all parameters are one, of which each is a row (golden_check).
    if (dtype == Dtype::bf16) {
      const double scale = std::sqrt(squares / elements * double(e.numel()));
      CHECK(relative_error_of(g, e, scale).whole <=
            found.bounds.gradients * worst_row_factor(int64_t(found.gradients.size()), e.numel()));
    } else {
      test::check_close(g, e, found.bounds.gradients);
    }
  }
}

}  // namespace

TEST_CASE("segmentors in f32 and bf16, also on cuda: the numbers of f64, the ranking given") {
  for (const std::string& head : kHeads) {
    CAPTURE(head);
    const Step expected = run_step(head, {}, Dtype::f64, nullptr);
    for (const Device device : test::devices())
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        CAPTURE(str(device));
        CAPTURE(name_of(dtype));
        check_step(dtype, run_step(head, device, dtype, &expected), expected);
      }
  }
}

TEST_CASE("segmentors: a training step has the same bits with 1, 2, 3 and 8 threads") {
  const int before = num_threads();
  for (const std::string& head : kHeads) {
    CAPTURE(head);
    SegmentorConfig config = find_segmentor_config("sgformer_s", head, 19);
    for (StageConfig& stage : config.backbone.stages) stage.depth = std::min(stage.depth, 2);
    const auto bits = [&](int threads, Dtype dtype) {
      set_num_threads(threads);
      Segmentor model(config);
      nn::ParameterStore& p = model.parameters();
      p.allocate(dtype);
      p.initialize(3);
      const Segmentor::Output out = model.forward(images(model, 2, 128, 64), drawn(model, 2));
      backward(model, out);
      Values values{{"logits", out.logits.detach()}, {"running statistics", p.buffers()}};
      for (const std::string& name : p.names())
        values.emplace_back("gradient of " + name, p.get(p.grads(), name));
      return values;
    };
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      CAPTURE(name_of(dtype));
      const Values expected = bits(1, dtype);
      for (const int threads : {2, 3, 8}) {
        CAPTURE(threads);
        const Values found = bits(threads, dtype);
        REQUIRE(found.size() == expected.size());
        for (size_t i = 0; i < found.size(); ++i) {
          CAPTURE(found[i].first);
          CHECK((to_vector<float>(found[i].second) == to_vector<float>(expected[i].second)));
        }
      }
    }
  }
  set_num_threads(before);
}

TEST_CASE("segmentors: a training step asks the system for nothing after warm-up") {
  for (const std::string& head : kHeads) {
    CAPTURE(head);
    Segmentor model(find_segmentor_config("sgformer_nano", head, 5));
    model.parameters().allocate();
    model.parameters().initialize(1);
    size_t allocations = 0;
    for (int i = 0; i < 5; ++i) {
      if (i == 3) allocations = Allocator::of({}).stats().system_allocations;
      backward(model, model.forward(images(model, 2, 56, 40), drawn(model, 2)));
    }
    CHECK(Allocator::of({}).stats().system_allocations == allocations);
  }
}

TEST_CASE("segmentors: images of a batch do not see each other at evaluation, but in training") {
  for (const std::string& head : kHeads) {
    CAPTURE(head);
    Segmentor model(find_segmentor_config("sgformer_nano", head, 5));
    model.parameters().allocate(Dtype::f64);
    model.parameters().initialize(1);
    const autograd::NoGrad no_grad;
    const Tensor x = images(model, 3, 28, 42);
    for (const bool training : {false, true}) {
      const auto logits = [&](const Tensor& of) {
        return model.forward(of, {.training = training}).logits;
      };
      const double error =
          test::relative_error(logits(x.slice(0, 2)).slice(0, 1), logits(x).slice(0, 1));
      CHECK((training ? error > 1e-3 : error < 1e-12));
    }
    CHECK_FALSE(model.forward(x).aux_logits.defined());
  }
}

TEST_CASE("segmentors: every batch norm shares its statistics with the other processes") {
  struct Counting : BatchParts {
    int count() const override { return 1; }
    void all_gather(const Tensor& mine, Tensor& all) override {
      all.view(mine.shape()).copy_(mine);
      ++gathered;
    }
    int gathered = 0;
  };
  for (const auto& [head, norms] : {std::pair{"semantic_fpn", 7}, {"upernet", 13}}) {
    CAPTURE(head);
    Segmentor model(find_segmentor_config("sgformer_nano", head, 5));
    model.parameters().allocate();
    model.parameters().initialize(1);
    Counting parts;
    model.set_batch_parts(&parts);
    const Segmentor::Output out = model.forward(images(model, 2, 28, 28), drawn(model, 2));
    CHECK(parts.gathered == norms);
    backward(model, out);
    CHECK(parts.gathered == 2 * norms);
    model.forward(images(model, 2, 28, 28));
    CHECK(parts.gathered == 2 * norms);
  }
}

TEST_CASE("segmentors on cuda: a GPU takes every launch of a step at sizes of real use") {
  if (!test::have_emulation()) return;
  test::set_dry_cuda(true);
  for (const std::string& head : kHeads)
    for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
      CAPTURE(head);
      CAPTURE(name_of(dtype));
      Segmentor model(find_segmentor_config("sgformer_s", head, 150));
      model.parameters().set_groups(group_rule(model.config(), {}));
      model.parameters().allocate(dtype, test::kCuda);
      nn::Optimizer optimizer(model.parameters(), {});
      const auto step = [&](int64_t batch, int64_t side) {
        const Tensor x = empty({batch, side, side, 3}, dtype, test::kCuda);
        const Tensor labels = empty({batch, side, side}, Dtype::u8, test::kCuda);
        optimizer.prepare(1e-4);
        const Segmentor::Output out = model.forward(x, drawn(model, batch));
        model.parameters().clear_grads();
        const Tensor loss = pixel_cross_entropy(out.logits, labels);
        autograd::backward(loss);
        model.parameters().zero_unreached_grads();
        optimizer.update(loss);
      };
      CHECK_NOTHROW(step(16, 512));
      const autograd::NoGrad no_grad;
      CHECK_NOTHROW(model.forward(empty({1, 512, 2048, 3}, dtype, test::kCuda)));
      CHECK_NOTHROW(model.forward(empty({1, 512, 683, 3}, dtype, test::kCuda)));
    }
  Allocator::of(test::kCuda).release_cached();  // memory that nobody has touched
  test::set_dry_cuda(false);
}
