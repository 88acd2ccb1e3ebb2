#include "tests/sgformer/literal_detector.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/sgformer/literal_layers.h"
#include "tests/support/naive.h"

namespace sg::test {
namespace {

using namespace naive;
using sgformer::DetectedObjects, sgformer::DetectedSize, sgformer::Detector, sgformer::TargetDraw,
    sgformer::TrainingObjects;
using Corners = std::array<double, 4>;  // x1, y1, x2, y2
using Delta = std::array<double, 4>;    // dx, dy, dw, dh

double area(const Corners& a) { return (a[2] - a[0]) * (a[3] - a[1]); }

double overlap(const Corners& a, const Corners& b) {
  const double w = std::min(a[2], b[2]) - std::max(a[0], b[0]);
  const double h = std::min(a[3], b[3]) - std::max(a[1], b[1]);
  return w > 0 && h > 0 ? w * h : 0;
}

double iou(const Corners& a, const Corners& b) {
  const double inter = overlap(a, b);
  return inter / std::max(area(a) + area(b) - inter, 1e-6);
}

Corners clip(const Corners& a, ImageSize size) {
  const double w = size.width, h = size.height;
  return {std::clamp(a[0], 0.0, w), std::clamp(a[1], 0.0, h), std::clamp(a[2], 0.0, w),
          std::clamp(a[3], 0.0, h)};
}

Delta encode(const Corners& p, const Corners& g, const Delta& stds) {
  const double w = p[2] - p[0], h = p[3] - p[1];
  return {((g[0] + g[2]) / 2 - (p[0] + p[2]) / 2) / w / stds[0],
          ((g[1] + g[3]) / 2 - (p[1] + p[3]) / 2) / h / stds[1],
          std::log((g[2] - g[0]) / w) / stds[2], std::log((g[3] - g[1]) / h) / stds[3]};
}

Corners decode(const Corners& p, const double* d, const Delta& stds) {
  const double limit = std::abs(std::log(16.0 / 1000));
  const double w = p[2] - p[0], h = p[3] - p[1];
  const double x = (p[0] + p[2]) / 2 + d[0] * stds[0] * w;
  const double y = (p[1] + p[3]) / 2 + d[1] * stds[1] * h;
  const double gw = w * std::exp(std::clamp(d[2] * stds[2], -limit, limit));
  const double gh = h * std::exp(std::clamp(d[3] * stds[3], -limit, limit));
  return {x - gw / 2, y - gh / 2, x + gw / 2, y + gh / 2};
}
constexpr Delta kOnes{1, 1, 1, 1}, kRoiStds{0.1, 0.1, 0.2, 0.2};

// -1: ignored, 0: negative, k + 1: object k.
Index assign(const std::vector<Corners>& boxes, const std::vector<Corners>& objects,
             double positive, double negative, double least, const std::vector<bool>& valid) {
  Index to(boxes.size(), -1);
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (!valid[i]) continue;
    double most = 0;
    int64_t object = 0;
    for (size_t k = 0; k < objects.size(); ++k)
      if (const double v = iou(boxes[i], objects[k]); v > most) most = v, object = int64_t(k);
    if (most < negative) to[i] = 0;
    if (most >= positive) to[i] = object + 1;
  }
  for (size_t k = 0; k < objects.size(); ++k) {
    double most = 0;
    for (size_t i = 0; i < boxes.size(); ++i)
      if (valid[i]) most = std::max(most, iou(boxes[i], objects[k]));
    for (size_t i = 0; i < boxes.size(); ++i)
      if (most >= least && valid[i] && iou(boxes[i], objects[k]) == most) to[i] = int64_t(k) + 1;
  }
  return to;
}

struct Chosen {
  Index positive, negative;
};
Chosen choose(const Index& assigned, int64_t number, int64_t positives, Random random) {
  Chosen c;
  for (size_t i = 0; i < assigned.size(); ++i)
    if (assigned[i] >= 0) (assigned[i] ? c.positive : c.negative).push_back(int64_t(i));
  const auto shorten = [&](Index& all, int64_t to) {
    const auto n = int64_t(all.size());
    if (n <= to) return;
    for (int64_t i = 0; i < to; ++i)
      std::swap(all[size_t(i)], all[size_t(random.integer(i, n - 1))]);
    all.resize(size_t(to));
    std::sort(all.begin(), all.end());
  };
  shorten(c.positive, positives);
  shorten(c.negative, number - int64_t(c.positive.size()));
  return c;
}

// Indices by descending score.
Index ranked(const std::vector<double>& scores) {
  Index order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return scores[size_t(a)] > scores[size_t(b)]; });
  return order;
}

