// Segmentors from files: our checkpoints, weights alone, mmsegmentation's, and those of
// classifiers.
#include <doctest/doctest.h>

#include <map>

#include "infer/model_file.h"
#include "io/checkpoint.h"
#include "io/pth_write.h"
#include "nn/state.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::sgformer;
using test::contains, test::error_of;

namespace {

std::unique_ptr<Segmentor> nano(const char* head, int64_t classes = 4, uint64_t seed = 1) {
  auto model = std::make_unique<Segmentor>(find_segmentor_config("sgformer_nano", head, classes));
  model->parameters().allocate();
  model->parameters().initialize(seed);
  for (const nn::Buffer& b : model->parameters().named_buffers())
    Tensor(b.value).fill_(double(seed) + double(b.name.size()) / 64);
  return model;
}

void check_equal(const nn::ParameterStore& found, const nn::ParameterStore& expected,
                 const std::string& prefix = "") {
  std::map<std::string, Tensor> tensors;
  for (auto& [name, tensor] : nn::state_of(found)) tensors[name] = tensor;
  for (const auto& [name, tensor] : nn::state_of(expected)) {
    CAPTURE(name);
    REQUIRE(tensors.contains(prefix + name));
    CHECK(to_vector<float>(tensors[prefix + name]) == to_vector<float>(tensor));
  }
}

// What mmcv saves, in the stream form of torch.save: meta with names of classes, and state_dict.
std::string mmcv_checkpoint(const std::vector<NamedTensor>& tensors,
                            const std::vector<std::string>& classes) {
  const auto raw = [](auto value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const auto text = [&](const std::string& s) { return "X" + raw(uint32_t(s.size())) + s; };
  const auto integer = [&](int64_t v) { return "J" + raw(int32_t(v)); };
  std::string names, state, keys, storages;
  for (const std::string& name : classes) names += text(name);
  for (const auto& [name, tensor] : tensors) {
    std::string sizes, strides;
    int64_t stride = tensor.numel();
    for (int i = 0; i < tensor.dims(); ++i) {
      stride /= tensor.dim(i);
      sizes += integer(tensor.dim(i)), strides += integer(stride);
    }
    state += text(name) + "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") +
             "ctorch\nFloatStorage\n" + text(name) + text("cpu") + integer(tensor.numel()) + "tQ" +
             integer(0) + "(" + sizes + "t(" + strides + "t\x89}tRs";
    keys += text(name);
    storages +=
        raw(tensor.numel()) + std::string(static_cast<const char*>(tensor.raw()), tensor.bytes());
  }
  const std::string begin = "\x80\x02";
  return std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15) + begin +
         "M\xe9\x03." + begin + "}." + begin + "}" + text("meta") + "}" + text("CLASSES") + "(" +
         names + "tss" + text("state_dict") + "}" + state + "s." + begin + "](" + keys + "e." +
         storages;
}

const infer::ModelFileRequest kNano{.model = "sgformer_nano"};

}  // namespace

TEST_CASE("segmentors: a checkpoint has all, and averages go with its running statistics") {
  const test::TemporaryFolder folder;
  for (const char* head : {"semantic_fpn", "upernet"}) {
    const auto model = nano(head), averaged = nano(head, 4, 2);
    Checkpoint c{.tensors = nn::state_of(model->parameters()),
                 .state = {{"step", 3},
                           {"task", "segmentation"},
                           {"model", config_to_json(model->config())},
                           {"args", {{"std", {0.5, 0.25, 0.125}}}},
                           {"classes", {"sky", "road", "tree", "car"}}}};
    const nn::ParameterStore& averages = averaged->parameters();
    for (const std::string& name : averages.names())
      c.tensors.emplace_back(std::string(kEma) + name, averages.get(averages.values(), name));
    save_checkpoint(folder / "run.safetensors", c);

    CHECK(infer::task_of(folder / "run.safetensors") == infer::kSegmentation);
    const auto plain = infer::load_segmentor(folder / "run.safetensors", {.ema = false});
    CHECK(config_to_json(plain.model->config()) == config_to_json(model->config()));
    check_equal(plain.model->parameters(), model->parameters());
    CHECK(plain.class_names == data::ClassNames{"sky", "road", "tree", "car"});
    CHECK(plain.preprocessing.stats.std[1] == 0.25);
    CHECK_FALSE(plain.ema);

    const auto ema = infer::load_segmentor(folder / "run.safetensors");
    CHECK(ema.ema);
    const nn::ParameterStore& found = ema.model->parameters();
    for (const std::string& name : found.names())
      CHECK(to_vector<float>(found.get(found.values(), name)) ==
            to_vector<float>(averages.get(averages.values(), name)));
    for (const nn::Buffer& b : found.named_buffers())
      CHECK(to_vector<float>(b.value)[0] == float(1 + double(b.name.size()) / 64));
  }
}

