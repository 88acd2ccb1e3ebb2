#include "ops/cross_entropy/cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("cross_entropy: value and gradient against the composed form, any sum of targets") {
  for (const auto& [batch, k] :
       {std::pair{1, 1}, {1, 7}, {5, 10}, {40, 33}, {3, 1000}, {2, 2100}}) {
    OpCase test;
    test.name = fmt::format("batch {} classes {}", batch, k);
    test.inputs = {test::random({batch, k}, 1, -4, 4), test::random({batch, k}, 2, 0, 2)};
    test.op = [](auto& in) -> std::vector<Tensor> {
      const CrossEntropy r = soft_cross_entropy(in[0], in[1]);
      return {r.loss, r.per_sample};
    };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      const Tensor products = naive::multiply(naive::log_softmax(in[0]), in[1]);
      const Tensor losses = naive::scale(naive::sum_last(products), -1);
      std::vector<int64_t> all(size_t(batch), 0);
      for (size_t i = 0; i < all.size(); ++i) all[i] = int64_t(i);
      const Tensor sum = naive::sum_last(naive::gather(losses, all, {1, batch}));
      return {naive::scale(sum, 1.0 / batch), losses.detach()};
    };
    test.wanted = {true, false};
    test.roles = {Role::activation, Role::parameter};
    test.terms = k;
    run(test);
  }
}

TEST_CASE("cross_entropy: huge logits overflow nothing and lose nothing") {
  std::vector<std::pair<Device, Dtype>> settings{{{}, Dtype::f64}};
  for (const Device device : devices()) settings.emplace_back(device, Dtype::f32);
  for (const auto& [device, dtype] : settings)
    for (const double shift : {0.0, 1e4, -1e4, 1e30, -1e30}) {
      CAPTURE(shift);
      // At 1e30 the three logits are equal to rounding; below, they are exact in both types.
      const std::vector<double> z{shift + 2, shift, shift - 500};
      const Tensor logits = autograd::leaf(from_vector(z, {1, 3}).to(dtype).to(device));
      const Tensor targets = from_vector<double>({0.25, 0.25, 0.5}, {1, 3}).to(dtype);
      const CrossEntropy r = soft_cross_entropy(logits, targets.to(device));
      const bool equal = std::abs(shift) > 1e6;
      const double lse = equal ? std::log(3.0) : std::log1p(std::exp(-2.0));
      const double p0 = equal ? 1.0 / 3 : 1 / (1 + std::exp(-2.0)), p2 = equal ? 1.0 / 3 : 0;
      const double expected = equal ? lse : 0.25 * 2 + 0.5 * 502 + lse;
      const double eps = dtype == Dtype::f32 ? 0x1p-22 : 0x1p-50;
      CHECK(std::abs(r.loss.item() - expected) <= eps * expected);
      autograd::backward(r.loss);
      const auto g = to_vector<double>(autograd::grad_of(logits));
      CHECK(std::abs(g[0] - (p0 - 0.25)) <= eps);
      CHECK(std::abs(g[1] - (1 - p0 - p2 - 0.25)) <= eps);
      CHECK(std::abs(g[2] - (p2 - 0.5)) <= eps);
    }
}

TEST_CASE("cross_entropy: what is not finite stays so, in its own sample alone") {
  for (const Device device : devices())
    for (const double bad : {std::nan(""), HUGE_VAL}) {
      Tensor z = test::random({2, 20}, 1);
      z.data<double>()[7] = bad;
      const Tensor logits = autograd::leaf(z.to(Dtype::f32).to(device));
      const CrossEntropy r = soft_cross_entropy(logits, full({2, 20}, 0.05, Dtype::f32, device));
      CHECK_FALSE(std::isfinite(r.loss.item()));
      CHECK(std::isfinite(to_vector<double>(r.per_sample)[1]));
      autograd::backward(r.loss);
      const auto g = to_vector<double>(autograd::grad_of(logits));
      for (size_t i = 0; i < 40; ++i) CHECK(std::isfinite(g[i]) == (i >= 20));
    }
}

TEST_CASE("smooth_one_hot: the recipe's targets, and a loss at the start of ln 1000") {
  const Tensor labels = from_vector<int32_t>({3, 999, 0}, {3});
  const Tensor t = smooth_one_hot(labels, 1000, 0.1, Dtype::f64);
  for (int64_t r = 0; r < 3; ++r)
    for (int64_t k = 0; k < 1000; ++k)
      CHECK(t.data<double>()[r * 1000 + k] ==
            doctest::Approx(k == labels.data<int32_t>()[r] ? 0.9001 : 0.0001).epsilon(1e-14));
  CHECK(soft_cross_entropy(zeros({3, 1000}, Dtype::f64), t).loss.item() ==
        doctest::Approx(std::log(1000)).epsilon(1e-13));
  CHECK(to_vector<float>(smooth_one_hot(from_vector<int32_t>({1}, {1}), 3, 0)) ==
        std::vector<float>{0, 1, 0});
}

