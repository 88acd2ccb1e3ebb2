#include "tools/common/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/text.h"
#include "dist/launch.h"
#include "dist/launcher.h"
#include "io/file.h"
#include "io/yaml.h"
#include "setups/setups.h"
#include "tools/common/timm.h"

namespace sg::tools {
namespace {

// What decides the defaults of all others: read ahead, by the parser that reads all.
struct Defaults {
  std::string config, task, model, head;
  bool model_ema = false;
};

Defaults read_ahead(const std::vector<std::string>& args) {
  Defaults d;
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  for (CLI::Option* option :
       {app.add_option("-c,--config", d.config), app.add_option("--task", d.task),
        app.add_option("--model", d.model), app.add_option("--head", d.head)})
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_flag("--model-ema", d.model_ema);
  try {
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::ParseError&) {
    // The parser of all flags finds the same, and says it.
  }
  return d;
}

// The args.json of a run with --nproc-per-node may be given under torchrun, mpirun or srun, which
// then start the processes.
void leave_to_launcher(nlohmann::json& file) {
  if (!file.is_object() || dist::is_launched()) return;
  for (const std::string key : {"nproc_per_node", "nproc-per-node", "max_restarts", "max-restarts"})
    if (file.contains(key) && dist::launch_of_environment().ranks > 1) file.erase(key);
}

std::string lower_case(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  return text;
}

// What a value is, for --help and for errors, and how it is read from what was typed.
template <class V>
struct Kind;
template <>
struct Kind<std::string> {
  static constexpr const char* kType = "TEXT";
};
template <>
struct Kind<int64_t> {
  static constexpr const char *kType = "INT", *kExpected = "a whole number";
  static std::optional<int64_t> parse(const std::string& text) { return parse_integer(text); }
};
template <>
struct Kind<double> {
  static constexpr const char *kType = "FLOAT", *kExpected = "a number";
  static std::optional<double> parse(const std::string& text) { return parse_number(text); }
};
template <>
struct Kind<ImageSize> {
  static constexpr const char *kType = "SIZE", *kExpected = "N, HEIGHT WIDTH or HxW, each";
  static std::optional<ImageSize> parse(const std::string& text) { return parse_image_size(text); }
};

template <class V>
V parse_value(const train::OptionInfo& info, const std::string& text) {
  const auto value = Kind<V>::parse(text);
  if (!value)
    fail(ExitCode::usage, "--{}: expected {} {}, found '{}'", info.name(), Kind<V>::kExpected,
         train::range_of(info), text);
  if constexpr (std::is_same_v<V, ImageSize>)
    train::check_range(info, value->height), train::check_range(info, value->width);
  else
    train::check_range(info, double(*value));
  return *value;
}

// Our own conversions, since those of CLI11 take 010 for 8 and do not say what is allowed.
void read(const train::OptionInfo& info, const CLI::results_t& typed, std::string& value) {
  value = info.name() == "model" ? lower_case(typed[0]) : typed[0];
  if (value.empty() && info.name() == "nproc-per-node")  // else one process would train unasked
    fail(ExitCode::usage,
         "--nproc-per-node: expected a number of processes, or gpu, found nothing");
}
template <class V>
void read(const train::OptionInfo& info, const CLI::results_t& typed, V& value) {
  value = parse_value<V>(info, typed[0]);
}
template <size_t N>
void read(const train::OptionInfo& info, const CLI::results_t& typed,
          std::array<double, N>& value) {
  if (typed.size() != N)
    fail(ExitCode::usage, "--{}: expected {} numbers, found '{}'", info.name(), N,
         fmt::join(typed, " "));
  for (size_t i = 0; i < N; ++i) value[i] = parse_value<double>(info, typed[i]);
}
template <class V>
void read(const train::OptionInfo& info, const CLI::results_t& typed, std::optional<V>& value) {
  V given{};
  read(info, typed, given);
  value = given;
}

// "FLOAT FLOAT", and the default where there is one.
template <class V>
void describe(CLI::Option& option, const V& value) {
  option.type_name(Kind<V>::kType);
  if constexpr (std::is_same_v<V, std::string>) {
    if (!value.empty()) option.default_str(value);
  } else {
    option.default_str(fmt::format("{}", value));
  }
}
template <class V>
void describe(CLI::Option& option, const std::optional<V>&) {
  option.type_name(Kind<V>::kType);
}
template <size_t N>
void describe(CLI::Option& option, const std::optional<std::array<double, N>>&) {
  option.type_name("FLOAT")->expected(int(N));
}
template <size_t N>
void describe(CLI::Option& option, const std::array<double, N>& value) {
  option.type_name("FLOAT")->expected(int(N))->default_str(
      fmt::format("{}", fmt::join(value, " ")));
}

template <class V>
CLI::Option* add(CLI::App& app, const train::OptionInfo& info, V& value) {
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<V, bool>) {
    option = app.add_option(
        info.flags,
        [info, &value](const CLI::results_t& typed) {
          if (typed[0] != "true" && typed[0] != "false")
            fail(ExitCode::usage, "--{}: expected no value, true or false, found '{}'", info.name(),
                 typed[0]);
          value = typed[0] == "true";
          return true;
        },
        info.help);
    option->expected(0);
  } else {
    option = app.add_option(
        info.flags,
        [info, &value](const CLI::results_t& typed) {
          read(info, typed, value);
          return true;
        },
        info.help);
    describe(*option, value);
  }
  // What a person adds to a script's command line wins.
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  if (*info.group) option->group(info.group);
  return option;
}

}  // namespace