struct Scored {
  Corners box;
  double score;
  int64_t group;
};
std::vector<Scored> suppress(const std::vector<Scored>& all, double threshold, size_t most) {
  std::vector<double> scores;
  for (const Scored& s : all) scores.push_back(s.score);
  std::vector<Scored> kept;
  for (const int64_t i : ranked(scores)) {
    const Scored& s = all[size_t(i)];
    const auto covers = [&](const Scored& k) {
      const double inter = overlap(k.box, s.box);
      return k.group == s.group && inter > threshold * (area(k.box) + area(s.box) - inter);
    };
    if (kept.size() < most && std::none_of(kept.begin(), kept.end(), covers)) kept.push_back(s);
  }
  return kept;
}

// RoIAlign of one bin after the other, of a map (h, w) that begins at pixel `first`.
void add_bins(const Corners& box, double scale, int bins, int64_t h, int64_t w, int64_t first,
              std::vector<std::vector<Term>>& terms) {
  const double x1 = box[0] * scale - 0.5, y1 = box[1] * scale - 0.5;
  const double bw = (box[2] * scale - 0.5 - x1) / bins, bh = (box[3] * scale - 0.5 - y1) / bins;
  const int gw = int(std::ceil(bw)), gh = int(std::ceil(bh));
  for (int by = 0; by < bins; ++by)
    for (int bx = 0; bx < bins; ++bx) {
      std::vector<Term> bin;
      for (int iy = 0; iy < gh; ++iy)
        for (int ix = 0; ix < gw; ++ix) {
          double y = y1 + by * bh + (iy + 0.5) * bh / gh, x = x1 + bx * bw + (ix + 0.5) * bw / gw;
          if (y < -1 || y > double(h) || x < -1 || x > double(w)) continue;
          y = std::clamp(y, 0.0, double(h - 1)), x = std::clamp(x, 0.0, double(w - 1));
          const auto top = int64_t(y), left = int64_t(x);
          for (const auto& [r, wy] :
               {std::pair(top, 1 - (y - double(top))), {std::min(top + 1, h - 1), y - double(top)}})
            for (const auto& [q, wx] : {std::pair(left, 1 - (x - double(left))),
                                        {std::min(left + 1, w - 1), x - double(left)}})
              bin.push_back({first + r * w + q, wy * wx / std::max(gw * gh, 1)});
        }
      terms.push_back(bin);
    }
}

Tensor sum(const Tensor& x) {
  return x.numel() ? sum_last(reshape(x, {1, x.numel()})) : zeros({1}, Dtype::f64);
}

Tensor pick(const Tensor& x, const Index& index) {
  return gather(x, index, {int64_t(index.size())});
}

// Of logits whose target is 1, or 0.
Tensor cross_entropy(const Tensor& z, bool one) {
  const double sign = one ? -1 : 1;
  return map(
      z, [=](double v) { return std::log1p(std::exp(-std::abs(v))) + std::max(sign * v, 0.0); },
      [=](double v) { return sign / (1 + std::exp(-sign * v)); });
}

Tensor absolute_difference(const Tensor& x, const std::vector<Delta>& targets) {
  std::vector<double> minus;
  for (const Delta& t : targets)
    for (const double v : t) minus.push_back(-v);
  return map(
      add(x, from_vector(minus, x.shape())), [](double v) { return std::abs(v); },
      [](double v) { return v > 0 ? 1.0 : -1.0; });
}

