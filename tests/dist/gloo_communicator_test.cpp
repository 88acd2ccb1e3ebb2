#include "dist/gloo_communicator.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/tensor.h"
#include "tests/dist/ranks.h"

using namespace sg;
using test::Outcome;
using test::Ranks;

namespace {

// Element i of rank r.
double value(int64_t i, int r) { return std::sin(double(i % 1000) + 0.1 * r) * (1 + r); }

template <class T>
Tensor tensor_of(int64_t n, int rank) {
  Tensor t = empty({n}, dtype_of<T>());
  for (int64_t i = 0; i < n; ++i)
    t.data<T>()[i] = std::is_integral_v<T> ? T(1000 * value(i, rank)) : T(value(i, rank));
  return t;
}

// The sum in the order of ranks, in the type in which it is summed.
template <class T>
T sum_of(int64_t i, int ranks) {
  T sum{};
  for (int r = 0; r < ranks; ++r)
    sum = sum + (std::is_integral_v<T> ? T(1000 * value(i, r)) : T(value(i, r)));
  return sum;
}

template <class T>
void check_sums(dist::Group& group) {
  dist::Communicator& c = group.communicator({});
  for (const int64_t n : {1, 3, 17, 1000, 100003}) {
    Tensor t = tensor_of<T>(n, group.rank());
    c.all_reduce("sums", t);
    for (int64_t i = 0; i < n; ++i)
      check(t.data<T>()[i] == sum_of<T>(i, group.ranks()), "element {} of {}: {}, not {}", i, n,
            t.data<T>()[i], sum_of<T>(i, group.ranks()));
  }
}

}  // namespace

TEST_CASE("all-reduce sums in the order of ranks, the same bits in whatever slices") {
  for (const int ranks : {2, 3, 4}) {
    Ranks run(ranks, test::kPatient, [](dist::Group& group) {
      check_sums<float>(group);
      check_sums<double>(group);
      check_sums<int32_t>(group);
    });
    test::check_all_well(run.wait());
  }
}

TEST_CASE("gradients as bf16 are rounded once on each rank, and their sum once") {
  Ranks run(4, test::kPatient, [](dist::Group& group) {
    dist::Communicator& c = group.communicator({});
    const int64_t n = 5001;
    Tensor t = tensor_of<float>(n, group.rank());
    c.start_all_reduce("slice 1 of 1", t, dist::Wire::bf16);
    c.join();
    for (int64_t i = 0; i < n; ++i) {
      float sum = 0;
      for (int r = 0; r < group.ranks(); ++r) sum += float(bf16(float(value(i, r))));
      check(t.data<float>()[i] == float(bf16(sum)), "element {}: {}, not {}", i, t.data<float>()[i],
            float(bf16(sum)));
    }
  });
  test::check_all_well(run.wait());
}

TEST_CASE("all-gather and broadcast, and sums that were started one after the other") {
  Ranks run(3, test::kPatient, [](dist::Group& group) {
    dist::Communicator& c = group.communicator({});
    Tensor mine = full({2, 5}, group.rank()), all = empty({3, 2, 5});
    Tensor weights = full({1 << 20}, group.rank() + 1);
    Tensor slices = full({4, 1000}, group.rank());
    for (int64_t i = 0; i < 4; ++i) {
      Tensor slice = slices.slice(i, i + 1);
      c.start_all_reduce("slice", slice);
    }
    c.start_all_gather("parts", mine, all);
    c.join();
    c.broadcast("weights", weights);
    for (const float x : slices.span<float>()) check(x == 3, "sum {}", x);
    for (int64_t i = 0; i < all.numel(); ++i)
      check(all.data<float>()[i] == float(i / 10), "gathered {}", all.data<float>()[i]);
    for (const float x : weights.span<float>()) check(x == 1, "broadcast {}", x);

    const dist::CommunicationTimes times = c.times();
    check(times.busy > 0 && times.exposed > 0 && c.times().busy == 0, "times {} {}", times.busy,
          times.exposed);
  });
  test::check_all_well(run.wait());
}

TEST_CASE("GLOO_SOCKET_IFNAME names the interface; one that does not exist is named") {
  const auto with_interface = [](const char* name) {
    return [name](dist::Group& group) {
      ::setenv("GLOO_SOCKET_IFNAME", name, 1);
      group.communicator({}).all_reduce("sums", zeros({10}));
    };
  };
  Ranks good(2, test::kPatient, with_interface("lo,eth9"));
  test::check_all_well(good.wait());
  Ranks bad(2, test::kPatient, with_interface("nosuch"));
  for (const Outcome& o : bad.wait()) {
    CHECK((o.code == int(ExitCode::usage) || o.code == int(ExitCode::peer)));
    CHECK(o.text.find("cannot open connections at nosuch") != std::string::npos);
  }
}
