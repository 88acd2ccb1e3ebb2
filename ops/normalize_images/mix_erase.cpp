#include "ops/normalize_images/mix_erase.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sg {
namespace {

// Pairs the images of the group.
void pair_up(const char* what, std::span<MixErase> group, int64_t first) {
  check(group.size() % 2 == 0, "{}: {} images, expected an even number, so that each has a partner",
        what, group.size());
  for (size_t i = 0; i < group.size(); ++i)
    group[i].partner = int32_t(first + int64_t(group.size() - 1 - i));
}

void check_lambda(const char* what, double lambda) {
  check(lambda >= 0 && lambda <= 1, "{}: lambda: expected 0 to 1, found {}", what, lambda);
}

}  // namespace

void mixup(std::span<MixErase> group, int64_t first, double lambda, int64_t height, int64_t width) {
  check_lambda("mixup", lambda);
  pair_up("mixup", group, first);
  for (MixErase& c : group) {
    c.mixed = {0, 0, int32_t(width), int32_t(height)};
    c.pixel_lambda = c.label_lambda = float(lambda);
  }
}

void cutmix(std::span<MixErase> group, int64_t first, const Box& box, int64_t height,
            int64_t width) {
  pair_up("cutmix", group, first);
  for (MixErase& c : group) {
    c.mixed = box, c.pixel_lambda = 0;
    c.label_lambda = float(1 - double(box.area()) / double(height * width));
  }
}

Box cutmix_box(double lambda, int64_t y, int64_t x, int64_t height, int64_t width) {
  check_lambda("cutmix", lambda);
  check(0 <= y && y < height && 0 <= x && x < width, "cutmix: centre ({}, {}) outside {} x {}", y,
        x, height, width);
  const double side = std::sqrt(1 - lambda);
  const auto cut = [side](int64_t centre, int64_t size) {
    const int64_t half = int64_t(double(size) * side) / 2;
    const int64_t begin = std::max<int64_t>(centre - half, 0);
    return std::pair(int32_t(begin), int32_t(std::min(centre + half, size) - begin));
  };
  Box box;
  std::tie(box.top, box.height) = cut(y, height);
  std::tie(box.left, box.width) = cut(x, width);
  return box;
}

Tensor pack(const std::vector<MixErase>& changes, int64_t height, int64_t width) {
  const auto batch = int64_t(changes.size());
  for (int64_t i = 0; i < batch; ++i) {
    const MixErase& c = changes[size_t(i)];
    check(0 <= c.partner && c.partner < batch,
          "image change {}: partner: expected 0 to {}, found {}", i, batch - 1, c.partner);
    for (const float v : {c.label_lambda, c.pixel_lambda})
      check(v >= 0 && v <= 1,
            "image change {}: label_lambda, pixel_lambda: expected 0 to 1, found {}", i, v);
    const auto check_box = [&](const Box& b) {
      check(0 <= b.top && 0 <= b.height && b.bottom() <= height && 0 <= b.left && 0 <= b.width &&
                b.right() <= width,
            "image change {}: rows {} to {}, columns {} to {} leave an image of {} x {}", i, b.top,
            b.bottom(), b.left, b.right(), height, width);
    };
    check_box(c.mixed);
    for (const Box& b : c.erased) check_box(b);
  }
  Tensor t = empty({batch, kMixEraseWords}, Dtype::i32);
  if (batch) std::memcpy(t.raw(), changes.data(), t.bytes());
  return t;
}

void check_changes(std::string_view op, const Tensor& changes, int64_t batch, Device device) {
  check_shape(op, "changes", changes, {batch, kMixEraseWords});
  check(changes.dtype() == Dtype::i32 && changes.device() == device,
        "{}: changes: expected i32 on {}, found {} on {}", op, str(device),
        name_of(changes.dtype()), str(changes.device()));
}

}  // namespace sg
