// How the CPU cuts the attention of a group into units of work: some queries of one window of one
// head of one image, against all keys of the window.
#pragma once
#include <algorithm>

#include "ops/attention/attention.h"
#include "ops/attention/token_rect.h"

namespace sg::attention_cpu {

using Rect = kernels::TokenRect<int64_t>;

struct Unit {
  int64_t index, image, head;
  Rect queries, keys;
  int64_t begin, end;  // those of `queries` that belong to the unit
};

class Units {
 public:
  explicit Units(const kernels::AttentionGeometry& g) : g_(g) {
    key_side_y_ = g.window ? std::min<int64_t>(g.window, g.key_h) : g.key_h;
    key_side_x_ = g.window ? std::min<int64_t>(g.window, g.key_w) : g.key_w;
    query_side_y_ = g.window ? std::min<int64_t>(int64_t{g.window} * g.scale, g.h) : g.h;
    query_side_x_ = g.window ? std::min<int64_t>(int64_t{g.window} * g.scale, g.w) : g.w;
    windows_y_ = (g.key_h + key_side_y_ - 1) / key_side_y_;
    windows_x_ = (g.key_w + key_side_x_ - 1) / key_side_x_;
    // A set number of units, whatever the number of threads: where few windows give few units,
    // queries of a window are cut in chunks, whose sums over queries are added in order.
    constexpr int64_t kUnits = 64, kQueries = 128;
    chunks_ = std::clamp<int64_t>(kUnits / std::max<int64_t>(windows(), 1), 1,
                                  (query_side_y_ * query_side_x_ + kQueries - 1) / kQueries);
  }

  int64_t windows() const { return g_.batch * windows_y_ * windows_x_ * g_.heads; }
  int64_t chunks() const { return chunks_; }  // units of one window and head, of successive index
  int64_t count() const { return windows() * chunks_; }
  int64_t max_keys() const { return key_side_y_ * key_side_x_; }

  Unit operator[](int64_t index) const {
    int64_t rest = index;
    const auto take = [&](int64_t n) {
      const int64_t i = rest % n;
      rest /= n;
      return i;
    };
    const int64_t chunk = take(chunks_), head = take(g_.heads);
    const int64_t x = take(windows_x_), y = take(windows_y_), image = rest;
    Unit u{
        index,
        image,
        head,
        window_of(y * query_side_y_, x * query_side_x_, query_side_y_, query_side_x_, g_.h, g_.w),
        window_of(y * key_side_y_, x * key_side_x_, key_side_y_, key_side_x_, g_.key_h, g_.key_w),
        0,
        0};
    // Whole register tiles but for the last chunk.
    const int64_t n = u.queries.count;
    u.begin = n * chunk / chunks_ / 8 * 8;
    u.end = chunk + 1 == chunks_ ? n : n * (chunk + 1) / chunks_ / 8 * 8;
    return u;
  }

 private:
  static Rect window_of(int64_t y, int64_t x, int64_t side_y, int64_t side_x, int64_t h,
                        int64_t w) {
    return kernels::token_rect(y, x, std::min(side_y, h - y), std::min(side_x, w - x), w);
  }

  const kernels::AttentionGeometry& g_;
  int64_t key_side_y_, key_side_x_, query_side_y_, query_side_x_;
  int64_t windows_y_, windows_x_, chunks_;
};

}  // namespace sg::attention_cpu