TEST_CASE("smooth_one_hot: erasing leaves the targets as they are") {
  const Tensor labels = from_vector<int32_t>({3, 7}, {2});
  std::vector<MixErase> changes(2);
  mixup(changes, 0, 0.3, 8, 8);
  const auto targets = [&] {
    return to_vector<double>(smooth_one_hot(labels, 10, 0.1, Dtype::f64, pack(changes, 8, 8)));
  };
  const auto before = targets();
  changes[0].erased[0] = {0, 0, 7, 7}, changes[1].erased[1] = {1, 1, 3, 4};
  CHECK(targets() == before);
}

TEST_CASE("smooth_one_hot: mixed images share their targets; every row sums to 1") {
  // Images 0 and 3, 1 and 2 are partners; 1 and 2 have the same label.
  const Tensor labels = from_vector<int32_t>({3, 999, 999, 0}, {4});
  std::vector<MixErase> changes(4);
  cutmix(changes, 0, cutmix_box(0.3, 112, 112, 224, 224), 224, 224);
  const double share = 1 - 186.0 * 186 / (224 * 224);
  const Tensor t = smooth_one_hot(labels, 1000, 0.1, Dtype::f64, pack(changes, 224, 224));
  const auto plain = to_vector<double>(smooth_one_hot(labels, 1000, 0.1, Dtype::f64));
  for (size_t r = 0; r < 4; ++r) {
    double sum = 0;
    for (size_t k = 0; k < 1000; ++k) {
      const double own = plain[r * 1000 + k], partner = plain[(3 - r) * 1000 + k];
      const double found = t.data<double>()[r * 1000 + k];
      // The share is an f32: 2^-24 off.
      CHECK(std::abs(found - (share * own + (1 - share) * partner)) <= 0x1p-24);
      sum += found;
    }
    CHECK(sum == doctest::Approx(1).epsilon(1e-12));
  }
}

TEST_CASE(
    "smooth_one_hot: weights of classes make the mean torch's weighted one, and its gradient") {
  // torch.nn.functional.cross_entropy(z, y, weight, label_smoothing=s), from its definition:
  // [(1 - s) sum_i w[y_i] nll_i(y_i) + s / K sum_i sum_c w[c] nll_i(c)] / sum_i w[y_i].
  for (const double s : {0.0, 0.1}) {
    OpCase test;
    test.name = fmt::format("smoothing {}", s);
    constexpr int64_t kBatch = 7, kClasses = 5;
    const std::vector<int32_t> y{3, 0, 4, 1, 3, 3, 2};
    const std::vector<double> w{0.5, 3, 1, 0.25, 2};
    test.inputs = {test::random({kBatch, kClasses}, 1, -4, 4)};
    test.op = [=](auto& in) -> std::vector<Tensor> {
      const Dtype dtype = acc_dtype(in[0].dtype());
      const Device device = in[0].device();
      const Tensor weights = from_vector(w, {kClasses}).to(dtype).to(device);
      const Tensor labels = from_vector(y, {kBatch}).to(device);
      return {
          soft_cross_entropy(in[0], smooth_one_hot(labels, kClasses, s, dtype, {}, weights)).loss};
    };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      std::vector<double> factors(size_t(kBatch * kClasses));
      double sum = 0;
      for (size_t i = 0; i < y.size(); ++i) sum += w[size_t(y[i])];
      for (size_t i = 0; i < factors.size(); ++i) {
        const size_t c = i % kClasses, label = size_t(y[i / kClasses]);
        factors[i] = -((c == label ? (1 - s) * w[label] : 0) + s / kClasses * w[c]) / sum;
      }
      const Tensor products =
          naive::multiply(naive::log_softmax(in[0]), from_vector(factors, {kBatch, kClasses}));
      std::vector<int64_t> all(size_t(kBatch), 0);
      for (size_t i = 0; i < all.size(); ++i) all[i] = int64_t(i);
      return {naive::sum_last(naive::gather(naive::sum_last(products), all, {1, kBatch}))};
    };
    test.roles = {Role::activation};
    test.terms = kBatch * kClasses;
    run(test);
  }
  // Worked by hand: equal logits cost ln 2 each, whatever the weights; without weights as ever.
  const Tensor labels = from_vector<int32_t>({0, 1, 1}, {3});
  const Tensor t = smooth_one_hot(labels, 2, 0, Dtype::f64, {}, from_vector<double>({4, 1}, {2}));
  CHECK(to_vector<double>(t) == std::vector<double>{2, 0, 0, 0.5, 0, 0.5});
  CHECK_THROWS_WITH_AS(smooth_one_hot(labels, 2, 0, Dtype::f64, {}, zeros({2})),
                       "smooth_one_hot: weights: expected f64 on cpu, found f32 on cpu", Error);
  CHECK_THROWS_WITH_AS(smooth_one_hot(labels, 2, 0, Dtype::f32, {}, zeros({3})),
                       "smooth_one_hot: weights: expected shape (2), found (3)", Error);
}

