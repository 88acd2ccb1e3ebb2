// core/cuda/cudnn_convolution.cpp, and what ops/conv2d makes of it, on a stand-in for cuDNN
// (library.h). This program also runs the tests of ops/conv2d on it.
#include "core/cuda/cudnn_convolution.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/tape.h"
#include "core/graph.h"
#include "ops/conv2d/conv2d.h"
#include "tests/cudnn/library.h"
#include "tests/support/op_case.h"

using namespace sg;
using cuda::cudnn::Note;
using test::fake_cudnn, test::kCuda;

namespace {

constexpr Conv2dGeometry kSame{1, 1, 1, 1, 1};

Tensor random(Shape shape, uint64_t stream, Dtype dtype) {
  return test::random(shape, stream).to(Dtype::f32).to(kCuda).to(dtype);
}

// The library behaves as it is told for as long as it lives.
struct Told {
  ~Told() {
    const test::FakeCudnn usual;
    fake_cudnn().engines = usual.engines, fake_cudnn().fallbacks.clear();
    fake_cudnn().failing.clear();
  }
};

// Plans are kept: each test has a width of its own.
struct Step {
  Tensor x, w, dy;
  Step(int64_t width, Dtype dtype)
      : x(random({1, 3, width, 128}, 1, dtype)),
        w(random({128, 3, 3, 128}, 2, dtype)),
        dy(random({1, 3, width, 128}, 3, dtype)) {}

  // y, dx, dw in f32
  std::vector<Tensor> run() const {
    const Tensor x_leaf = autograd::leaf(x);
    const Tensor w_leaf = autograd::leaf(w, zeros(w.shape(), Dtype::f32, kCuda));
    const Tensor y = conv2d(x_leaf, w_leaf, {}, kSame);
    autograd::backward({y}, {dy});
    return {y.detach(), autograd::grad_of(x_leaf), autograd::grad_of(w_leaf)};
  }
  void check(const std::vector<Tensor>& found) const {
    const auto on_cpu = [](const Tensor& t) { return t.to(Device{}).to(Dtype::f64); };
    const Tensor x_leaf = autograd::leaf(on_cpu(x)), w_leaf = autograd::leaf(on_cpu(w));
    const Tensor y = conv2d(x_leaf, w_leaf, {}, kSame);
    autograd::backward({y}, {on_cpu(dy)});
    const std::vector<Tensor> expected{y.detach(), autograd::grad_of(x_leaf),
                                       autograd::grad_of(w_leaf)};
    const double bound = x.dtype() == Dtype::bf16 ? 1.0 / 128 : 1e-4;
    for (size_t i = 0; i < 3; ++i)
      CHECK(test::relative_error(on_cpu(found[i]), expected[i]) < bound);
  }
};

std::vector<std::string> choices_of(int64_t width) {
  std::vector<std::string> lines = conv2d_choices(kCuda);
  std::erase_if(lines, [&](const std::string& line) {
    return line.find(fmt::format("(1, 3, {}, 128)", width)) == std::string::npos;
  });
  return lines;
}

}  // namespace

TEST_CASE("cudnn: each direction is planned once, and executed with a workspace") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const Step step(5, dtype);
    const int searches = fake_cudnn().searches, executions = fake_cudnn().executions;
    fake_cudnn().last_workspace = nullptr;
    step.check(step.run());
    CHECK(fake_cudnn().searches == searches + 3);
    CHECK(fake_cudnn().executions == executions + 3);
    CHECK(fake_cudnn().last_workspace != nullptr);
    CHECK(fake_cudnn().last_alignment == 16);
    const int descriptors = fake_cudnn().descriptors;
    step.check(step.run());
    CHECK(fake_cudnn().searches == searches + 3);
    CHECK(fake_cudnn().executions == executions + 6);
    CHECK(fake_cudnn().descriptors == descriptors);
  }
  CHECK(fake_cudnn().handles == 1);
  CHECK(conv2d_choices(kCuda)[0].starts_with("convolutions of wide maps: cuDNN 9.19.0 ("));
  const auto lines = choices_of(5);
  REQUIRE(lines.size() == 6);
  CHECK(lines[0] ==
        "forward of bf16 (1, 3, 5, 128) -> 128, kernel 3 x 3, stride 1, padding 1 1 1 1: engine 7, "
        "1024 bytes of workspace");
}

TEST_CASE("cudnn: narrow convolutions, those of other channels and of no overlap are our own") {
  const int executions = fake_cudnn().executions;
  for (const auto& [channels, filters, stride] :
       {std::tuple{64, 128, 1}, {128, 64, 1}, {128, 129, 1}, {132, 128, 1}, {128, 128, 3}})
    conv2d(random({1, 3, 3, channels}, 1, Dtype::bf16),
           random({filters, 3, 3, channels}, 2, Dtype::bf16), {},
           {stride, stride == 1, stride == 1, stride == 1, stride == 1});
  CHECK(fake_cudnn().executions == executions);
}

