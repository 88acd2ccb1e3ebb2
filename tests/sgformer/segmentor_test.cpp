// The segmentors against the literal reference; their parameters, names and multiply-adds.
#include "sgformer/segment/segmentor.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "nn/trace.h"
#include "ops/dropout2d/dropout2d.h"
#include "tests/sgformer/literal_segmentor.h"
#include "tests/support/files.h"
#include "tests/support/op_case.h"
#include "tools/golden/case.h"

using namespace sg;
using namespace sg::sgformer;
using test::contains, test::error_of;

namespace {

// Narrow, so that the literal reference stays quick.
SegmentorConfig narrow(const char* head) {
  SegmentorConfig c = find_segmentor_config("sgformer_s", head, 5);
  c.backbone.name = "narrow";
  const int64_t dims[] = {8, 16, 16, 32};
  const int heads[] = {2, 2, 4, 4};
  for (size_t i = 0; i < 4; ++i) {
    c.backbone.stages[i].dim = dims[i];
    c.backbone.stages[i].heads = heads[i];
    c.backbone.stages[i].depth = i < 3 ? 2 : 1;
  }
  c.channels = 6;
  if (c.neck_channels) c.neck_channels = 7;
  if (c.auxiliary_channels) c.auxiliary_channels = 4;
  return c;
}

void fill(nn::ParameterStore& p) {
  const auto value = [](const std::string& name, const Shape& shape) {
    return golden::formula_parameter("segmentor", name, shape);
  };
  for (const std::string& name : p.names())
    p.set(p.values(), name, value(name, p.part(name).official));
  for (const nn::Buffer& b : p.named_buffers())
    Tensor(b.value).copy_(value(b.name, b.shape).to(b.value.dtype()).to(b.value.device()));
}

// Every value and gradient to 1e-9, as backbones are compared; batch norm over few pixels magnifies
// rounding, of which float64 has room for.
void compare(const SegmentorConfig& config, int64_t height, int64_t width, bool training) {
  CAPTURE(name_of(config.head));
  CAPTURE(height);
  CAPTURE(width);
  CAPTURE(training);
  const int64_t batch = 2;
  Segmentor model(config);
  nn::ParameterStore& p = model.parameters();
  p.allocate(Dtype::f64);
  fill(p);
  const Tensor images = test::random({batch, height, width, 3}, 1);
  Segmentor::ForwardOptions options{.training = training};
  if (training) {
    options.dropout = empty({batch, model.dropout_channels()}, Dtype::f64);
    draw_dropout2d(0.3, 1, 2, 0, 0, options.dropout);
    if (model.aux_dropout_channels()) {
      options.aux_dropout = empty({batch, model.aux_dropout_channels()}, Dtype::f64);
      draw_dropout2d(0.3, 1, 2, 1, 0, options.aux_dropout);
    }
  }
  const auto quarter = [](int64_t n) { return (n + 3) / 4; };
  const auto sixteenth = [&](int64_t n) { return (quarter(n) + 3) / 4; };
  const Tensor upstream = test::random({batch, quarter(height), quarter(width), 5}, 2);
  const Tensor aux_upstream = test::random({batch, sixteenth(height), sixteenth(width), 5}, 3);
  const test::LiteralSegmentation literal =
      test::run_literal(model, images, options, upstream, aux_upstream);

  const Tensor x = autograd::leaf(images);
  const Segmentor::Output out = model.forward(x, options);
  REQUIRE(out.aux_logits.defined() == literal.aux_logits.defined());
  if (out.aux_logits)
    autograd::backward({out.logits, out.aux_logits}, {upstream, aux_upstream});
  else
    autograd::backward({out.logits}, {upstream});

  CHECK(test::relative_error(out.logits.detach(), literal.logits.detach()) <= 1e-9);
  if (out.aux_logits)
    CHECK(test::relative_error(out.aux_logits.detach(), literal.aux_logits.detach()) <= 1e-9);
  CHECK(test::relative_error(autograd::grad_of(x), literal.image_gradient) <= 1e-9);
  p.zero_unreached_grads();
  for (const auto& [name, gradient] : literal.gradients) {
    CAPTURE(name);
    const Tensor expected = gradient ? gradient : zeros(p.part(name).official, Dtype::f64);
    CHECK(test::relative_error(p.get(p.grads(), name), expected) <= 1e-9);
  }
  CHECK(literal.buffers.size() == (training ? p.named_buffers().size() : 0));
  for (const nn::Buffer& b : p.named_buffers()) {
    CAPTURE(b.name);
    if (training) CHECK(test::relative_error(b.value, literal.buffers.at(b.name)) <= 1e-9);
  }
}

struct Published {
  const char *model, *head;
  int64_t neck, decode_head, auxiliary_head, total;
  double drop_path;
};
// The specification gives 4.250 M and 4.373 M for neck and Semantic FPN, 29.679 M and 31.497 M for
// UperNet, 0.629 M and 0.924 M for its auxiliary head.
constexpr Published kPublished[] = {
    {"sgformer_s", "semantic_fpn", 2'607'104, 1'643'158, 0, 26'283'243, 0.1},
    {"sgformer_m", "semantic_fpn", 2'607'104, 1'643'158, 0, 42'426'578, 0.2},
    {"sgformer_b", "semantic_fpn", 2'729'984, 1'643'158, 0, 81'554'435, 0.3},
    {"sgformer_s", "upernet", 0, 29'678'742, 628'886, 52'340'609, 0.3},
    {"sgformer_m", "upernet", 0, 29'678'742, 628'886, 68'483'944, 0.4},
    {"sgformer_b", "upernet", 0, 31'497'366, 923'798, 109'602'457, 0.6},
};

}  // namespace

TEST_CASE("segmentors against the literal reference, in training and at evaluation") {
  for (const char* head : {"semantic_fpn", "upernet"})
    for (const auto& [h, w] : {std::pair{64, 96}, {61, 45}, {33, 90}})
      for (const bool training : {true, false}) compare(narrow(head), h, w, training);
}

TEST_CASE("segmentors: any size gives logits of the size of the first map") {
  for (const char* head : {"semantic_fpn", "upernet"})
    for (const auto& [h, w] : {std::pair{1, 1}, {7, 250}}) compare(narrow(head), h, w, false);
}

TEST_CASE("segmentors: parameters by part, as the specification counts them") {
  for (const Published& p : kPublished) {
    CAPTURE(p.model);
    CAPTURE(p.head);
    const Segmentor model(find_segmentor_config(p.model, p.head, 150));
    CHECK(model.config().backbone.drop_path == p.drop_path);
    std::map<std::string, int64_t> parts;
    for (const std::string& name : model.parameters().names())
      parts[name.substr(0, name.find('.'))] += model.parameters().part(name).official.numel();
    CHECK(parts["neck"] == p.neck);
    CHECK(parts["decode_head"] == p.decode_head);
    CHECK(parts["auxiliary_head"] == p.auxiliary_head);
    CHECK(model.parameters().count() == p.total);
  }
}

TEST_CASE("segmentors: names of mmsegmentation's state dicts") {
  const Segmentor fpn(find_segmentor_config("sgformer_s", "semantic_fpn", 150));
  const Segmentor upernet(find_segmentor_config("sgformer_s", "upernet", 150));
  const auto has = [](const Segmentor& model, const std::string& name, const Shape& shape) {
    CAPTURE(name);
    REQUIRE(model.parameters().contains(name));
    CHECK(model.parameters().part(name).official == shape);
  };
  has(fpn, "backbone.block1.0.attn.q1.weight", {32, 64});
  has(fpn, "neck.lateral_convs.3.conv.weight", {256, 512, 1, 1});
  has(fpn, "neck.fpn_convs.0.conv.bias", {256});
  has(fpn, "decode_head.scale_heads.0.0.conv.weight", {128, 256, 3, 3});
  has(fpn, "decode_head.scale_heads.3.4.bn.weight", {128});
  has(fpn, "decode_head.conv_seg.weight", {150, 128, 1, 1});
  has(upernet, "decode_head.psp_modules.3.1.conv.weight", {512, 512, 1, 1});
  has(upernet, "decode_head.bottleneck.conv.weight", {512, 2560, 3, 3});
  has(upernet, "decode_head.lateral_convs.0.bn.bias", {512});
  has(upernet, "decode_head.fpn_bottleneck.conv.weight", {512, 2048, 3, 3});
  has(upernet, "auxiliary_head.convs.0.conv.weight", {256, 256, 3, 3});
  has(upernet, "auxiliary_head.conv_seg.bias", {150});
  std::set<std::string> buffers;
  for (const nn::Buffer& b : upernet.parameters().named_buffers()) buffers.insert(b.name);
  CHECK(buffers.size() == 2 * 13);  // of 4 pools, 3 laterals, 3 outputs, 2 bottlenecks, 1 auxiliary
  CHECK(buffers.contains("decode_head.psp_modules.0.1.bn.running_mean"));
  CHECK(buffers.contains("auxiliary_head.convs.0.bn.running_var"));
}

TEST_CASE("segmentors: initial values of their convolutions and statistics") {
  Segmentor fpn(find_segmentor_config("sgformer_s", "semantic_fpn", 150));
  Segmentor upernet(find_segmentor_config("sgformer_s", "upernet", 150));
  struct Moments {
    double mean = 0, std = 0, largest = 0, count = 0;
  };
  const auto moments = [](Segmentor& model, const std::string& name) {
    Moments m;
    const auto v = to_vector<double>(model.parameters().get(model.parameters().values(), name));
    m.count = double(v.size());
    for (const double x : v) m.mean += x / m.count;
    for (const double x : v) m.std += (x - m.mean) * (x - m.mean) / m.count;
    for (const double x : v) m.largest = std::max(m.largest, std::abs(x));
    m.std = std::sqrt(m.std);
    return m;
  };
  for (Segmentor* model : {&fpn, &upernet}) {
    model->parameters().allocate();
    model->parameters().initialize(5);
  }
  // Within five standard errors.
  const auto close = [](const Moments& m, double std) {
    CHECK(std::abs(m.mean) < 5 * std / std::sqrt(m.count));
    CHECK(std::abs(m.std / std - 1) < 5 / std::sqrt(2 * m.count));
  };
  close(moments(fpn, "decode_head.scale_heads.1.0.conv.weight"), std::sqrt(2.0 / (9 * 128)));
  close(moments(upernet, "decode_head.psp_modules.0.1.conv.weight"), std::sqrt(2.0 / 512));
  close(moments(upernet, "auxiliary_head.convs.0.conv.weight"), std::sqrt(2.0 / (9 * 256)));
  close(moments(upernet, "decode_head.conv_seg.weight"), 0.01);
  // Uniform: the standard deviation is the limit / sqrt(3), and no value is above it.
  const double lateral = std::sqrt(6.0 / (64 + 256)), output = std::sqrt(6.0 / (9 * 512));
  for (const auto& [name, limit] : {std::pair{"neck.lateral_convs.0.conv.weight", lateral},
                                    {"neck.fpn_convs.2.conv.weight", output}}) {
    const Moments m = moments(fpn, name);
    close(m, limit / std::sqrt(3.0));
    CHECK(m.largest <= limit);
    CHECK(m.largest > 0.99 * limit);
  }
  for (const char* name : {"neck.fpn_convs.2.conv.bias", "decode_head.conv_seg.bias",
                           "decode_head.scale_heads.0.0.bn.bias"})
    CHECK(moments(fpn, name).largest == 0);
  CHECK(moments(fpn, "decode_head.scale_heads.0.0.bn.weight").mean == 1);
  CHECK(moments(fpn, "decode_head.scale_heads.0.0.bn.weight").std == 0);
  for (const nn::Buffer& b : upernet.parameters().named_buffers())
    for (const float v : to_vector<float>(b.value))
      CHECK(v == (b.name.ends_with("running_var") ? 1 : 0));
}

TEST_CASE("segmentors: weight decay of the two recipes, learning rates and freezing by depth") {
  const auto group = [](const char* head, const GroupSettings& settings, const std::string& name,
                        const Shape& shape = {2}) {
    return group_rule(find_segmentor_config("sgformer_s", head, 150), settings)({name, shape});
  };
  for (const char* name :
       {"backbone.pos_embed", "backbone.norm2.weight", "backbone.block1.0.norm1.bias",
        "backbone.block1.0.attn.norm.weight", "backbone.patch_embed1.norm.weight"}) {
    CAPTURE(name);
    CHECK(group("upernet", {}, name).weight_decay_scale == 0);
    CHECK(group("semantic_fpn", {}, name).weight_decay_scale == 1);
  }
  for (const char* name :
       {"backbone.block1.0.mlp.fc1.bias", "backbone.patch_embed2.conv1.bn.weight",
        "decode_head.bottleneck.bn.weight", "decode_head.conv_seg.bias"}) {
    CAPTURE(name);
    CHECK(group("upernet", {}, name).weight_decay_scale == 1);
  }
  const GroupSettings settings{.layer_decay = 0.5, .frozen_stages = 1};
  CHECK(group("upernet", settings, "decode_head.conv_seg.bias").lr_scale == 1);
  CHECK(group("upernet", settings, "neck.norm1.weight").lr_scale == 1);
  CHECK(group("upernet", settings, "backbone.block4.0.mlp.fc1.weight").lr_scale == 0.5);
  CHECK(group("upernet", settings, "backbone.block1.0.mlp.fc1.weight").frozen);
  CHECK(group("upernet", settings, "backbone.block1.0.mlp.fc1.weight").weight_decay_scale == 0);
  CHECK_FALSE(group("upernet", settings, "backbone.block2.0.mlp.fc1.weight").frozen);
}

TEST_CASE("segmentors: a configuration survives JSON, and what does not fit is refused") {
  for (const char* head : {"semantic_fpn", "upernet"}) {
    const SegmentorConfig c = narrow(head);
    const nlohmann::json json = config_to_json(c);
    CHECK(config_to_json(segmentor_config_from_json(json)) == json);
    CHECK(json["head"] == head);
  }
  const nlohmann::json json = config_to_json(narrow("upernet"));
  const auto error = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json changed = json;
    value.is_null() ? void(changed.erase(key)) : void(changed[key] = value);
    return error_of(ExitCode::checkpoint, [&] { segmentor_config_from_json(changed); });
  };
  CHECK(contains(error("classes", nullptr), "classes"));
  CHECK(contains(error("classes", 256), "from 1 to 255, found 256"));
  CHECK(contains(error("classes", "five"), "whole number"));
  CHECK(contains(error("head", "deeplab"), "known: semantic_fpn, upernet"));
  CHECK(contains(error("channels", 0), "channels: expected from 1"));
  CHECK(contains(error("pool_scales", nlohmann::json::array()), "pool scales"));
  CHECK(contains(error("neck_channels", 3), "channels of the neck"));
  CHECK(contains(error("backbone", nlohmann::json::object()), "name"));
  CHECK(contains(error_of(ExitCode::usage, [] { find_segmentor_config("sgformer_s", "uper", 5); }),
                 "head 'uper' is unknown"));
}