struct Roi {
  int64_t image;
  Corners box;
};

struct Network {
  LiteralWeights w;
  int64_t classes;
  std::vector<Tensor> pyramid, logits, deltas;
  std::vector<Corners> anchors;
  std::vector<std::array<int64_t, 4>> anchor_cells;  // level, y, x, number in the cell

  Network(const Detector& model, const LiteralWeights& weights, const Tensor& images)
      : w(weights), classes(model.config().heads.classes) {
    pyramid = literal_fpn(w.in("neck"),
                          literal_backbone(model.config().backbone, w.in("backbone"), images).maps);
    const Tensor& last = pyramid.back();
    Index half;
    const int64_t h = (last.dim(1) + 1) / 2, wd = (last.dim(2) + 1) / 2, c = last.dim(3);
    for (int64_t b = 0; b < last.dim(0); ++b)
      for (int64_t y = 0; y < h; ++y)
        for (int64_t x = 0; x < wd; ++x)
          for (int64_t i = 0; i < c; ++i)
            half.push_back(((b * last.dim(1) + 2 * y) * last.dim(2) + 2 * x) * c + i);
    pyramid.push_back(gather(last, half, {last.dim(0), h, wd, c}));

    const LiteralWeights rpn = w.in("rpn_head");
    for (size_t l = 0; l < 5; ++l) {
      const Tensor x = relu(conv(rpn, "rpn_conv", pyramid[l]));
      logits.push_back(conv(rpn, "rpn_cls", x)), deltas.push_back(conv(rpn, "rpn_reg", x));
      const double stride = std::pow(2, double(l) + 2), side = 8 * stride;
      for (int64_t i = 0; i < x.dim(1); ++i)
        for (int64_t j = 0; j < x.dim(2); ++j)
          for (const double ratio : {0.5, 1.0, 2.0}) {
            const double width = side / std::sqrt(ratio), height = side * std::sqrt(ratio);
            anchor_cells.push_back({int64_t(l), i, j, int64_t(anchors.size() % 3)});
            anchors.push_back({double(j) * stride - width / 2, double(i) * stride - height / 2,
                               double(j) * stride + width / 2, double(i) * stride + height / 2});
          }
    }
  }

  // Where the logit of an anchor is in its map; of its first delta: 4 times that.
  int64_t place(int64_t image, int64_t anchor) const {
    const auto& [l, y, x, a] = anchor_cells[size_t(anchor)];
    const Tensor& map = logits[size_t(l)];
    return ((image * map.dim(1) + y) * map.dim(2) + x) * 3 + a;
  }

  std::vector<bool> valid(ImageSize padded) const {
    std::vector<bool> result;
    for (const auto& [l, y, x, a] : anchor_cells) {
      const double stride = std::pow(2, double(l) + 2);
      result.push_back(double(y) < std::ceil(padded.height / stride) &&
                       double(x) < std::ceil(padded.width / stride));
    }
    return result;
  }

  std::vector<Corners> proposals(int64_t image, ImageSize size, size_t before_nms) const {
    std::vector<Scored> all;
    for (int64_t l = 0; l < 5; ++l) {
      Index of_level;
      std::vector<double> scores;
      for (size_t i = 0; i < anchors.size(); ++i) {
        if (anchor_cells[i][0] != l) continue;
        of_level.push_back(int64_t(i));
        scores.push_back(
            1 / (1 + std::exp(-logits[size_t(l)].data<double>()[place(image, int64_t(i))])));
      }
      Index best = ranked(scores);
      best.resize(std::min(best.size(), before_nms));
      for (const int64_t i : best) {
        const int64_t a = of_level[size_t(i)];
        const double* d = deltas[size_t(l)].data<double>() + 4 * place(image, a);
        all.push_back({clip(decode(anchors[size_t(a)], d, kOnes), size), scores[size_t(i)], l});
      }
    }
    std::vector<Corners> boxes;
    for (const Scored& s : suppress(all, 0.7, 1000)) boxes.push_back(s.box);
    return boxes;
  }

