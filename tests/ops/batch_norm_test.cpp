#include "ops/batch_norm/batch_norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/graph.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Running {
  Tensor mean, var;
  Running(int64_t c, const Tensor& like)
      : mean(random({c}, 11).to(acc_dtype(like.dtype())).to(like.device())),
        var(random({c}, 12, 0.5, 2).to(acc_dtype(like.dtype())).to(like.device())) {}
};

// The same on the tape, channel by channel.
Tensor literal(const Tensor& x, const Tensor& w, const Tensor& b, bool training, Activation act) {
  const int64_t c = x.dim(-1), rows = x.numel() / c;
  std::vector<int64_t> to_channels, back;
  for (int64_t i = 0; i < c; ++i)
    for (int64_t r = 0; r < rows; ++r) to_channels.push_back(r * c + i);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < c; ++i) back.push_back(i * rows + r);
  const Tensor channels = naive::gather(x, to_channels, {c, rows});
  Tensor xhat;
  if (training) {
    xhat = naive::gather(naive::standardize(channels, 1e-5), back, x.shape());
  } else {
    const Running of(c, x);
    Tensor factor = empty({c}, Dtype::f64), shift = empty({c}, Dtype::f64);
    for (int64_t i = 0; i < c; ++i) {
      factor.data<double>()[i] = 1 / std::sqrt(of.var.data<double>()[i] + 1e-5);
      shift.data<double>()[i] = -of.mean.data<double>()[i] * factor.data<double>()[i];
    }
    xhat = naive::affine(x, factor, shift);
  }
  const Tensor z = naive::affine(xhat, w, b);
  if (act == Activation::none) return z;
  return naive::map(
      z, [](double v) { return v > 0 ? v : 0; }, [](double v) { return v > 0 ? 1 : 0; });
}

// Two parts of a batch that run one after the other, again and again: what a part says is what it
// said in the run before, until all know all.
struct Said {
  std::vector<std::array<Tensor, 2>> calls;
};
class Half : public BatchParts {
 public:
  Half(Said& said, size_t part) : said_(said), part_(part) {}
  int count() const override { return 2; }
  void all_gather(const Tensor& mine, Tensor& all) override {
    if (next_ == said_.calls.size()) said_.calls.emplace_back();
    auto& call = said_.calls[next_++];
    call[part_] = mine.clone();
    for (int64_t p = 0; p < 2; ++p) {
      const Tensor& of = call[size_t(p)] ? call[size_t(p)] : mine;
      all.slice(p, p + 1).view(mine.shape()).copy_(of);
    }
  }

 private:
  Said& said_;
  size_t part_, next_ = 0;
};

}  // namespace

TEST_CASE("batch_norm: value and gradients against the composed form") {
  for (const bool training : {true, false})
    for (const Activation act : {Activation::none, Activation::relu})
      for (const Shape& s : {Shape{5, 1, 1, 8}, Shape{3, 2, 5, 7}, Shape{2, 9, 15, 24},
                             Shape{1, 3, 3, 65}, Shape{41, 1},
                             // Many chunks; on cuda many blocks, and several bands of channels.
                             Shape{700, 3}, Shape{9, 15, 40}, Shape{5, 2056}}) {
        OpCase c;
        c.name = fmt::format("{} training {} act {}", s.str(), training, int(act));
        const int64_t channels = s[s.size() - 1];
        c.inputs = {test::random(s, 1, -1, 2), test::random({channels}, 2, 0.5, 1.5),
                    test::random({channels}, 3)};
        c.op = [=](auto& in) -> std::vector<Tensor> {
          const Running running(channels, in[0]);
          return {batch_norm(in[0], in[1], in[2], running.mean, running.var,
                             {.training = training, .act = act})};
        };
        c.reference = [=](auto& in) -> std::vector<Tensor> {
          return {literal(in[0], in[1], in[2], training, act)};
        };
        c.roles = {Role::activation, Role::parameter, Role::parameter};
        c.terms = s.numel() / channels;
        c.gradcheck_step = 1e-5;  // few values cross the kink of ReLU
        run(c);
      }
}

