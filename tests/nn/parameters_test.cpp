#include "nn/parameters.h"

#include <doctest/doctest.h>

#include "core/allocator.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::nn;

TEST_CASE("official layouts go in and come out again") {
  ParameterStore store;
  const ParameterScope root(store);
  Parameter* conv = root.add({{"c", {4, 3, 2, 5}, Layout::conv, Init::conv}}, {4, 2, 5, 3});
  Parameter* depthwise = root.add({{"d", {6, 1, 3, 3}, Layout::depthwise, Init::conv}}, {3, 3, 6});
  Parameter* pair = (root / "x").add({{"a", {2, 7}}, {"b", {3, 7}}}, {5, 7});
  store.allocate(Dtype::f64);
  for (const std::string& name : store.names()) {
    const Tensor t = test::random(store.part(name).official, 1 + name.back());
    store.set(store.values(), name, t);
    CHECK(to_vector<double>(store.get(store.values(), name)) == to_vector<double>(t));
  }
  const auto official = to_vector<double>(store.get(store.values(), "c"));
  // here (out, kh, kw, in), official (out, in, kh, kw)
  CHECK(conv->value.data<double>()[((1 * 2 + 1) * 5 + 2) * 3 + 2] ==
        official[((1 * 3 + 2) * 2 + 1) * 5 + 2]);
  CHECK(depthwise->value.data<double>()[(1 * 3 + 2) * 6 + 4] ==
        to_vector<double>(store.get(store.values(), "d"))[4 * 9 + 1 * 3 + 2]);
  CHECK(pair->value.data<double>()[2 * 7 + 1] ==
        to_vector<double>(store.get(store.values(), "x.b"))[1]);
  CHECK(store.count() == 4 * 3 * 2 * 5 + 54 + 35);
}

TEST_CASE("gradients go to one buffer, last declared first; unreached ones become zero") {
  ParameterStore store;
  const ParameterScope root(store);
  Parameter* first = root.add({{"first", {3}}}, {3});
  Parameter* second = root.add({{"second", {2, 2}}}, {2, 2});
  store.allocate();
  CHECK(second->offset < first->offset);
  CHECK(first->offset % 16 == 0);
  store.grads().fill_(9);
  autograd::backward({first->value}, {full({3}, 2)});
  store.zero_unreached_grads();
  CHECK(to_vector<float>(store.get(store.grads(), "first")) == std::vector<float>{2, 2, 2});
  CHECK(to_vector<float>(store.get(store.grads(), "second")) == std::vector<float>{0, 0, 0, 0});
  const auto segments = store.segments();
  REQUIRE(segments.size() == 2);
  CHECK(segments[0].weight_decay_scale == 1);  // second: a matrix
  CHECK(segments[1].weight_decay_scale == 0);  // first: a vector
}

TEST_CASE("bf16: a CPU that trains holds no rounded copy of the weights, inference has one") {
  for (const bool gradients : {false, true}) {
    ParameterStore store;
    const ParameterScope root(store);
    const Parameter* matmul = root.add({{"w", {2, 3}}}, {2, 3}, DtypeRole::matmul);
    const Parameter* elementwise = root.add({{"b", {3}}}, {3});
    store.allocate(Dtype::bf16, {}, gradients);
    CHECK(store.dtype() == Dtype::bf16);
    CHECK(store.bf16_values().defined() == !gradients);
    CHECK(matmul->value.dtype() == (gradients ? Dtype::f32 : Dtype::bf16));
    CHECK(elementwise->value.dtype() == Dtype::f32);
    const Tensor official = full({2, 3}, 1.001);
    store.set(store.values(), "w", official);
    CHECK(to_vector<float>(matmul->value) ==
          std::vector<float>(6, gradients ? 1.001f : float(bf16(1.001f))));
    store.use_values(full(store.values().shape(), 2.01));
    CHECK(to_vector<float>(matmul->value)[5] == (gradients ? 2.01f : float(bf16(2.01f))));
  }
}

TEST_CASE("another buffer of values can be put in, and misuse is named") {
  ParameterStore store;
  Parameter* p = ParameterScope(store).add({{"w", {2}}}, {2});
  store.allocate();
  Tensor own = store.values();
  const Tensor other = full(own.shape(), 5);
  store.use_values(other);
  CHECK(to_vector<float>(p->value) == std::vector<float>{5, 5});
  store.use_values(own);
  CHECK(to_vector<float>(p->value) == std::vector<float>{0, 0});
  CHECK_THROWS_AS(store.use_values(zeros({1})), Error);
  CHECK_THROWS_WITH_AS(store.part("v"), "parameters: the model has no tensor named 'v'", Error);
  CHECK_THROWS_WITH_AS(store.set(own, "w", zeros({3})), "w: value: expected shape (2), found (3)",
                       Error);
  CHECK_THROWS_AS(ParameterScope(store).add({{"late", {2}}}, {2}), Error);
  ParameterStore twice;
  ParameterScope(twice).add({{"w", {2}}}, {2});
  CHECK_THROWS_WITH_AS(ParameterScope(twice).add({{"w", {2}}}, {2}),
                       "parameters: w is declared twice", Error);
}