  Tensor look_up(const std::vector<Roi>& rois, int bins) const {
    std::vector<Tensor> flat;
    Index first{0};
    const int64_t c = pyramid[0].dim(3);
    for (size_t l = 0; l < 4; ++l) {
      flat.push_back(pyramid[l]);
      first.push_back(first.back() + pyramid[l].numel() / c);
    }
    std::vector<std::vector<Term>> terms;
    for (const auto& [image, box] : rois) {
      const auto l =
          size_t(std::clamp(std::floor(std::log2(std::sqrt(area(box)) / 56 + 1e-6)), 0.0, 3.0));
      const int64_t h = pyramid[l].dim(1), wd = pyramid[l].dim(2);
      add_bins(box, std::pow(0.5, double(l) + 2), bins, h, wd, first[l] + image * h * wd, terms);
    }
    const Tensor all = reshape(concat(flat, {first[4] * c}), {first[4], c});
    return weighted(all, terms, {int64_t(rois.size()), bins, bins, c});
  }

  // Logits (n, classes + 1) and deltas (n, 4 * classes).
  std::pair<Tensor, Tensor> boxes(const std::vector<Roi>& rois) const {
    const LiteralWeights head = w.in("roi_head").in("bbox_head");
    const Tensor x = permute(look_up(rois, 7), {0, 3, 1, 2});
    const Tensor flat = reshape(x, {x.dim(0), x.numel() / x.dim(0)});
    const Tensor hidden = relu(lin(head, "shared_fcs.1", relu(lin(head, "shared_fcs.0", flat))));
    return {lin(head, "fc_cls", hidden), lin(head, "fc_reg", hidden)};
  }

  // Logits (n, 28, 28, classes).
  Tensor masks(const std::vector<Roi>& rois) const {
    const LiteralWeights head = w.in("roi_head").in("mask_head");
    Tensor x = look_up(rois, 14);
    for (int i = 0; i < 4; ++i) x = relu(conv(head, fmt::format("convs.{}.conv", i), x));
    const Tensor k = head("upsample.weight"), bias = head("upsample.bias");  // (in, out, 2, 2)
    const int64_t in = k.dim(0), out = k.dim(1);
    const Tensor four = linear(x, reshape(permute(k, {1, 2, 3, 0}), {4 * out, in}), {});
    Index from, of_bias;
    const Shape shape{x.dim(0), 28, 28, out};
    for (int64_t i = 0; i < shape.numel(); ++i) {
      const int64_t c = i % out, q = i / out % 28, r = i / out / 28 % 28, n = i / out / 784;
      from.push_back((((n * 14 + r / 2) * 14 + q / 2) * out + c) * 4 + r % 2 * 2 + q % 2);
      of_bias.push_back(c);
    }
    x = relu(add(gather(four, from, shape), gather(bias, of_bias, shape)));
    return conv(head, "conv_logits", x);
  }
};

std::vector<Corners> corners_of(const TrainingObjects& objects) {
  std::vector<Corners> result;
  for (const auto& b : objects.boxes) result.push_back({b.x1, b.y1, b.x2, b.y2});
  return result;
}

// 28 x 28 of the object's mask, padded by zeros.
std::vector<bool> mask_target(const TrainingObjects& objects, int64_t object, const Corners& box) {
  const int64_t h = objects.padded.height, w = objects.padded.width;
  std::vector<uint8_t> mask(size_t(objects.image.height) * size_t(objects.image.width));
  objects.mask(object, mask.data());
  std::vector<std::vector<Term>> terms;
  add_bins(clip(box, objects.padded), 1, 28, h, w, 0, terms);
  std::vector<bool> target;
  for (const auto& bin : terms) {
    double mean = 0;
    for (const auto& [pixel, weight] : bin) {
      const int64_t y = pixel / w, x = pixel % w;
      if (y < objects.image.height && x < objects.image.width)
        mean += weight * mask[size_t(y * objects.image.width + x)];
    }
    check(std::abs(mean - 0.5) > 1e-9,
          "literal detector: rounding decides whether a mean is a half");
    target.push_back(mean > 0.5);
  }
  return target;
}

}  // namespace

