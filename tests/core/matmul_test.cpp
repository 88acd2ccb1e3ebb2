// Products and convolutions touch nothing outside their operands, whatever a library thinks of
// whole vectors: each operand ends, or begins, at a page that may not be touched.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "core/cpu/bf16_products.h"
#include "core/cpu/convolution.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "core/tensor.h"
#include "tests/support/skip.h"

using namespace sg;
using sg::test::skip;

namespace {

template <class S>
class Guarded {
 public:
  Guarded(int64_t count, bool at_end) : bytes_(size_t(count) * sizeof(S)) {
    const auto page = size_t(::sysconf(_SC_PAGESIZE));
    body_ = (bytes_ + page - 1) / page * page;
    map_ = ::mmap(nullptr, body_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map_ != MAP_FAILED);
    begin_ = static_cast<char*>(map_) + page;
    REQUIRE(::mprotect(begin_, body_, PROT_READ | PROT_WRITE) == 0);
    std::fill_n(begin_, body_, kMark);
    data_ = begin_ + (at_end ? body_ - bytes_ : 0);
    for (int64_t i = 0; i < count; ++i) data()[i] = S(float(i % 7) - 3);
    mapped_ = body_ + 2 * page;
  }
  ~Guarded() { ::munmap(map_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  S* data() const { return reinterpret_cast<S*>(data_); }
  // Nothing was written between the operand and the pages that may not be touched.
  bool intact() const {
    const auto marked = [](char c) { return c == kMark; };
    return std::all_of(begin_, data_, marked) &&
           std::all_of(data_ + bytes_, begin_ + body_, marked);
  }

 private:
  static constexpr char kMark = 0x5a;
  void* map_ = nullptr;
  char *begin_ = nullptr, *data_ = nullptr;
  size_t bytes_, body_ = 0, mapped_ = 0;
};

template <class S, class C>
void check_product(int64_t m, int64_t n, int64_t k, int variant) {
  const bool a_transposed = variant & 1, b_transposed = variant & 2, bias = variant & 4,
             at_end = variant & 8;
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(variant);
  const Guarded<S> a(m * k, at_end), b(k * n, at_end), sum(n, at_end);
  const Guarded<C> c(m * n, at_end);
  gemm<S>(m, n, k, {a.data(), a_transposed ? m : k, a_transposed},
          {b.data(), b_transposed ? k : n, b_transposed}, c.data(), false,
          bias ? sum.data() : nullptr);
  for (const Guarded<S>* g : {&a, &b, &sum}) CHECK(g->intact());
  CHECK(c.intact());
}

}  // namespace

TEST_CASE_TEMPLATE("products stay within their operands", Types, std::pair<float, float>,
                   std::pair<bf16, bf16>, std::pair<bf16, float>) {
  const auto check = check_product<typename Types::first_type, typename Types::second_type>;
  std::mt19937 random(1);
  const auto side = [&](int most) { return int64_t(1 + random() % unsigned(most)); };
  for (int variant = 0; variant < 16; ++variant) {
    check(784, 64, 256, variant), check(49, 64, 128, variant), check(60, 280, 50, variant);
    for (int i = 0; i < 10; ++i) check(side(300), side(130), side(300), variant);
  }
}

TEST_CASE_TEMPLATE("convolutions stay within their operands", S, float, bf16) {
  if (std::is_same_v<S, bf16> && !has_bf16_products())
    return skip("a processor that multiplies bf16");
  struct Case {
    int64_t batch, height, width, channels, kernel, stride, filters;
  };
  for (const Case& c :
       {Case{2, 56, 56, 3, 3, 2, 64}, Case{1, 5, 7, 3, 3, 2, 24}, Case{2, 14, 14, 24, 3, 1, 24},
        Case{1, 13, 9, 48, 2, 2, 48}, Case{1, 16, 24, 65, 8, 8, 33}})
    for (const bool at_end : {false, true}) {
      const int64_t pad = c.stride < c.kernel ? c.kernel / 2 : 0;
      const auto windows = [&](int64_t size) { return (size + 2 * pad - c.kernel) / c.stride + 1; };
      const Windows w{.batch = c.batch,
                      .height = c.height,
                      .width = c.width,
                      .channels = c.channels,
                      .rows = windows(c.height),
                      .columns = windows(c.width),
                      .kernel_height = c.kernel,
                      .kernel_width = c.kernel,
                      .stride = c.stride,
                      .top = pad,
                      .left = pad};
      const Guarded<S> x(c.batch * c.height * c.width * c.channels, at_end),
          weights(c.filters * w.size(), at_end), bias(c.filters, at_end),
          y(c.batch * w.rows * w.columns * c.filters, at_end);
      convolution<S>(w, c.filters, x.data(), weights.data(), bias.data(), y.data());
      if constexpr (std::is_same_v<S, bf16>) {
        convolution_input(w, c.filters, y.data(), weights.data(), x.data());
        const Guarded<float> dw(c.filters * w.size(), at_end);
        convolution_weights(w, c.filters, y.data(), x.data(), dw.data());
        CHECK(dw.intact());
      }
      for (const Guarded<S>* g : {&x, &weights, &bias, &y}) CHECK(g->intact());
    }
}

TEST_CASE_TEMPLATE("products have the same bits with 1, 2, 3 and 8 threads", Types,
                   std::pair<float, float>, std::pair<bf16, bf16>, std::pair<bf16, float>) {
  using S = typename Types::first_type;
  using C = typename Types::second_type;
  struct Case {
    int64_t m, n, k;
    bool a_transposed = false;
    bool bias = false;
  };
  std::mt19937 random(2);
  const auto values = [&](int64_t count) {
    std::vector<S> v(size_t(count), S(0.f));
    for (S& f : v) f = S(float(random()) / 4e9f - 0.5f);
    return v;
  };
  const int before = num_threads();
  // Long sums with few results, which libraries split; one row; powers of two.
  for (const Case& c :
       {Case{1, 64, 30000}, Case{196, 1024, 256, false, true}, Case{1, 1000, 512, false, true},
        Case{64, 64, 8192, true}, Case{48, 8, 65536, true}, Case{1024, 256, 2048, true},
        Case{256, 256, 1568, true}, Case{392, 2048, 512, false, true},
        Case{392, 512, 2048, false, true}, Case{64, 16, 8192, false, true},
        Case{40, 3, 16384, false, true}, Case{98, 512, 512}}) {
    CAPTURE(c.m);
    CAPTURE(c.n);
    CAPTURE(c.k);
    const std::vector<S> a = values(c.m * c.k), b = values(c.k * c.n), bias = values(c.n);
    const auto product = [&](int threads, bool on_thread) {
      set_num_threads(threads);
      std::vector<C> y(size_t(c.m * c.n), C(0.f));
      const GemmOperand<S> left{a.data(), c.a_transposed ? c.m : c.k, c.a_transposed};
      if (on_thread)
        gemm_on_thread<S>(c.m, c.n, c.k, left, {b.data(), c.n}, y.data());
      else
        gemm<S>(c.m, c.n, c.k, left, {b.data(), c.n}, y.data(), false,
                c.bias ? bias.data() : nullptr);
      CHECK(num_threads() == threads);
      return y;
    };
    for (const bool on_thread : {false, true}) {
      const std::vector<C> expected = product(1, on_thread);
      for (const int threads : {2, 3, 8}) {
        CAPTURE(threads);
        const std::vector<C> found = product(threads, on_thread);
        CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(C)) == 0);
      }
    }
  }
  set_num_threads(before);
}