void add_options(CLI::App& app, train::Options& options,
                 const std::vector<std::string_view>& names) {
  size_t added = 0;
  train::each_option(options, [&](const train::OptionInfo& info, auto& value) {
    if (std::ranges::find(names, info.name()) == names.end()) return;
    add(app, info, value);
    ++added;
  });
  check(added == names.size(), "options: {} of {} names are in the table", added, names.size());
}

CLI::Option* add_option(CLI::App& app, const train::OptionInfo& info, int64_t& value) {
  return add(app, info, value);
}
CLI::Option* add_option(CLI::App& app, const train::OptionInfo& info, std::string& value) {
  return add(app, info, value);
}

train::Options parse_train_options(CLI::App& app, int argc, char** argv) {
  auto [config, task, model, head, model_ema] = read_ahead(arguments(argc, argv));
  model = lower_case(model);
  nlohmann::json file = nlohmann::json::object();
  if (!config.empty()) {
    file = parse_config(read_file(config, ExitCode::usage), config, ExitCode::usage);
    if (file.is_object() && file.contains("model") && file["model"].is_string())
      file["model"] = lower_case(file["model"].get<std::string>());
    for (auto [key, value] : {std::pair("task", &task), {"model", &model}, {"head", &head}})
      if (file.is_object() && value->empty() && file.contains(key) && file[key].is_string())
        *value = file[key].get<std::string>();
  }
  if (model_ema && file.is_object())  // it wins over a false, which says --model-ema-decay 0
    file.erase("model_ema"), file.erase("model-ema");
  leave_to_launcher(file);
  const std::vector<GivenTimmFlag> of_timm = take_timm_keys(file, config);
  setups::Choice choice{.head = head};
  if (!task.empty()) choice.task = task;
  if (!model.empty()) choice.model = model;
  train::Options options = setups::default_options(choice);
  train::apply_json(options, file, config);

  app.add_option("-c,--config", config,
                 "options from a file, YAML or JSON, such as args.json; flags win over it")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  train::each_option(options,
                     [&](const train::OptionInfo& info, auto& value) { add(app, info, value); });
  add_timm_flags(app);
  parse(app, argc, argv);
  if (app.count("--model-ema") && options.model_ema_decay == 0.0)
    fail(ExitCode::usage,
         "--model-ema: a --model-ema-decay of 0, given or of the recipe, contradicts it");
  explain_timm_flags(app, of_timm, options.device, options.dtype);
  return options;
}

}  // namespace sg::tools