TEST_CASE("cudnn: the first engine that is deterministic, exact, small enough and works") {
  const Told told;
  fake_cudnn().engines = {{.index = 1, .notes = {Note::nondeterministic}},
                          {.index = 2, .notes = {Note::tensor_core, Note::down_convert_inputs}},
                          {.index = 3, .notes = {Note::reduced_precision_reduction}},
                          {.index = 4, .workspace = cuda::kMaxWorkspace + 1},
                          {.index = 5, .works = false},
                          {.index = 6, .notes = {Note::tensor_core}}};
  fake_cudnn().fallbacks = {{.index = 7, .notes = {Note::nondeterministic}},
                            {.index = 8, .notes = {Note::winograd}, .workspace = 64}};
  const Step half(7, Dtype::bf16), single(7, Dtype::f32);
  half.check(half.run());
  CHECK(fake_cudnn().last_engine == 6);
  single.check(single.run());
  CHECK(fake_cudnn().last_engine == 8);
}

TEST_CASE("cudnn: without an engine our own kernels do it, and it is told why") {
  const Told told;
  fake_cudnn().engines = {{.works = false}};
  const int executions = fake_cudnn().executions;
  const Step step(9, Dtype::bf16);
  step.check(step.run());
  CHECK(fake_cudnn().executions == executions);
  const auto lines = choices_of(9);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].find("no engine, of 1 that the heuristics name; the last failed: "
                      "cudnnBackendFinalize failed: CUDNN_STATUS_OTHER (3008): its own words") !=
        std::string::npos);
}

TEST_CASE("cudnn: the gradient of weights is rounded to bf16 once, and summed over passes in f32") {
  const Step step(11, Dtype::bf16);
  const Tensor x = autograd::leaf(step.x);
  const Tensor w = autograd::leaf(step.w, zeros(step.w.shape(), Dtype::f32, kCuda));
  const auto add = [&](double scale) {
    const Tensor y = conv2d(x, w, {}, kSame);
    autograd::backward({y}, {full(y.shape(), scale, Dtype::bf16, kCuda)});
    return to_vector<float>(autograd::grad_of(w).clone());
  };
  const auto rounded = [](float v) { return float(bf16(v)); };
  const auto one = add(1);
  CHECK(std::ranges::all_of(one, [&](float v) { return rounded(v) == v; }));
  const auto both = add(1.0 / 256);
  CHECK(std::ranges::any_of(both, [&](float v) { return rounded(v) != v; }));
}

TEST_CASE("cudnn: memory that is aligned otherwise has a plan of its own") {
  const auto convolve = [](int64_t shift) {
    const auto memory = [&](int64_t n) { return zeros({n + 8}, Dtype::bf16, kCuda); };
    Tensor x = memory(3 * 13 * 128), w = memory(9 * 128 * 128), y = memory(3 * 13 * 128);
    const cuda::Convolution c{Dtype::bf16, 1, 3, 13, 128, 3, 13, 128, 3, 3, 1, 1, 1, 1, 1};
    CHECK(cuda::cudnn_convolution(current_stream(kCuda), cuda::ConvolutionPass::forward, c, x.raw(),
                                  w.raw(), y.data<bf16>() + shift));
  };
  const int searches = fake_cudnn().searches;
  convolve(0), convolve(0);
  CHECK(fake_cudnn().searches == searches + 1);
  convolve(2);
  CHECK(fake_cudnn().searches == searches + 2);
  CHECK(fake_cudnn().last_alignment == 4);
}

TEST_CASE("cudnn: in a graph, planned when it is issued, captured once, and replayed") {
  Step step(15, Dtype::bf16);
  std::vector<Tensor> out;
  for (const Tensor& t : {step.dy, step.x}) out.push_back(zeros(t.shape(), t.dtype(), kCuda));
  out.push_back(zeros(step.w.shape(), Dtype::f32, kCuda));
  Graph graph(kCuda);
  const int searches = fake_cudnn().searches, executions = fake_cudnn().executions;
  for (int i = 0; i < 4; ++i) {
    step.x.copy_(random(step.x.shape(), uint64_t(10 + i), Dtype::bf16));
    graph.run({1}, [&] {
      const auto found = step.run();
      for (size_t k = 0; k < 3; ++k) out[k].copy_(found[k]);
    });
    step.check(out);
    CHECK(fake_cudnn().searches == searches + 3);
    CHECK(fake_cudnn().executions == executions + (i == 0 ? 3 : 6));
  }
  CHECK(graph.captures() == 1);
}

TEST_CASE("cudnn: a call that fails is named, with cuDNN's words and the convolution") {
  const Told told;
  const Step step(17, Dtype::f32);
  fake_cudnn().failing["cudnnBackendExecute"] = 5000;
  CHECK_THROWS_WITH_AS(
      step.run(),
      doctest::Contains("cudnnBackendExecute failed: CUDNN_STATUS_OTHER (5000): its own words; "
                        "forward of f32 (1, 3, 17, 128) -> 128, kernel 3 x 3"),
      Error);
  fake_cudnn().failing = {{"cudnnBackendCreateDescriptor", 1008}};
  const Step other(19, Dtype::f32);
  CHECK_THROWS_WITH_AS(other.run(), doctest::Contains("of the same version"), Error);
}

// In a process of its own (tests/CMakeLists.txt): it is found out once.
TEST_CASE("cudnn: where it does not work, our own kernels do all, and it is told why" *
          doctest::skip()) {
  fake_cudnn().failing["cudnnCreate"] = 1002;
  const Step step(5, Dtype::bf16);
  step.check(step.run());
  CHECK(fake_cudnn().executions == 0);
  const auto lines = conv2d_choices(kCuda);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].starts_with("convolutions of wide maps: own kernels: "));
  CHECK(lines[0].find("cudnnCreate failed: CUDNN_STATUS_OTHER (1002)") != std::string::npos);
}