TEST_CASE("segmentors: of weights alone the names say which head, and shapes how wide it is") {
  const test::TemporaryFolder folder;
  for (const char* head : {"semantic_fpn", "upernet"}) {
    SegmentorConfig config = find_segmentor_config("sgformer_nano", head, 7);
    config.channels = 16;
    if (config.neck_channels) config.neck_channels = 24;
    if (config.auxiliary_channels) config.auxiliary_channels = 0;  // as where it was left out
    Segmentor model(config);
    model.parameters().allocate();
    model.parameters().initialize(3);
    write_safetensors(folder / "a.safetensors", nn::state_of(model.parameters()), {});
    CHECK(infer::task_of(folder / "a.safetensors") == infer::kSegmentation);
    CHECK(contains(
        error_of(ExitCode::usage, [&] { infer::load_segmentor(folder / "a.safetensors"); }),
        "--model"));
    const auto file = infer::load_segmentor(folder / "a.safetensors", kNano);
    CHECK(config_to_json(file.model->config()) == config_to_json(config));
    check_equal(file.model->parameters(), model.parameters());
  }
}

TEST_CASE("segmentors: options win over those of the file, and the classes have to fit") {
  const test::TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors", nn::state_of(nano("upernet")->parameters()), {});
  infer::ModelFileRequest request = kNano;
  request.change = [](Config c) {
    CHECK(c.classes == 4);
    c.balance_significance = true;
    return c;
  };
  const auto file = infer::load_segmentor(folder / "a.safetensors", request);
  CHECK(file.model->config().backbone.balance_significance);
  CHECK(file.model->config().classes == 4);
  request.change = [](Config c) {
    c.classes = 7;
    return c;
  };
  CHECK(contains(error_of(ExitCode::checkpoint,
                          [&] { infer::load_segmentor(folder / "a.safetensors", request); }),
                 "its head has 4 classes, the model has 7"));
}

TEST_CASE("segmentors: files of mmsegmentation, whatever wraps the names") {
  const test::TemporaryFolder folder;
  const auto model = nano("upernet");
  for (const std::string prefix : {"", "state_dict.", "state_dict.module.", "module."}) {
    CAPTURE(prefix);
    for (const bool from_0 : {false, true}) {
      CAPTURE(from_0);
      std::vector<NamedTensor> tensors;
      for (auto [name, tensor] : nn::state_of(model->parameters())) {
        if (from_0 && name.starts_with("backbone.norm"))
          --name[std::string("backbone.norm").size()];
        tensors.emplace_back(prefix + name, tensor);
        if (name.ends_with("running_mean"))
          tensors.emplace_back(prefix + name.substr(0, name.rfind('.')) + ".num_batches_tracked",
                               full({1}, 9));
      }
      write_safetensors(folder / "a.safetensors", tensors, {});
      const auto file = infer::load_segmentor(folder / "a.safetensors", kNano);
      check_equal(file.model->parameters(), model->parameters());
      const std::string bytes = [&] {
        std::string all;
        write_pth([&](const void* data, size_t n) { all.append((const char*)data, n); }, tensors);
        return all;
      }();
      test::put(folder / "a.pth", bytes);
      check_equal(infer::load_segmentor(folder / "a.pth", kNano).model->parameters(),
                  model->parameters());
    }
  }
}

TEST_CASE("segmentors: mmsegmentation's names of classes") {
  const test::TemporaryFolder folder;
  const auto model = nano("semantic_fpn", 3);
  const data::ClassNames names{"sky", "road", "tree"};
  const std::vector<NamedTensor> tensors = nn::state_of(model->parameters());
  test::put(folder / "a.pth", mmcv_checkpoint(tensors, names));
  const auto file = infer::load_segmentor(folder / "a.pth", kNano);
  CHECK(file.class_names == names);
  check_equal(file.model->parameters(), model->parameters());
  // Names of other classes than those of its head say nothing.
  test::put(folder / "b.pth", mmcv_checkpoint(tensors, {"sky", "road"}));
  CHECK(infer::load_segmentor(folder / "b.pth", kNano).class_names.empty());
}

