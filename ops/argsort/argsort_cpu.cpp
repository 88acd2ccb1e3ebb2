#include <array>
#include <bit>
#include <utility>

#include "core/cpu/parallel.h"
#include "ops/argsort/argsort.h"

namespace sg {
namespace {

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// An unsigned key that orders as the values do: the same for both zeros, the largest for any NaN.
template <class T>
Bits<T> key_of(T v) {
  using U = Bits<T>;
  if (v != v) return ~U(0);
  const U bits = std::bit_cast<U>(v == 0 ? T(0) : v), sign = U(1) << (8 * sizeof(U) - 1);
  return bits & sign ? ~bits : bits | sign;
}

template <class T>
struct Item {
  Bits<T> key;
  int32_t index;
};

// Stable radix sort of items[0, n), a byte a pass from the lowest; returns where the result lies.
template <class T>
Item<T>* radix_sort(Item<T>* items, Item<T>* other, int64_t n) {
  constexpr int kBytes = sizeof(T);
  std::array<std::array<int32_t, 256>, kBytes> counts{};
  for (int64_t i = 0; i < n; ++i)
    for (int b = 0; b < kBytes; ++b) ++counts[b][items[i].key >> (8 * b) & 255];
  for (int b = 0; b < kBytes; ++b) {
    auto& count = counts[b];
    if (n > 0 && count[items[0].key >> (8 * b) & 255] == n) continue;  // all have this byte
    // From here on count[v] is where the next item with byte v goes.
    int32_t before = 0;
    for (int32_t& c : count) before += std::exchange(c, before);
    for (int64_t i = 0; i < n; ++i) other[count[items[i].key >> (8 * b) & 255]++] = items[i];
    std::swap(items, other);
  }
  return items;
}

void argsort(Stream&, In significance, Out order) {
  dispatch<float, double>(significance.dtype(), "argsort", [&]<class T>() {
    const int64_t images = order.dim(0), n = order.dim(1);
    Tensor scratch = empty({images, 2, n, int64_t(sizeof(Item<T>))}, Dtype::u8);
    parallel_for(images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        Item<T>* const items = static_cast<Item<T>*>(scratch.raw()) + b * 2 * n;
        const T* values = significance.data<T>() + b * n;
        for (int64_t i = 0; i < n; ++i) items[i] = {key_of(values[i]), int32_t(i)};
        const Item<T>* sorted = radix_sort<T>(items, items + n, n);
        int32_t* to = order.data<int32_t>() + b * n;
        for (int64_t k = 0; k < n; ++k) to[k] = sorted[k].index;
      }
    });
  });
}
const Register r{kernels::argsort, DeviceType::cpu, argsort};

}  // namespace
}  // namespace sg
