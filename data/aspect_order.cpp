#include "data/aspect_order.h"

#include "core/error.h"
#include "data/shuffle.h"

namespace sg::data {

std::vector<int64_t> aspect_order(std::span<const ImageSize> images, int64_t batch,
                                  int64_t batches_of_step, uint64_t seed, int64_t epoch) {
  check(batch > 0 && batches_of_step > 0,
        "aspect order: batches of {} images, {} of them in a step", batch, batches_of_step);
  Random random(seed, Purpose::order, uint64_t(epoch));
  std::vector<int64_t> in_kinds;  // batches of the one kind, then of the other
  std::vector<uint32_t> order;
  for (const bool wide : {false, true}) {
    std::vector<int64_t> kind;
    for (size_t i = 0; i < images.size(); ++i)
      if ((images[i].width > images[i].height) == wide) kind.push_back(int64_t(i));
    if (kind.empty()) continue;
    order.resize(kind.size());
    shuffle(order, random);
    const int64_t multiple = batch * batches_of_step;
    const auto count = size_t((int64_t(kind.size()) + multiple - 1) / multiple * multiple);
    for (size_t i = 0; i < count; ++i) in_kinds.push_back(kind[order[i % kind.size()]]);
  }
  order.resize(in_kinds.size() / size_t(batch));
  shuffle(order, random);
  std::vector<int64_t> all;
  for (const uint32_t b : order)
    all.insert(all.end(), in_kinds.begin() + int64_t(b) * batch,
               in_kinds.begin() + (int64_t(b) + 1) * batch);
  return all;
}

}  // namespace sg::data
