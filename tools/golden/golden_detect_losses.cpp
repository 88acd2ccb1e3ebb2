#include "tools/golden/golden_detect_losses.h"

#include "ops/mask_loss/mask_loss.h"
#include "sgformer/detect/anchors.h"
#include "sgformer/detect/box_coder.h"
#include "sgformer/detect/losses.h"
#include "tools/golden/golden_losses.h"

namespace sg::golden {
namespace {

using namespace sgformer;

// Boxes of a file, encoded in f64.
Tensor encoded(const BoxCoder& coder, const std::vector<sgformer::Box<double>>& proposals,
               const std::vector<sgformer::Box<double>>& objects) {
  std::vector<double> numbers;
  for (size_t i = 0; i < objects.size(); ++i) {
    const BoxDelta<double> d = coder.encode(proposals[i], objects[i]);
    numbers.insert(numbers.end(), {d.dx, d.dy, d.dw, d.dh});
  }
  return from_vector(numbers, {int64_t(objects.size()), 4});
}

Tensor placed_index(const Case& c, const std::vector<int32_t>& index) {
  return from_vector(index, {int64_t(index.size())}).to(c.device);
}
// Targets have the dtype of the losses.
Tensor placed_targets(const Case& c, const Tensor& targets) {
  return targets.to(acc_dtype(c.dtype)).to(c.device);
}

// Both losses have the gradient 1.
void run_backward(const DetectorLoss& loss) {
  const Tensor one = full({1}, 1, loss.classes.dtype(), loss.classes.device());
  autograd::backward({loss.classes, loss.boxes}, {one, one});
}

}  // namespace

std::vector<Row> check_rpn_loss(const Case& c) {
  Comparison result(c, loss_bounds(c.dtype));
  const int64_t images = c.number("images");
  std::vector<ImageSize> sizes;
  RpnHead::Output outputs;
  for (const Shape& s : c.shapes("sizes", 2)) {
    const auto leaf = [&](const char* name, int64_t channels, bool logits) {
      const Shape official{images, channels, s[0], s[1]};
      const std::string full_name = fmt::format("{}.{}", name, sizes.size());
      const Tensor u =
          logits ? scaled_logits(c, full_name, official) : c.uniform(full_name, official);
      return autograd::leaf(c.place(transpose_map(u, true)));
    };
    outputs.logits.push_back(leaf("cls", 3, true));
    outputs.deltas.push_back(leaf("reg", 12, false));
    sizes.emplace_back(int(s[0]), int(s[1]));
  }
  AnchorSettings settings;
  settings.strides = c.numbers("strides");
  const Anchors<double> anchors(settings, sizes);
  std::vector<int32_t> positive, negative;
  std::vector<sgformer::Box<double>> proposals, objects;
  for (int64_t b = 0; b < images; ++b) {
    const auto given = [&](const char* name) {
      return result.given(fmt::format("{}.{}", name, b));
    };
    const Tensor of_image = given("objects"), chosen = given("positive_object");
    const auto boxes = boxes_of<double>(of_image);
    const auto first = int32_t(b * int64_t(anchors.boxes().size()));
    const auto found = to_vector<int32_t>(given("positive"));
    for (size_t i = 0; i < found.size(); ++i) {
      positive.push_back(first + found[i]);
      proposals.push_back(anchors.boxes()[size_t(found[i])]);
      objects.push_back(boxes[size_t(chosen.data<int32_t>()[i])]);
    }
    for (const int32_t i : to_vector<int32_t>(given("negative"))) negative.push_back(first + i);
  }
  const DetectorLoss loss = rpn_loss(outputs, {placed_index(c, positive), placed_index(c, negative),
                                               placed_targets(c, encoded({}, proposals, objects))});
  run_backward(loss);
  result.add("loss_cls", loss.classes);
  result.add("loss_box", loss.boxes);
  for (size_t l = 0; l < sizes.size(); ++l) {
    result.add_map(fmt::format("grad_cls.{}", l), autograd::grad_of(outputs.logits[l]));
    result.add_map(fmt::format("grad_reg.{}", l), autograd::grad_of(outputs.deltas[l]));
  }
  return result.finish();
}

std::vector<Row> check_roi_loss(const Case& c) {
  Comparison result(c, loss_bounds(c.dtype));
  const int64_t classes = c.number("classes");
  const auto labels = to_vector<int32_t>(result.given("labels"));
  const auto n = int64_t(labels.size());
  const auto boxes = [&](const char* name) {
    const Tensor t = result.given(name);
    const auto all = boxes_of<double>(t);
    return std::vector<sgformer::Box<double>>(all.begin(), all.end());
  };
  BoxCoder coder;
  std::ranges::copy(c.reals("stds"), coder.stds.begin());
  const Tensor targets = encoded(coder, boxes("proposals"), boxes("objects"));
  const BoxHead::Output outputs{autograd::leaf(c.place(scaled_logits(c, "cls", {n, classes + 1}))),
                                autograd::leaf(c.place(c.uniform("reg", {n, 4 * classes})))};
  const DetectorLoss loss =
      roi_loss(outputs, {placed_index(c, labels), placed_index(c, positive_rows(labels, classes)),
                         placed_targets(c, targets)});
  run_backward(loss);
  result.add("targets", targets);
  result.add("loss_cls", loss.classes);
  result.add("loss_box", loss.boxes);
  result.add("grad_cls", autograd::grad_of(outputs.logits));
  result.add("grad_reg", autograd::grad_of(outputs.deltas));
  return result.finish();
}

std::vector<Row> check_mask_loss(const Case& c) {
  Comparison result(c, loss_bounds(c.dtype));
  const Tensor targets = result.given("target").to(c.device);
  const Shape official{targets.dim(0), c.number("classes"), targets.dim(1), targets.dim(2)};
  const Tensor logits =
      autograd::leaf(c.place(transpose_map(scaled_logits(c, "logits", official), true)));
  const Tensor loss = mask_loss(logits, result.given("labels").to(c.device), targets);
  autograd::backward(loss);
  result.add("loss", loss);
  result.add_map("grad", autograd::grad_of(logits));
  return result.finish();
}

}  // namespace sg::golden