TEST_CASE("segmentors: weights that do not fit are listed") {
  const test::TemporaryFolder folder;
  const auto model = nano("upernet");
  std::vector<NamedTensor> tensors = nn::state_of(model->parameters());
  for (auto& [name, tensor] : tensors) {
    if (name == "decode_head.lateral_convs.1.bn.running_var") name = "decode_head.extra";
    if (name == "decode_head.bottleneck.conv.weight") tensor = zeros({48, 2, 3, 3});
  }
  write_safetensors(folder / "a.safetensors", tensors, {});
  const std::string message = error_of(
      ExitCode::checkpoint, [&] { infer::load_segmentor(folder / "a.safetensors", kNano); });
  for (const char* part : {"the weights do not fit sgformer_nano with upernet", "missing",
                           "decode_head.lateral_convs.1.bn.running_var", "not in the model",
                           "decode_head.extra", "of another shape", "(48, 2, 3, 3)"})
    CHECK_MESSAGE(contains(message, part), message);
}

TEST_CASE("segmentors start from the backbone of a classifier, whose head is left out") {
  const test::TemporaryFolder folder;
  Classifier classifier(find_config("sgformer_nano"));
  classifier.parameters().allocate();
  classifier.parameters().initialize(7);
  write_safetensors(folder / "c.safetensors", nn::state_of(classifier.parameters()), {});
  CHECK(infer::task_of(folder / "c.safetensors") == infer::kClassification);
  for (const char* head : {"semantic_fpn", "upernet"}) {
    const auto model = nano(head), before = nano(head);
    const std::string said =
        infer::load_initial_weights(*model, folder / "c.safetensors", {}, false);
    CHECK_MESSAGE(contains(said, "of a classifier: the backbone's alone"), said);
    for (const auto& [name, tensor] : nn::state_of(model->parameters())) {
      CAPTURE(name);
      const bool of_backbone = name.starts_with("backbone.");
      std::vector<float> expected;
      if (of_backbone) {
        const nn::ParameterStore& p = classifier.parameters();
        expected = to_vector<float>(p.get(p.values(), name.substr(9)));
      } else {
        for (const auto& [other, value] : nn::state_of(before->parameters()))
          if (other == name) expected = to_vector<float>(value);
      }
      CHECK(to_vector<float>(tensor) == expected);
    }
  }
  // A classifier of another size.
  Segmentor wide(find_segmentor_config("sgformer_s", "semantic_fpn", 4));
  wide.parameters().allocate();
  const std::string message = error_of(ExitCode::checkpoint, [&] {
    infer::load_initial_weights(wide, folder / "c.safetensors", {}, false);
  });
  CHECK(contains(message, "do not fit sgformer_s"));
  CHECK(contains(message, "backbone.pos_embed"));
}

TEST_CASE("segmentors start from others, with another number of classes if the head is reset") {
  const test::TemporaryFolder folder;
  const auto from = nano("upernet", 6, 5);
  write_safetensors(folder / "a.safetensors", nn::state_of(from->parameters()), {});
  const auto model = nano("upernet"), before = nano("upernet");
  CHECK(contains(
      error_of(ExitCode::checkpoint,
               [&] { infer::load_initial_weights(*model, folder / "a.safetensors", {}, false); }),
      "its head has 6 classes, the model has 4"));
  infer::load_initial_weights(*model, folder / "a.safetensors", {}, true);
  for (const auto& [name, tensor] : nn::state_of(model->parameters())) {
    CAPTURE(name);
    const bool kept = contains(name, "conv_seg");
    for (const auto& [other, value] : nn::state_of((kept ? before : from)->parameters()))
      if (other == name) CHECK(to_vector<float>(tensor) == to_vector<float>(value));
  }
  const auto other_head = nano("semantic_fpn");
  CHECK(contains(error_of(ExitCode::checkpoint,
                          [&] {
                            infer::load_initial_weights(*other_head, folder / "a.safetensors", {},
                                                        true);
                          }),
                 "do not fit sgformer_nano with semantic_fpn"));
}

TEST_CASE("a classifier is no segmentor, nor the other way round") {
  const test::TemporaryFolder folder;
  Classifier classifier(find_config("sgformer_nano"));
  classifier.parameters().allocate();
  write_safetensors(folder / "c.safetensors", nn::state_of(classifier.parameters()), {});
  const auto segmentor = nano("semantic_fpn");
  write_safetensors(folder / "s.safetensors", nn::state_of(segmentor->parameters()), {});
  const auto refused = [](auto&& f) { return error_of(ExitCode::checkpoint, f); };
  CHECK(contains(refused([&] { infer::load_segmentor(folder / "c.safetensors", kNano); }),
                 "expected the weights of a segmentor, found those of a classifier"));
  const std::string other = "expected the weights of a classifier, found those of a segmentor";
  CHECK(contains(refused([&] { infer::load_model(folder / "s.safetensors", kNano); }), other));
  CHECK(contains(refused([&] {
                   infer::load_initial_weights(classifier, folder / "s.safetensors", {}, false);
                 }),
                 other));
}
