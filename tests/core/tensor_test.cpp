#include "core/tensor.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace sg;

namespace {

template <class T>
concept Changeable = requires(T t) {
  t.fill_(1);
}
|| requires(T t) { t.zero_(); }
|| requires(T t) { t.copy_(t); };
template <class T>
concept GivesMutableData =
    !std::is_const_v<std::remove_pointer_t<decltype(std::declval<T>().raw())>> ||
    !std::is_const_v<std::remove_pointer_t<decltype(std::declval<T>().template data<float>())>>;

// Through a const Tensor and its views the values cannot be changed.
static_assert(Changeable<Tensor&> && GivesMutableData<Tensor&>);
static_assert(!Changeable<const Tensor&> && !GivesMutableData<const Tensor&>);
static_assert(
    std::is_same_v<decltype(std::declval<Tensor&>().span<float>()), std::span<float>> &&
    std::is_same_v<decltype(std::declval<const Tensor&>().span<float>()), std::span<const float>>);
using ConstView = decltype(std::declval<const Tensor&>().view({1}));
using ConstSlice = decltype(std::declval<const Tensor&>().slice(0, 1));
using ConstDetached = decltype(std::declval<const Tensor&>().detach());
static_assert(!Changeable<ConstView> && !Changeable<ConstSlice> && !Changeable<ConstDetached>);
// An output is a tensor that may be changed and that lives on; to pass one costs a pointer.
static_assert(std::is_convertible_v<Tensor&, Out> && !std::is_constructible_v<Out, const Tensor&> &&
              !std::is_constructible_v<Out, Tensor>);
static_assert(Changeable<const Out&> && GivesMutableData<const Out&>);
static_assert(std::is_trivially_copyable_v<Out> && sizeof(Out) == sizeof(void*));

}  // namespace

TEST_CASE("views share memory, clones do not") {
  Tensor t = from_vector<float>({0, 1, 2, 3, 4, 5}, {3, 2});
  const Tensor copy = t.clone();
  Tensor row = t.slice(1, 2);
  row.fill_(7);
  CHECK(to_vector<float>(t) == std::vector<float>{0, 1, 7, 7, 4, 5});
  CHECK(to_vector<float>(copy) == std::vector<float>{0, 1, 2, 3, 4, 5});
  CHECK(t.view({6}).same_memory(t));
  CHECK_THROWS_WITH_AS(t.view({5}), "view: (3, 2) has 6 elements, (5) has 5", Error);
  CHECK_THROWS_AS(t.slice(2, 4), Error);
  CHECK_THROWS_WITH_AS(t.data<double>(), "tensor (3, 2): asked for f64 data, it holds f32", Error);
}

TEST_CASE("an output refers to the tensor, and is undefined where none is wanted") {
  Tensor t = full({2}, 1);
  const Out out = t, unwanted = {};
  out.data<float>()[1] = 3;
  CHECK(to_vector<float>(out) == std::vector<float>{1, 3});
  out.zero_();
  CHECK(to_vector<float>(t) == std::vector<float>{0, 0});
  Tensor undefined;
  CHECK(out.defined());
  CHECK(!unwanted.defined());
  CHECK(!Out(undefined).defined());
}

TEST_CASE("bfloat16 rounds to nearest even and keeps NaN") {
  CHECK(float(bf16(1.0f)) == 1.0f);
  CHECK(bf16(1.00390625f).bits == 0x3f80);  // halfway between two values: to even
  CHECK(bf16(1.01171875f).bits == 0x3f82);
  CHECK(std::isnan(float(bf16(std::nanf("")))));
  CHECK(to_vector<double>(from_vector<float>({1.5f, -2.25f}, {2}).to(Dtype::bf16)) ==
        std::vector<double>{1.5, -2.25});
}

TEST_CASE("a repeated pattern of allocations asks the system only once") {
  const auto step = [] {
    const Tensor a = empty({1000, 64}), b = empty({3, 5});
    Tensor c = empty({77, 1024});
    c = Tensor();
    const Tensor d = empty({77, 1000});
  };
  step();
  const size_t before = Allocator::of({}).stats().system_allocations;
  for (int i = 0; i < 5; ++i) step();
  CHECK(Allocator::of({}).stats().system_allocations == before);
}

TEST_CASE("shapes refuse what does not fit") {
  CHECK_THROWS_AS(Shape({-1}), Error);
  CHECK_THROWS_AS(Shape({int64_t{1} << 40, int64_t{1} << 40}), Error);
  CHECK(Shape({2, 3}).with_last(5) == Shape{2, 5});
  CHECK(Shape({}).numel() == 1);
}

TEST_CASE("devices and dtypes are parsed, nonsense is a usage error") {
  CHECK(parse_device("cuda:3").index == 3);
  CHECK(parse_dtype("bf16") == Dtype::bf16);
  for (const char* bad : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x"}) {
    try {
      parse_device(bad);
      FAIL("accepted " << bad);
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::usage);
    }
  }
}