TEST_CASE(
    "batch_norm: the numbers of torch: momentum, unbiased variance; evaluation changes none") {
  // import torch
  // m = torch.nn.BatchNorm2d(2).double().train()
  // y = m(torch.tensor([[1., 10], [2, 30], [4, 20]], dtype=torch.float64)[:, :, None, None])
  // print(m.running_mean, m.running_var)
  for (const Device device : devices()) {
    const Tensor x = from_vector<float>({1, 10, 2, 30, 4, 20}, {3, 1, 1, 2}).to(device);
    const Tensor w = full({2}, 1, Dtype::f32, device), b = zeros({2}, Dtype::f32, device);
    Tensor mean = zeros({2}, Dtype::f32, device), var = full({2}, 1, Dtype::f32, device);
    batch_norm(x, w, b, mean, var, {.training = true});
    const auto m = to_vector<double>(mean), v = to_vector<double>(var);
    CHECK(m[0] == doctest::Approx(0.1 * 7 / 3).epsilon(1e-6));
    CHECK(m[1] == doctest::Approx(2).epsilon(1e-6));
    CHECK(v[0] == doctest::Approx(0.9 + 0.1 * 7 / 3).epsilon(1e-6));
    CHECK(v[1] == doctest::Approx(0.9 + 10).epsilon(1e-6));
    const auto y = to_vector<double>(batch_norm(x, w, b, mean, var, {}));
    CHECK(y[0] == doctest::Approx((1 - m[0]) / std::sqrt(v[0] + 1e-5)).epsilon(1e-6));
    CHECK(to_vector<double>(mean) == m);
    CHECK(to_vector<double>(var) == v);
  }
}

TEST_CASE("batch_norm: what is not finite stays so, and leaves the running statistics alone") {
  for (const Device device : devices())
    for (const double bad : {std::nan(""), HUGE_VAL}) {
      Tensor x = random({6, 3}, 1);
      x.data<double>()[4] = bad;
      x = x.to(Dtype::f32).to(device);
      const Tensor w = full({3}, 1, Dtype::f32, device), b = zeros({3}, Dtype::f32, device);
      Tensor mean = zeros({3}, Dtype::f32, device), var = full({3}, 1, Dtype::f32, device);
      const auto y = to_vector<double>(
          batch_norm(x, w, b, mean, var, {.training = true, .act = Activation::relu}));
      for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i % 3 == 1));
      CHECK(to_vector<double>(mean)[1] == 0);
      CHECK(to_vector<double>(var)[1] == 1);
      CHECK(to_vector<double>(mean)[0] != 0);
    }
}

TEST_CASE("batch_norm: a large mean does no harm") {
  const Tensor x = test::random({6, 50, 16}, 1), w = full({16}, 1, Dtype::f64),
               b = zeros({16}, Dtype::f64);
  Tensor shifted = x.clone();
  for (double& v : shifted.span<double>()) v += 1000;
  for (const Device device : devices()) {
    const auto f32 = [&](const Tensor& t) { return t.to(Dtype::f32).to(device); };
    const auto norm = [&](const Tensor& t) {
      const Running running(16, f32(t));
      return batch_norm(f32(t), f32(w), f32(b), running.mean, running.var, {.training = true});
    };
    // 1000 + x has 2^-14 of rounding in float32, relative to a standard deviation of 0.58.
    CHECK(relative_error(norm(shifted), norm(x)) < 0x1p-14);
  }
}

