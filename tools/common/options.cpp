#include "tools/common/options.h"

#include <algorithm>
#include <charconv>

#include "io/file.h"
#include "io/json.h"

namespace sg::tools {
namespace {

// The value of a flag before anything else is parsed: it decides the defaults of the others.
std::string peek(int argc, char** argv, const std::string& flag) {
  std::string value;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == flag && i + 1 < argc) value = argv[i + 1];
    if (arg.starts_with(flag + "=")) value = arg.substr(flag.size() + 1);
  }
  return value;
}

template <class V>
void add_option(CLI::App& app, const train::OptionInfo& info, V& value) {
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<V, bool>) {
    option = app.add_flag(info.flags, value, info.help);
  } else {
    option = app.add_option(info.flags, value, info.help);
    if constexpr (std::is_arithmetic_v<V>) option->capture_default_str();
    if constexpr (std::is_same_v<V, train::Pair> || std::is_same_v<V, train::Triple>)
      option->default_str(fmt::format("{}", fmt::join(value, " ")));
    if constexpr (std::is_same_v<V, std::string>)
      if (!value.empty()) option->default_str(value);
  }
  // What a person adds to a script's command line wins.
  option->group(info.group)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

}  // namespace

void add_options(CLI::App& app, train::Options& options,
                 const std::vector<std::string_view>& names) {
  size_t added = 0;
  train::each_option(options, [&](const train::OptionInfo& info, auto& value) {
    if (std::ranges::find(names, info.name()) == names.end()) return;
    add_option(app, info, value);
    ++added;
  });
  check(added == names.size(), "options: {} of {} names are in the table", added, names.size());
}

void parse(CLI::App& app, const train::Options& options, int argc, char** argv) {
  parse(app, argc, argv);
  train::check_ranges(options);
}

train::Options parse_train_options(CLI::App& app, int argc, char** argv) {
  std::string config = peek(argc, argv, "--config"), model = peek(argc, argv, "--model");
  nlohmann::json file = nlohmann::json::object();
  if (!config.empty()) {
    file = parse_json(read_file(config, ExitCode::usage), config, ExitCode::usage);
    if (model.empty() && file.is_object() && file.contains("model") && file["model"].is_string())
      model = file["model"].get<std::string>();
  }
  train::Options options = train::default_options(model.empty() ? train::Options().model : model);
  train::apply_json(options, file, config);

  app.add_option("--config", config, "options from a file, such as args.json; flags win over it")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  train::each_option(
      options, [&](const train::OptionInfo& info, auto& value) { add_option(app, info, value); });
  parse(app, argc, argv);
  return options;
}

void add_image_size(CLI::App& app, std::string& text) {
  app.add_option("--img-size", text, "pixels, N or HxW; default: the model's own")->group("Model");
}

ImageSize parse_image_size(const std::string& text, int64_t side) {
  const auto number = [&](std::string_view s) {
    train::Options of_side;
    const auto [end, ec] =
        std::from_chars(s.data(), s.data() + s.size(), of_side.img_size.emplace());
    if (ec != std::errc() || end != s.data() + s.size())
      fail(ExitCode::usage, "--img-size: expected N or HxW, found '{}'", text);
    train::check_ranges(of_side);
    return int(*of_side.img_size);  // at most 8192
  };
  if (text.empty()) return {int(side), int(side)};
  const size_t x = text.find('x');
  const int h = number(std::string_view(text).substr(0, x));
  return {h, x == std::string::npos ? h : number(std::string_view(text).substr(x + 1))};
}

}  // namespace sg::tools