LiteralDetectorLosses literal_losses(const Detector& model, const Tensor& images,
                                     std::span<const TrainingObjects> objects,
                                     const TargetDraw& first) {
  const LiteralWeights w = literal_weights(model.parameters());
  const Tensor image = autograd::leaf(images);
  const Network net(model, w, image);
  const int64_t classes = net.classes;

  std::vector<Tensor> positives, negatives, anchor_deltas;
  std::vector<Delta> anchor_targets, roi_targets;
  std::vector<Roi> rois, mask_rois;
  Index labels, class_deltas;
  std::vector<std::pair<int64_t, std::vector<bool>>> masks;  // label and target
  for (size_t b = 0; b < objects.size(); ++b) {
    const std::vector<Corners> gt = corners_of(objects[b]);
    const auto at = int64_t(b);
    const auto stream = [&](Purpose purpose) {
      return Random(first.seed, purpose, first.step, first.image + b);
    };
    const Index assigned = assign(net.anchors, gt, 0.7, 0.3, 0.3, net.valid(objects[b].padded));
    const Chosen chosen = choose(assigned, 256, 128, stream(Purpose::rpn_sample));
    for (const int64_t i : chosen.positive) {
      const auto l = size_t(net.anchor_cells[size_t(i)][0]);
      const int64_t place = net.place(at, i);
      positives.push_back(pick(net.logits[l], {place}));
      anchor_deltas.push_back(
          pick(net.deltas[l], {4 * place, 4 * place + 1, 4 * place + 2, 4 * place + 3}));
      anchor_targets.push_back(
          encode(net.anchors[size_t(i)], gt[size_t(assigned[size_t(i)] - 1)], kOnes));
    }
    for (const int64_t i : chosen.negative)
      negatives.push_back(
          pick(net.logits[size_t(net.anchor_cells[size_t(i)][0])], {net.place(at, i)}));

    std::vector<Corners> boxes = net.proposals(at, objects[b].image, 2000);
    Index to = assign(boxes, gt, 0.5, 0.5, 0.5, std::vector<bool>(boxes.size(), true));
    for (size_t k = gt.size(); k-- > 0;) {
      boxes.insert(boxes.begin(), gt[k]);
      to.insert(to.begin(), int64_t(k) + 1);
    }
    const Chosen taken = choose(to, 512, 128, stream(Purpose::roi_sample));
    for (const int64_t i : taken.positive) {
      const int64_t object = to[size_t(i)] - 1, label = objects[b].labels[size_t(object)];
      for (int64_t k = 0; k < 4; ++k)
        class_deltas.push_back((int64_t(rois.size()) * classes + label) * 4 + k);
      rois.push_back({at, boxes[size_t(i)]}), labels.push_back(label);
      mask_rois.push_back(rois.back());
      masks.emplace_back(label, mask_target(objects[b], object, boxes[size_t(i)]));
      roi_targets.push_back(encode(boxes[size_t(i)], gt[size_t(object)], kRoiStds));
    }
    for (const int64_t i : taken.negative)
      rois.push_back({at, boxes[size_t(i)]}), labels.push_back(classes);
  }

  const auto joined = [](const std::vector<Tensor>& parts, int64_t each) {
    return concat(parts, {each * int64_t(parts.size())});
  };
  const double anchors = double(positives.size() + negatives.size()), n = double(rois.size());
  LiteralDetectorLosses result{.positive_anchors = int64_t(positives.size()),
                               .rois = int64_t(rois.size()),
                               .positive_rois = int64_t(mask_rois.size())};
  result.parts.push_back(scale(add(sum(cross_entropy(joined(positives, 1), true)),
                                   sum(cross_entropy(joined(negatives, 1), false))),
                               1 / anchors));
  result.parts.push_back(
      scale(sum(absolute_difference(joined(anchor_deltas, 4), anchor_targets)), 1 / anchors));

  const auto [logits, deltas] = net.boxes(rois);
  Index of_label;
  for (size_t i = 0; i < labels.size(); ++i)
    of_label.push_back(int64_t(i) * (classes + 1) + labels[i]);
  result.parts.push_back(scale(sum(pick(log_softmax(logits), of_label)), -1 / n));
  result.parts.push_back(
      scale(sum(absolute_difference(pick(deltas, class_deltas), roi_targets)), 1 / n));

  Index inside, outside;
  for (size_t i = 0; i < masks.size(); ++i)
    for (int64_t k = 0; k < 784; ++k)
      (masks[i].second[size_t(k)] ? inside : outside)
          .push_back((int64_t(i) * 784 + k) * classes + masks[i].first);
  if (masks.empty()) {
    result.parts.push_back(zeros({1}, Dtype::f64));
  } else {
    const Tensor z = net.masks(mask_rois);
    result.parts.push_back(scale(
        add(sum(cross_entropy(pick(z, inside), true)), sum(cross_entropy(pick(z, outside), false))),
        1 / double(784 * masks.size())));
  }

  Tensor total = result.parts[0];
  for (size_t i = 1; i < result.parts.size(); ++i) total = add(total, result.parts[i]);
  autograd::backward(total);
  for (const auto& [name, leaf] : w.leaves) result.gradients[name] = autograd::grad_of(leaf);
  result.image_gradient = autograd::grad_of(image);
  return result;
}

