// The published models at sizes of real use, on the emulated GPU, dry: every launch of a training
// step is checked against what a GPU takes, and none is run.
#include <doctest/doctest.h>

#include "core/profile.h"
#include "nn/optim/optimizer.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/normalize_images/normalize_images.h"
#include "sgformer/classifier.h"
#include "sgformer/parameter_groups.h"
#include "tests/support/faults.h"
#include "tests/support/skip.h"

using namespace sg;
using namespace sg::sgformer;

namespace {

using test::kCuda;

struct Dry {
  Dry() { test::set_dry_cuda(true); }
  ~Dry() {
    Allocator::of(kCuda).release_cached();  // memory that nobody has touched
    test::set_dry_cuda(false);
  }
};

void train(Classifier& model, nn::Optimizer& optimizer, int64_t batch, int64_t side) {
  const Tensor pixels = empty({batch, side, side, 3}, Dtype::u8, kCuda);
  const Tensor labels = empty({batch}, Dtype::i32, kCuda);
  const Dtype dtype = model.parameters().dtype();
  const Tensor drop_paths = draw_drop_paths(model.config(), batch, 0, 0, 0, dtype).to(kCuda);
  optimizer.prepare(1e-3);
  const Tensor images = normalize_images(pixels, {}, dtype);
  const Tensor logits = model.forward(images, {.drop_paths = drop_paths}).logits;
  const Tensor targets = smooth_one_hot(labels, model.config().classes, 0.1, Dtype::f32);
  model.parameters().clear_grads();
  const Tensor loss = soft_cross_entropy(logits, targets).loss;
  autograd::backward(loss);
  optimizer.update(loss);
}

}  // namespace

TEST_CASE("sgformer on cuda: at 224 x 224 in bf16 no operation takes a slow path") {
  if (!test::have_emulation()) return;
  const Dry dry;
  for (const char* name : {"sgformer_s", "sgformer_m", "sgformer_b"}) {
    Classifier model(find_config(name));
    model.parameters().allocate(Dtype::bf16, kCuda);
    nn::Optimizer optimizer(model.parameters(), {.ema_decay = 0.9999, .clip_grad = 1});
    for (const int side : {224, 480}) {
      profile::start(kCuda);
      train(model, optimizer, 256, side);
      int64_t slow = 0;
      for (const auto& [op, row] : profile::stop()) {
        CAPTURE(op);
        if (side == 224) CHECK(row.slow_calls == 0);
        slow += row.slow_calls;
      }
      CHECK((slow > 0) == (side == 480));  // there maps of the first stage are ranked in passes
    }
  }
}

TEST_CASE("sgformer on cuda: a GPU takes every launch of a step at sizes of real use") {
  if (!test::have_emulation()) return;
  const Dry dry;
  for (const char* name : {"sgformer_s", "sgformer_b"})
    for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
      Classifier model(find_config(name));
      model.parameters().allocate(dtype, kCuda);
      nn::Optimizer optimizer(model.parameters(), {.ema_decay = 0.9999, .clip_grad = 1});
      for (const auto& [batch, side] : {std::pair{256, 224}, {1024, 224}, {64, 480}, {8, 1024}}) {
        CAPTURE(name);
        CAPTURE(name_of(dtype));
        CAPTURE(batch);
        CAPTURE(side);
        CHECK_NOTHROW(train(model, optimizer, batch, side));
        const autograd::NoGrad no_grad;
        const Tensor images = empty({batch, side, side, 3}, dtype, kCuda);
        CHECK_NOTHROW(model.forward(images, {.significance = true}));
      }
    }
}

TEST_CASE("sgformer on cuda: frozen stages") {
  if (!test::have_emulation()) return;
  const Dry dry;
  for (int stages = 1; stages <= 4; ++stages) {
    CAPTURE(stages);
    Classifier model(find_config("sgformer_s"));
    model.parameters().set_groups(group_rule(model.config(), {.frozen_stages = stages}));
    model.parameters().allocate(Dtype::bf16, kCuda);
    nn::Optimizer optimizer(model.parameters(), {.ema_decay = 0.9999, .clip_grad = 1});
    CHECK_NOTHROW(train(model, optimizer, 8, 224));
  }
}