TEST_CASE("smooth_one_hot: on cuda the bits of the CPU; what is out of range makes its row NaN") {
  if (!have_cuda()) return;
  const Tensor labels = from_vector<int32_t>({3, 299, 7, 0, 7, 100}, {6});
  std::vector<MixErase> mixed(6);
  mixup(std::span(mixed).first(4), 0, 0.37, 2, 2);
  mixup(std::span(mixed).last(2), 4, 0.81, 2, 2);
  const auto on_cuda = [](const Tensor& t) { return t ? t.to(kCuda) : t; };
  for (const double smoothing : {0.0, 0.1})
    for (const Tensor& changes : {Tensor(), pack(mixed, 2, 2)})
      for (const Tensor& weights : {Tensor(), test::random({300}, 5, 0.1, 3).to(Dtype::f32)}) {
        const Tensor right = smooth_one_hot(labels, 300, smoothing, Dtype::f32, changes, weights);
        const Tensor found = smooth_one_hot(labels.to(kCuda), 300, smoothing, Dtype::f32,
                                            on_cuda(changes), on_cuda(weights))
                                 .to(Device{});
        CHECK(std::memcmp(right.raw(), found.raw(), right.bytes()) == 0);
      }
  Tensor changes = pack(mixed, 2, 2);
  changes.data<int32_t>()[4 * kMixEraseWords] = 6;  // a partner outside the batch
  // Label 299 is too large for 200 classes: in row 1, and in row 2, its partner.
  const Tensor t = smooth_one_hot(labels.to(kCuda), 200, 0.1, Dtype::f32, changes.to(kCuda));
  const auto v = to_vector<float>(t);
  for (size_t i = 0; i < v.size(); ++i)
    CHECK(std::isnan(v[i]) == (i / 200 == 1 || i / 200 == 2 || i / 200 == 4));
  // And so does the loss, of which training skips the step.
  const Tensor logits = autograd::leaf(zeros({6, 200}, Dtype::f32, kCuda));
  const CrossEntropy loss = soft_cross_entropy(logits, t);
  CHECK(std::isnan(loss.loss.item()));
  CHECK_THROWS_WITH_AS(smooth_one_hot(labels, 300, 0.1, Dtype::f32, changes),
                       "smooth_one_hot: partner 6 of sample 4 is outside the batch of 6", Error);
  CHECK_THROWS_WITH_AS(smooth_one_hot(labels, 300, 0.1, Dtype::f32, changes.to(kCuda)),
                       "smooth_one_hot: changes: expected i32 on cpu, found i32 on cuda:0", Error);
}

TEST_CASE("cross_entropy: wrong arguments are named") {
  for (const int32_t label : {-1, 10}) {
    const Tensor labels = from_vector<int32_t>({2, label}, {2});
    try {
      smooth_one_hot(labels, 10, 0.1);
      FAIL("label " << label << " was accepted");
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::data);
      CHECK(e.what() ==
            fmt::format("smooth_one_hot: label {} of sample 1 is outside [0, 10)", label));
    }
  }
  CHECK_THROWS_WITH_AS(smooth_one_hot(zeros({2}), 10, 0.1),
                       "smooth_one_hot: labels: expected i32, found f32", Error);
  CHECK_THROWS_WITH_AS(smooth_one_hot(zeros({2}, Dtype::i32), 10, 1.5),
                       "smooth_one_hot: smoothing: expected 0 to 1, found 1.5", Error);
  const Tensor z = zeros({2, 4});
  CHECK_THROWS_WITH_AS(soft_cross_entropy(z, zeros({2, 5})),
                       "soft_cross_entropy: targets: expected shape (2, 4), found (2, 5)", Error);
  CHECK_THROWS_WITH_AS(soft_cross_entropy(z, zeros({2, 4}, Dtype::f64)),
                       "soft_cross_entropy: targets: expected f32 on cpu, found f64 on cpu", Error);
  CHECK_THROWS_WITH_AS(soft_cross_entropy(zeros({0, 4}), zeros({0, 4})),
                       "soft_cross_entropy: logits: (0, 4) is empty", Error);
  CHECK_THROWS_AS(soft_cross_entropy(z, autograd::leaf(z)), Error);
}