TEST_CASE("a rule puts parameters into groups; frozen ones are no leaves and no segments") {
  ParameterStore store;
  const ParameterScope root(store);
  Parameter* first = root.add({{"first", {3}}}, {3});
  Parameter* second = root.add({{"a", {2, 2}}, {"b", {1, 2}}}, {3, 2});
  Parameter* third = root.add({{"third", {3}}}, {3});
  store.allocate();
  const auto rule = [](const NamedSlice& part) {
    ParameterGroup group = published_group(part);
    group.frozen = part.name == "first";
    if (part.name == "b") group.lr_scale = 0.5;
    return group;
  };
  autograd::backward({first->value}, {full({3}, 2)});
  store.set_groups(rule);
  CHECK(!autograd::requires_grad(first->value));
  CHECK(autograd::requires_grad(second->value));
  CHECK(to_vector<float>(store.get(store.grads(), "first")) == std::vector<float>{0, 0, 0});
  store.clear_grads();
  autograd::backward({third->value}, {full({3}, 2)});
  store.zero_unreached_grads();
  store.use_values(store.values());
  CHECK(!autograd::requires_grad(first->value));  // still

  const auto segments = store.segments();
  REQUIRE(segments.size() == 3);
  CHECK(segments[0].begin == third->offset);
  CHECK(segments[1].end == second->offset + 4);
  CHECK(segments[1].lr_scale == 1);
  CHECK(segments[2].end == second->offset + 6);
  CHECK(segments[2].lr_scale == 0.5);

  const std::vector<GroupSize> groups = store.groups();
  REQUIRE(groups.size() == 4);
  CHECK(groups[0].group == ParameterGroup{1, 0, true});
  CHECK(groups[1].elements == 4);
  CHECK(groups[2].group == ParameterGroup{0.5, 1, false});
  CHECK(groups[3].tensors == 1);

  // One leaf cannot be half frozen.
  CHECK_THROWS_WITH_AS(store.set_groups([](const NamedSlice& part) {
    return ParameterGroup{1, 1, part.name == "b"};
  }),
                       "parameters: a and b are one parameter: freeze both or none", Error);
}

TEST_CASE("buffers lie beside the parameters, begin with their value and are no parameters") {
  ParameterStore store;
  const ParameterScope root(store);
  root.add({{"w", {3}}}, {3});
  Buffer* mean = (root / "bn").add_buffer("running_mean", {5}, 0);
  Buffer* var = (root / "bn").add_buffer("running_var", {5}, 1);
  CHECK_THROWS_WITH_AS(root.add_buffer("w", {3}, 0), "parameters: w is declared twice", Error);
  CHECK_THROWS_WITH_AS(root.add_buffer("bn.running_var", {3}, 0),
                       "parameters: bn.running_var is declared twice", Error);
  store.allocate(Dtype::f64);
  store.initialize(3);
  CHECK(store.count() == 3);
  CHECK(to_vector<double>(mean->value) == std::vector<double>(5, 0));
  CHECK(to_vector<double>(var->value) == std::vector<double>(5, 1));
  var->value.fill_(7);  // a view of the flat buffer
  CHECK(to_vector<double>(store.buffers().slice(var->offset, var->offset + 5)) ==
        std::vector<double>(5, 7));
  CHECK(!autograd::requires_grad(var->value));
}

TEST_CASE("initialize needs no memory as large as the parameters") {
  ParameterStore store;
  const ParameterScope root(store);
  for (int i = 0; i < 64; ++i)
    root.add({{fmt::format("w{}", i), {128, 256}, Layout::same, Init::linear}}, {128, 256});
  store.allocate();
  Allocator& allocator = Allocator::of(Device{});
  allocator.reset_peak();
  const size_t before = allocator.stats().in_use;
  store.initialize(3);
  CHECK(allocator.stats().peak - before < store.values().bytes() / 2);
}

TEST_CASE("without gradients parameters are values alone, in memory too") {
  const auto reserved = [](bool gradients) {
    ParameterStore store;
    Parameter* w = ParameterScope(store).add({{"w", {1 << 20}}}, {1 << 20});
    Allocator& allocator = Allocator::of({});
    allocator.release_cached();
    const size_t before = allocator.stats().reserved;
    store.allocate(Dtype::f32, {}, gradients);
    store.initialize(1);
    store.use_values(store.values());
    store.set_groups(published_group);
    CHECK(autograd::requires_grad(w->value) == gradients);
    CHECK(store.grads().defined() == gradients);
    return allocator.stats().reserved - before;
  };
  CHECK(reserved(false) + (4 << 20) <= reserved(true));
}