TEST_CASE("batch_norm: two parts of a batch are as the whole: values, gradients, statistics") {
  constexpr int64_t kChannels = 19, kRows = 300;
  const Tensor x = random({kRows, kChannels}, 1, -1, 3), w = random({kChannels}, 2, 0.5, 1.5),
               b = random({kChannels}, 3), dy = random({kRows, kChannels}, 4);
  struct Result {
    Tensor y, dx, dw, db, mean, var;
  };
  const auto differentiate = [&](int64_t begin, int64_t end, Device device, Dtype dtype,
                                 BatchParts* parts) {
    const auto leaf = [&](const Tensor& t) { return autograd::leaf(t.to(dtype).to(device)); };
    const Tensor xl = leaf(x.slice(begin, end)), wl = leaf(w), bl = leaf(b);
    const Running running(kChannels, xl);
    const Tensor y = batch_norm(xl, wl, bl, running.mean, running.var,
                                {.training = true, .act = Activation::relu, .parts = parts});
    autograd::backward({y}, {dy.slice(begin, end).to(dtype).to(device)});
    return Result{y.detach(),
                  autograd::grad_of(xl),
                  autograd::grad_of(wl),
                  autograd::grad_of(bl),
                  running.mean,
                  running.var};
  };
  std::vector<std::pair<Device, Dtype>> settings{{{}, Dtype::f64}};
  for (const Device device : devices()) settings.emplace_back(device, Dtype::f32);
  for (const auto& [device, dtype] : settings)
    for (const int64_t split : {150, 7, 0}) {
      CAPTURE(split);
      const Result whole = differentiate(0, kRows, device, dtype, nullptr);
      Said said;
      Result halves[2];
      for (int run = 0; run < 3; ++run)  // statistics of both are known, then their sums
        for (size_t p = 0; p < 2; ++p) {
          Half half(said, p);
          halves[p] = differentiate(p ? split : 0, p ? kRows : split, device, dtype, &half);
        }
      CHECK(said.calls.size() == 2);
      const double bound = dtype == Dtype::f64 ? 1e-13 : 1e-6;
      const auto both = [&](Tensor Result::*of) {
        std::vector<double> all = to_vector<double>(halves[0].*of);
        for (const double v : to_vector<double>(halves[1].*of)) all.push_back(v);
        return from_vector(all, {int64_t(all.size())});
      };
      const auto sum = [&](Tensor Result::*of) {
        auto all = to_vector<double>(halves[0].*of);
        const auto other = to_vector<double>(halves[1].*of);
        for (size_t i = 0; i < all.size(); ++i) all[i] += other[i];
        return from_vector(all, {kChannels});
      };
      const auto flat = [](const Tensor& t) { return t.view({t.numel()}); };
      CHECK(relative_error(both(&Result::y), flat(whole.y)) < bound);
      CHECK(relative_error(both(&Result::dx), flat(whole.dx)) < bound);
      CHECK(relative_error(sum(&Result::dw), whole.dw) < bound);
      CHECK(relative_error(sum(&Result::db), whole.db) < bound);
      for (const Result& half : halves) {
        CHECK(relative_error(half.mean, whole.mean) < bound);
        CHECK(relative_error(half.var, whole.var) < bound);
      }
    }
}

TEST_CASE("batch_norm: a captured step updates the running statistics at each replay") {
  if (!have_cuda()) return;
  const Tensor x = random({40, 6}, 1, 0, 3).to(Dtype::f32).to(kCuda);
  const Tensor w = full({6}, 1, Dtype::f32, kCuda), b = zeros({6}, Dtype::f32, kCuda);
  const auto run = [&](bool captured) {
    Tensor mean = zeros({6}, Dtype::f32, kCuda), var = zeros({6}, Dtype::f32, kCuda);
    Graph step(kCuda, captured);
    Tensor gradient = empty({40, 6}, Dtype::f32, kCuda);
    for (int i = 0; i < 4; ++i)
      step.run({1}, [&] {
        const Tensor leaf = autograd::leaf(x, gradient);
        const Tensor y = batch_norm(leaf, w, b, mean, var, {.training = true});
        autograd::backward({y}, {x});
      });
    auto all = to_vector<float>(mean);
    for (const Tensor& t : {var, gradient})
      for (const float v : to_vector<float>(t)) all.push_back(v);
    return all;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("batch_norm: wrong arguments are named") {
  const Tensor x = zeros({2, 3, 3, 4}), c = zeros({4});
  CHECK_THROWS_WITH_AS(batch_norm(x, zeros({5}), c, c, c, {}),
                       "batch_norm: w: expected shape (4), found (5)", Error);
  CHECK_THROWS_WITH_AS(batch_norm(x, c, c, c, zeros({4}, Dtype::f64), {}),
                       "batch_norm: running_var: expected f32 on cpu, found f64 on cpu", Error);
  CHECK_THROWS_WITH_AS(batch_norm(x, c, c, c, c, {.act = Activation::gelu}),
                       "batch_norm: an activation of none or relu, found gelu", Error);
  CHECK_THROWS_WITH_AS(batch_norm(zeros({1, 1, 1, 4}), c, c, c, c, {.training = true}),
                       "batch_norm: x: (1, 1, 1, 4) has 1 value(s) a channel; the variance of a "
                       "batch needs two or more",
                       Error);
  CHECK_THROWS_WITH_AS(batch_norm(c, c, c, c, c, {}),
                       "batch_norm: x: expected 2 dimensions or more, found (4)", Error);
}
