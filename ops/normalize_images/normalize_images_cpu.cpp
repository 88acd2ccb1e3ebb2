#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/acc_type.h"
#include "core/cpu/parallel.h"
#include "ops/normalize_images/normalize_images.h"

namespace sg {
namespace {

// Normal noise for the three channels of a pixel, by Box-Muller: two numbers from words 0 and 1,
// one from words 2 and 3. The upper 24 bits of a word are used.
std::array<double, 3> noise_of(const RandomStream& stream, uint32_t pixel) {
  const auto words = random_words(stream, pixel);
  const auto length = [](uint32_t w) { return std::sqrt(-2 * std::log(((w >> 8) + 1) * 0x1p-24)); };
  const auto angle = [](uint32_t w) { return 2 * std::numbers::pi * ((w >> 8) * 0x1p-24); };
  const double a = length(words[0]), b = angle(words[1]);
  return {a * std::cos(b), a * std::sin(b), length(words[2]) * std::cos(angle(words[3]))};
}

// What pixel `pixel` becomes in the i-th erased box.
std::array<double, 3> erased_to(const MixErase& change, int i, int64_t pixel) {
  if (change.erase_mode == EraseMode::constant) return {};
  return noise_of(change.noise, uint32_t(change.erase_mode == EraseMode::colour ? i : pixel));
}

uint8_t mix(float weight, uint8_t own, uint8_t partner) {
  return uint8_t(std::rint(weight * float(own) + (1 - weight) * float(partner)));
}

template <class S>
struct Table {  // 256 values a channel: looking one up beats computing it
  S of[256][3];
  explicit Table(const ChannelStats& stats) {
    for (int v = 0; v < 256; ++v)
      for (size_t c = 0; c < 3; ++c)
        of[v][c] = S(AccType<S>((v - 255 * stats.mean[c]) / (255 * stats.std[c])));
  }
};

void normalize_images(Stream&, In pixels, In changes, In valid, const ChannelStats& stats, Out y) {
  const int64_t batch = y.dim(0), height = y.dim(1), width = y.dim(2);
  const auto* change = changes ? static_cast<const MixErase*>(changes.raw()) : nullptr;
  for (int64_t b = 0; change && b < batch; ++b)
    if (change[b].partner < 0 || change[b].partner >= batch)
      fail(ExitCode::data, "normalize_images: partner {} of image {} is outside the batch of {}",
           change[b].partner, b, batch);
  dispatch<float, double, bf16>(y.dtype(), "normalize_images", [&]<class S>() {
    const Table<S> table(stats);
    const auto change_row = [&](int64_t b, int row) {
      const int64_t first = (b * height + row) * width * 3;
      const uint8_t* own = pixels.data<uint8_t>() + first;
      S* to = y.data<S>() + first;
      for (int64_t i = 0; i < 3 * width; i += 3)
        for (int64_t c = 0; c < 3; ++c) to[i + c] = table.of[own[i + c]][c];
      if (!change) return;
      const MixErase& p = change[b];
      const auto columns = [&](const Box& box, const auto& f) {
        if (!box.has_row(row)) return;
        const int64_t end = std::min<int64_t>(box.right(), width);
        for (int64_t x = std::max(box.left, 0); x < end; ++x) f(x);
      };
      const uint8_t* partner = own + (p.partner - b) * height * width * 3;
      columns(p.mixed, [&](int64_t x) {
        for (int64_t c = 0; c < 3; ++c)
          to[3 * x + c] = table.of[mix(p.pixel_lambda, own[3 * x + c], partner[3 * x + c])][c];
      });
      for (int i = 0; i < kMaxErased && !p.erased[size_t(i)].empty(); ++i)
        columns(p.erased[size_t(i)], [&](int64_t x) {
          const auto value = erased_to(p, i, row * width + x);
          for (int64_t c = 0; c < 3; ++c) to[3 * x + c] = S(AccType<S>(value[size_t(c)]));
        });
    };
    const auto do_row = [&](int64_t b, int row) {
      change_row(b, row);
      if (!valid) return;
      const int32_t* const part = valid.data<int32_t>() + 2 * b;
      const int64_t columns = row < part[0] ? std::clamp<int64_t>(part[1], 0, width) : 0;
      std::fill_n(y.data<S>() + ((b * height + row) * width + columns) * 3, (width - columns) * 3,
                  S(AccType<S>(0)));
    };
    const int64_t grain = (1 << 14) / std::max<int64_t>(width, 1) + 1;
    parallel_for(batch * height, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) do_row(r / height, int(r % height));
    });
  });
}
const Register r{kernels::normalize_images, DeviceType::cpu, normalize_images};

}  // namespace
}  // namespace sg
