#include "sgformer/weight_copies.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>

#include "sgformer/classifier.h"
#include "sgformer/detect/config.h"
#include "sgformer/segment/segmentor.h"

namespace sg::sgformer {
namespace {

constexpr size_t kMaxCopies = 64;
using Names = std::set<std::string, std::less<>>;

// Models declare their tensors and allocate nothing.
void add_names(Names& to, const nn::ParameterStore& parameters) {
  to.insert(parameters.names().begin(), parameters.names().end());
  for (const nn::Buffer& b : parameters.named_buffers()) to.insert(b.name);
}

const Names& classifier_names() {
  static const Names names = [] {
    Names all;
    for (const std::string& model : config_names())
      add_names(all, Classifier(find_config(model)).parameters());
    return all;
  }();
  return names;
}

const Names& segmentor_names() {
  static const Names names = [] {
    Names all;
    for (const std::string& model : config_names())
      for (const std::string& head : head_names())
        add_names(all, Segmentor(find_segmentor_config(model, head, 1)).parameters());
    return all;
  }();
  return names;
}

const Names& detector_names() {
  static const Names names = [] {
    Names all;
    for (const std::string& model : config_names())
      add_names(all, Detector(find_detector_config(model, 1)).parameters());
    return all;
  }();
  return names;
}

// The names of the kind of model that a file holds, which its head says.
const Names& names_of_kind(const std::vector<std::string>& in_file) {
  const auto holds = [&](std::string_view head, const Names& known) {
    return std::ranges::any_of(in_file, [&](const std::string& name) {
      const size_t at = name.find(head);
      return at != name.npos && (at == 0 || name[at - 1] == '.') &&
             known.contains(std::string_view(name).substr(at));
    });
  };
  if (holds(kRpnHead, detector_names())) return detector_names();
  return holds(kDecodeHead, segmentor_names()) ? segmentor_names() : classifier_names();
}

// Programs that take maps of all stages count their norms from 0: norm0 to norm3.
void count_norms_from_1(WeightCopy& copy) {
  constexpr std::string_view kNorm = "backbone.norm";
  if (std::ranges::none_of(
          copy.names, [](const auto& item) { return item.first.starts_with("backbone.norm0."); }))
    return;
  for (auto& [official, spelt] : copy.names)
    if (official.starts_with(kNorm)) ++official.at(kNorm.size());
}

// Names of dictionaries and attributes in which programs keep weights, the usual first.
constexpr std::string_view kUsual[] = {
    "state_dict_ema", "model_ema", "ema_state_dict", "ema",       "state_dict", "model_state_dict",
    "model",          "net",       "network",        "module",    "backbone",   "encoder",
    "weights",        "params",    "model_state",    "classifier"};

std::vector<std::string_view> components(std::string_view prefix) {  // "a.b." -> a, b
  std::vector<std::string_view> result;
  for (size_t dot; (dot = prefix.find('.')) != prefix.npos; prefix.remove_prefix(dot + 1))
    result.push_back(prefix.substr(0, dot));
  return result;
}

std::string parent(std::string_view prefix) {  // "a.b." -> "a."; of "" too: ""
  if (!prefix.empty()) prefix.remove_suffix(1);
  return std::string(prefix.substr(0, prefix.rfind('.') + 1));
}

// "model_ema", "EMA", "swa_model"; not "exp_avg", a moment of Adam.
bool says_averaged(std::string_view component) {
  std::string word;
  bool found = false;
  const auto end_word = [&] {
    found |= word == "ema" || word == "swa" || word == "average" || word == "averaged";
    word.clear();
  };
  for (const char c : component)
    if (c == '_')
      end_word();
    else
      word += char(std::tolower(uint8_t(c)));
  end_word();
  return found;
}

// What torch.compile and FSDP put between the names of modules, anywhere, is no part of a name.
std::string without_wrappers(std::string name) {
  for (const std::string_view wrapper :
       {"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."})
    for (size_t at = 0; (at = name.find(wrapper, at)) != name.npos;)
      if (at == 0 || name[at - 1] == '.')
        name.erase(at, wrapper.size());
      else
        ++at;
  return name;
}

// How unusual a prefix is: components that are in no list, then the places of the others.
using Rank = std::pair<size_t, std::vector<size_t>>;
Rank rank_of(const WeightCopy& copy) {
  Rank rank;
  for (const std::string_view component : components(without_wrappers(copy.prefix))) {
    const auto at = std::ranges::find(kUsual, component);
    if (at == std::end(kUsual) && !says_averaged(component)) ++rank.first;
    rank.second.push_back(size_t(at - std::begin(kUsual)));
  }
  return rank;
}

std::string list(const std::vector<const WeightCopy*>& copies) {
  std::vector<std::string> names;
  for (const WeightCopy* copy : copies) names.push_back(describe_prefix(copy->prefix));
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

bool is_official_name(std::string_view name) {
  return classifier_names().contains(name) || segmentor_names().contains(name) ||
         detector_names().contains(name);
}

std::string describe_prefix(std::string_view prefix) {
  return prefix.empty() ? "bare names" : printable(fmt::format("'{}'", prefix));
}

std::vector<WeightCopy> weight_copies(std::vector<std::string> in_file, std::string_view file) {
  // PyTorch's batch norm counts its steps, for a kind of average that nobody here takes.
  std::erase_if(in_file, [](const auto& name) { return name.ends_with(".num_batches_tracked"); });
  std::vector<std::string> names;
  for (const std::string& name : in_file) names.push_back(without_wrappers(name));
  const Names& official_names = names_of_kind(names);
  std::map<std::string, std::string> all;  // and as the file spells them
  for (size_t i = 0; i < names.size(); ++i) all.emplace(names[i], in_file[i]);

  std::map<std::string, size_t> count;  // official names that follow a prefix
  for (const std::string& name : names)
    for (size_t at = 0; at < name.size(); at = std::min(name.find('.', at), name.size()) + 1)
      if (official_names.contains(std::string_view(name).substr(at))) {
        ++count[name.substr(0, at)];
        break;
      }
  size_t most = 0;
  for (const auto& [prefix, n] : count) most = std::max(most, n);
  // Something else in the file may have a layer of an official name: such a prefix has few.
  std::erase_if(count, [&](const auto& item) { return 2 * item.second < most; });
  if (count.size() > kMaxCopies)
    fail(ExitCode::checkpoint, "{}: holds {} sets of weights, expected at most {}", file,
         count.size(), kMaxCopies);

  std::vector<WeightCopy> copies;
  for (const auto& [prefix, n] : count) {
    WeightCopy copy;
    // An averaged model of torch.optim.swa_utils counts its updates beside its module.
    const std::string outside =
        prefix.ends_with("module.") ? prefix.substr(0, prefix.size() - 7) : "";
    copy.ema = prefix.ends_with("module.") && all.contains(outside + "n_averaged");
    for (const std::string_view component : components(prefix))
      copy.ema |= says_averaged(component);

    const auto belongs_to_another = [&](const std::string& name) {
      return std::ranges::any_of(count, [&](const auto& other) {
        return other.first.size() > prefix.size() && name.starts_with(other.first);
      });
    };
    for (size_t i = 0; i < names.size(); ++i)
      if (names[i].starts_with(prefix) && !belongs_to_another(names[i]))
        copy.names.emplace_back(names[i].substr(prefix.size()), in_file[i]);

    // A head may stand beside the backbone, not in it: "backbone.pos_embed" and "head.bias".
    std::vector<std::string> above;  // the nearest first, none of them another copy
    for (std::string next = parent(prefix), last = prefix; next != last && !count.contains(next);
         last = next, next = parent(next))
      above.push_back(next);
    for (const std::string& name : official_names) {
      if (above.empty() || all.contains(prefix + name)) continue;
      const auto beside = std::ranges::find_if(
          above, [&](const std::string& place) { return all.contains(place + name); });
      if (beside != above.end()) copy.names.emplace_back(name, all.at(*beside + name));
    }

    if (copy.names.empty()) continue;  // all of them are within another
    Names once;
    for (const auto& [name, spelt] : copy.names)
      if (!once.insert(name).second)
        fail(ExitCode::checkpoint, "{}: holds '{}' twice, the second time as '{}'", file, name,
             spelt);

    // As the file spells it, with what was taken off inside.
    const auto& [official, spelt] = copy.names.front();
    copy.prefix =
        spelt.ends_with(official) ? spelt.substr(0, spelt.size() - official.size()) : prefix;
    count_norms_from_1(copy);
    copies.push_back(std::move(copy));
  }
  return copies;
}

const WeightCopy& choose_copy(const std::vector<WeightCopy>& copies, std::optional<bool> ema,
                              std::string_view file) {
  if (copies.empty())
    fail(ExitCode::checkpoint,
         "{}: no tensor in it has a name of an SG-Former's; it is of another model", file);
  std::vector<const WeightCopy*> averaged, others;
  for (const WeightCopy& copy : copies) (copy.ema ? averaged : others).push_back(&copy);
  if (ema == true && averaged.empty())
    fail(ExitCode::checkpoint,
         "{}: holds no averaged (EMA) weights, only others ({}); leave out --ema", file,
         list(others));
  if (ema == false && others.empty())
    fail(ExitCode::checkpoint, "{}: holds averaged (EMA) weights alone ({}); leave out --no-ema",
         file, list(averaged));
  auto& wanted = ema.value_or(!averaged.empty()) ? averaged : others;
  std::ranges::stable_sort(wanted, {}, [](const WeightCopy* copy) { return rank_of(*copy); });
  if (wanted.size() > 1) {
    const Rank first = rank_of(*wanted[0]), second = rank_of(*wanted[1]);
    if (first == second || (first.first > 0 && first.first == second.first))
      fail(ExitCode::checkpoint,
           "{}: holds several sets of weights, and nothing says which is meant: {}; keep one in "
           "the file",
           file, list(wanted));
  }
  return *wanted[0];
}

}  // namespace sg::sgformer
