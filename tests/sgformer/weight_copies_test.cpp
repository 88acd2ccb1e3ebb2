#include "sgformer/weight_copies.h"

#include <algorithm>

#include "sgformer/classifier.h"
#include "sgformer/detect/config.h"
#include "sgformer/segment/segmentor.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;
using namespace sg::sgformer;

namespace {

using Strings = std::vector<std::string>;

const Strings& official() {
  static const Strings names = Classifier(find_config("sgformer_nano")).parameters().names();
  return names;
}

// All names of a model, each behind the prefix.
Strings behind(const std::string& prefix) {
  Strings names;
  for (const std::string& name : official()) names.push_back(prefix + name);
  return names;
}

Strings operator+(Strings a, const Strings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

WeightCopy chosen(const Strings& in_file, std::optional<bool> ema = {}) {
  return choose_copy(weight_copies(in_file, "w.pth"), ema, "w.pth");
}

// The official names of what is chosen, in order; empty where a name in the file is not its own.
Strings names_of(const WeightCopy& copy) {
  Strings names;
  for (const auto& [name, in_file] : copy.names) {
    if (!in_file.ends_with(name)) return {};
    names.push_back(name);
  }
  return names;
}

std::string refused(const Strings& in_file, std::optional<bool> ema = {}) {
  const std::string message = error_of(ExitCode::checkpoint, [&] { chosen(in_file, ema); });
  CHECK(message.starts_with("w.pth: "));
  return message;
}

}  // namespace

TEST_CASE("any prefix and combination of prefixes is taken off") {
  for (const char* prefix :
       {"", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.",
        "backbone.", "encoder.", "net.", "state_dict.", "state_dict.model.", "model.module.",
        "model_state_dict.", "network.", "state_dict.model._orig_mod.", "state_dict.net.backbone.",
        "student.", "state_dict.some.thing.of.their.own."}) {
    CAPTURE(prefix);
    const WeightCopy copy = chosen(behind(prefix));
    CHECK(copy.prefix == prefix);
    CHECK_FALSE(copy.ema);
    CHECK(names_of(copy) == official());
  }
}

TEST_CASE("averaged weights are told by their name, or by the count of their updates") {
  const Strings weights = behind("model.");
  for (const char* prefix : {"state_dict_ema.", "model_ema.", "ema_state_dict.", "ema.",
                             "model_ema.module.", "EMA.module.", "swa_model.", "net_ema.",
                             "averaged_model.", "state_dict_ema.module._orig_mod."}) {
    CAPTURE(prefix);
    const Strings both = weights + behind(prefix);
    CHECK(chosen(both).prefix == prefix);
    CHECK(chosen(both).ema);
    CHECK(names_of(chosen(both, true)) == official());
    CHECK(chosen(both, false).prefix == "model.");
    CHECK(names_of(chosen(both, false)) == official());
  }
  CHECK(chosen(Strings{"n_averaged"} + behind("module.")).ema);
  CHECK(names_of(chosen(Strings{"model_ema.n_averaged"} + behind("model_ema.module."))) ==
        official());
  CHECK_FALSE(chosen(behind("") + behind("exp_avg.")).ema);  // a moment of Adam
  // Averaged weights within those of a Lightning module.
  const Strings lightning = behind("state_dict.model.") + behind("state_dict.ema_model.module.");
  CHECK(chosen(lightning).prefix == "state_dict.ema_model.module.");
  CHECK(chosen(lightning, false).prefix == "state_dict.model.");

  CHECK(contains(refused(weights, true),
                 "holds no averaged (EMA) weights, only others ('model.'); leave out --ema"));
  CHECK(contains(refused(behind("ema."), false),
                 "holds averaged (EMA) weights alone ('ema.'); leave out --no-ema"));
}

TEST_CASE("of several sets the usual one is taken, and of unusual ones none") {
  CHECK(chosen(behind("state_dict.") + behind("model.")).prefix == "state_dict.");
  CHECK(chosen(behind("model.") + behind("teacher.")).prefix == "model.");
  CHECK(chosen(behind("") + behind("adam.m.") + behind("adam.v.")).prefix == "");
  CHECK(names_of(chosen(behind("") + behind("adam.m."))) == official());
  CHECK(contains(refused(behind("student.") + behind("teacher.")), "'student.', 'teacher.'"));
}

TEST_CASE("wrappers between the names of modules are taken off") {
  Strings names;
  for (std::string name : official()) {
    if (name.starts_with("block2.0.")) name.insert(9, "_orig_mod.");
    if (name.starts_with("block2.1.")) name.insert(9, "_fsdp_wrapped_module.");
    if (name.starts_with("block1.1.")) name.insert(9, "_checkpoint_wrapped_module.");
    names.push_back("state_dict." + name);
  }
  const WeightCopy copy = chosen(names);
  CHECK(copy.prefix == "state_dict.");
  REQUIRE(copy.names.size() == official().size());
  for (size_t i = 0; i < official().size(); ++i) {
    CHECK(copy.names[i].first == official()[i]);
    CHECK(copy.names[i].second == names[i]);
  }
}

TEST_CASE("a head may stand beside the backbone") {
  Strings names;
  for (const std::string& name : official())
    names.push_back("state_dict." + (name.starts_with("head.") ? name : "backbone." + name));
  Strings found = names_of(chosen(names)), expected = official();
  std::ranges::sort(found), std::ranges::sort(expected);
  CHECK(found == expected);
  names.push_back("head.bias");  // farther away
  CHECK(chosen(names).names.size() == official().size());
  CHECK(chosen({".x.head.bias", "..y", "."}).prefix == ".x.");
  // The weights that are not averaged lend none to those that are.
  const WeightCopy averaged = chosen(
      Strings{"ema.pos_embed", "ema.norm1.weight"} + Strings{"pos_embed", "head.bias"}, true);
  CHECK(names_of(averaged) == Strings{"pos_embed", "norm1.weight"});
}

TEST_CASE("what is no SG-Former, or too much of one, is refused") {
  CHECK(contains(refused({"layer1.0.conv1.weight", "fc.weight"}), "of another model"));
  CHECK(contains(refused({}), "of another model"));
  CHECK(contains(refused({"_orig_mod.head.bias", "head.bias"}), "holds 'head.bias' twice"));
  Strings many;
  for (int i = 0; i < 100'000; ++i) many.push_back(std::to_string(i) + ".head.bias");
  CHECK(contains(refused(many), "holds 100000 sets of weights"));
}

TEST_CASE("segmentors have names of their own, running statistics among them") {
  const Segmentor model(find_segmentor_config("sgformer_nano", "upernet", 2));
  Strings official = model.parameters().names();
  for (const nn::Buffer& b : model.parameters().named_buffers()) official.push_back(b.name);
  for (const std::string& name : official) {
    CAPTURE(name);
    CHECK(is_official_name(name));
  }
  CHECK_FALSE(is_official_name("decode_head.bottleneck.bn.num_batches_tracked"));
  std::ranges::sort(official);
  for (const std::string prefix :
       {"", "module.", "state_dict.", "state_dict_ema.module.", "model."}) {
    CAPTURE(prefix);
    Strings in_file;
    for (const std::string& name : official) in_file.push_back(prefix + name);
    in_file.push_back(prefix + "decode_head.bottleneck.bn.num_batches_tracked");
    const WeightCopy copy = chosen(in_file);
    CHECK(copy.prefix == prefix);
    CHECK(copy.ema == prefix.starts_with("state_dict_ema"));
    Strings found = names_of(copy);
    std::ranges::sort(found);
    CHECK(found == official);
  }
  // Without a head the rest is the backbone of a classifier, whatever else is there.
  Strings backbone{"neck.lateral_convs.0.conv.bias", "bbox_head.retina_cls.bias"};
  for (const std::string& name : official)
    if (name.starts_with("backbone.")) backbone.push_back(name);
  const WeightCopy copy = chosen(backbone);
  CHECK(copy.prefix == "backbone.");
  CHECK(copy.names.size() == backbone.size() - 2);
}

TEST_CASE("detectors have names of their own") {
  const Detector model(find_detector_config("sgformer_nano", 2));
  Strings official = model.parameters().names();
  std::ranges::sort(official);
  for (const std::string prefix : {"", "state_dict.", "ema.module."}) {
    CAPTURE(prefix);
    Strings in_file;
    for (const std::string& name : official) in_file.push_back(prefix + name);
    const WeightCopy copy = chosen(in_file);
    CHECK(copy.prefix == prefix);
    Strings found = names_of(copy);
    std::ranges::sort(found);
    CHECK(found == official);
  }
}