TEST_CASE("products of bf16 whose results are larger than caches are those of a loop") {
  constexpr int64_t m = 1100, k = 32;
  // Rows of whole cache lines, and of others; results that begin at a line, and that do not.
  for (const int64_t n : {1024, 1040})
    for (const int variant : {0, 1, 2, 3}) {
      const int64_t offset = variant & 1;
      const bool accumulate = variant & 2;
      CAPTURE(n);
      CAPTURE(variant);
      const auto values = [](int64_t count, int period) {
        std::vector<bf16> v(size_t(count), bf16(0.f));
        for (int64_t i = 0; i < count; ++i) v[size_t(i)] = bf16(float(i * i % period - period / 2));
        return v;
      };
      const std::vector<bf16> a = values(m * k, 3), b = values(k * n, 5), bias = values(n, 7);
      Tensor memory = full({m * n + offset}, 2, Dtype::bf16);
      bf16* const y = memory.data<bf16>() + offset;
      gemm<bf16>(m, n, k, {a.data(), k}, {b.data(), n}, y, accumulate, bias.data());
      int64_t wrong = 0;  // sums are integers up to 64 + 5, and so exact
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          float sum = (accumulate ? 2.f : 0.f) + float(bias[size_t(j)]);
          for (int64_t s = 0; s < k; ++s)
            sum += float(a[size_t(i * k + s)]) * float(b[size_t(s * n + j)]);
          wrong += float(y[i * n + j]) != sum;
        }
      CHECK(wrong == 0);
    }
}

TEST_CASE_TEMPLATE("products are those of a loop, for any sides", S, float, bf16) {
  struct Case {
    int64_t m, n, k;
  };
  // Panels of rows and of columns, and sides that are no multiples of what kernels take at once.
  // Long sums and long sides, which AMX multiplies in parts.
  for (const Case& c : {Case{64, 20, 33}, Case{100, 130, 27}, Case{48, 64, 64}, Case{199, 300, 45},
                        Case{49, 520, 96}, Case{7, 3, 5}, Case{400, 1, 31}, Case{290, 40, 1060},
                        Case{40, 290, 544}, Case{33, 30, 5000}, Case{2, 3, 20000}})
    for (int variant = 0; variant < 16; ++variant) {
      const bool a_transposed = variant & 1, b_transposed = variant & 2, accumulate = variant & 4,
                 with_bias = variant & 8;
      CAPTURE(c.m);
      CAPTURE(c.n);
      CAPTURE(c.k);
      CAPTURE(variant);
      const auto values = [](int64_t count, int period) {
        std::vector<S> v(size_t(count), S(0.f));
        for (int64_t i = 0; i < count; ++i) v[size_t(i)] = S(float(i * i % period - period / 2));
        return v;
      };
      const std::vector<S> a = values(c.m * c.k, 7), b = values(c.k * c.n, 11),
                           bias = values(c.n, 5);
      std::vector<float> y(size_t(c.m * c.n), 2.f);
      gemm<S>(c.m, c.n, c.k, {a.data(), a_transposed ? c.m : c.k, a_transposed},
              {b.data(), b_transposed ? c.k : c.n, b_transposed}, y.data(), accumulate,
              with_bias ? bias.data() : nullptr);
      int64_t wrong = 0;  // all sums are small integers, and so exact
      for (int64_t i = 0; i < c.m; ++i)
        for (int64_t j = 0; j < c.n; ++j) {
          float sum = (accumulate ? 2.f : 0.f) + (with_bias ? float(bias[size_t(j)]) : 0.f);
          for (int64_t s = 0; s < c.k; ++s)
            sum += float(a[size_t(a_transposed ? s * c.m + i : i * c.k + s)]) *
                   float(b[size_t(b_transposed ? j * c.k + s : s * c.n + j)]);
          wrong += y[size_t(i * c.n + j)] != sum;
        }
      CHECK(wrong == 0);
    }
}