std::vector<DetectedObjects> literal_detect(const Detector& model, const Tensor& images,
                                            std::span<const DetectedSize> sizes) {
  const autograd::NoGrad no_grad;
  const Network net(model, literal_weights(model.parameters()), images);
  const int64_t classes = net.classes;
  std::vector<DetectedObjects> results;
  for (size_t b = 0; b < sizes.size(); ++b) {
    const auto& [size, original] = sizes[b];
    const double across = double(size.width) / original.width;
    const double down = double(size.height) / original.height;
    const std::vector<Corners> proposals = net.proposals(int64_t(b), size, 1000);
    std::vector<Roi> rois;
    for (const Corners& box : proposals) rois.push_back({int64_t(b), box});
    const auto [logits, deltas] = net.boxes(rois);
    const Tensor scores = softmax(logits);
    std::vector<Scored> all;
    for (size_t i = 0; i < rois.size(); ++i)
      for (int64_t c = 0; c < classes; ++c) {
        const double score = scores.data<double>()[int64_t(i) * (classes + 1) + c];
        if (score <= 0.05) continue;
        const Corners box = clip(
            decode(proposals[i], deltas.data<double>() + (int64_t(i) * classes + c) * 4, kRoiStds),
            size);
        all.push_back({{box[0] / across, box[1] / down, box[2] / across, box[3] / down}, score, c});
      }
    DetectedObjects found;
    std::vector<Roi> on_test_scale;
    for (const auto& [box, score, label] : suppress(all, 0.5, 100)) {
      found.boxes.push_back({box[0], box[1], box[2], box[3]});
      found.scores.push_back(score), found.labels.push_back(int32_t(label));
      on_test_scale.push_back(
          {int64_t(b), {box[0] * across, box[1] * down, box[2] * across, box[3] * down}});
    }
    const auto n = int64_t(found.boxes.size());
    found.masks = zeros({n, 28, 28}, Dtype::f64);
    if (n > 0) {
      const Tensor z = net.masks(on_test_scale);
      for (int64_t i = 0; i < n * 784; ++i)
        found.masks.data<double>()[i] =
            1 / (1 + std::exp(-z.data<double>()[i * classes + found.labels[size_t(i / 784)]]));
    }
    results.push_back(found);
  }
  return results;
}

}  // namespace sg::test
